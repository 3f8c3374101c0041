"""Rules over claims: a table of rules and claims, the mistakes, the words; and any garbage. Pure."""

from __future__ import annotations

import doctest
import re
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from app.bff import authorization
from app.bff.authorization import Rule
from app.bff.errors import UsageError

NESTED = {"realm_access": {"roles": ["editor"]}, "org": {"id": 7, "unit": {"name": "east", "lead": True}}}
URL = "https://example.com/roles"

MET = [
    # a claim that is text
    ({"groups": "admins"}, {"groups": "admins"}),
    ({"groups": ["admins", "ops"]}, {"groups": "ops"}),
    ({"groups": "Domain Admins"}, {"groups": "Domain Admins"}),
    ({"name": "Zoë"}, {"name": "Zoë"}),
    # lists
    ({"groups": "admins"}, {"groups": ["staff", "admins"]}),
    ({"groups": ["admins", "ops"]}, {"groups": ["staff", "ops"]}),
    ({"groups": ("admins",)}, {"groups": ("admins",)}),
    ({"groups": {"admins"}}, {"groups": ["admins"]}),
    ({"groups": "admins"}, {"groups": [None, {"name": "x"}, ["x"], 1, "admins"]}),
    ({"levels": 3}, {"levels": [1, 2, 3]}),
    # text with spaces in it, where a standard says that these separate
    ({"scope": "orders:write"}, {"scope": "openid orders:write profile"}),
    ({"scope": ["a", "openid"]}, {"scope": "openid"}),
    ({"scp": "Mail.Read"}, {"scp": "User.Read Mail.Read"}),
    ({"token.scope": "read"}, {"token": {"scope": "write read"}}),
    ({"scope": "read"}, {"scope": ["write", "read"]}),
    # booleans and numbers
    ({"email_verified": True}, {"email_verified": True}),
    ({"blocked": False}, {"blocked": False}),
    ({"email_verified": [True, "true"]}, {"email_verified": "true"}),
    ({"level": 3}, {"level": 3}),
    ({"level": 3}, {"level": 3.0}),
    ({"level": 0.5}, {"level": 0.5}),
    ({"level": 10**400}, {"level": 10**400}),
    ({"level": [1, "1"]}, {"level": "1"}),
    # globs
    ({"email": "*@example.com"}, {"email": "alice@example.com"}),
    ({"email": "*"}, {"email": "x"}),
    ({"groups": "team-*"}, {"groups": ["staff", "team-east"]}),
    ({"groups": "team-*-lead"}, {"groups": "team-north-east-lead"}),
    ({"groups": "*a*b*"}, {"groups": "xxaxxbxx"}),
    ({"groups": "ab*ba"}, {"groups": "abba"}),
    ({"groups": "a*"}, {"groups": "a*"}),
    ({"groups": "**"}, {"groups": "x"}),
    ({"groups": "[ab]?*"}, {"groups": "[ab]?c"}),
    ({"scope": "orders:*"}, {"scope": "openid orders:read"}),
    # names
    ({"realm_access.roles": "editor"}, NESTED),
    ({"org.unit.lead": True}, NESTED),
    ({"org.id": 7}, NESTED),
    ({URL: "admin"}, {URL: ["admin"]}),
    ({f"{URL}.app": "admin"}, {URL: {"app": "admin"}}),
    ({"access.my.client.roles": "x"}, {"access": {"my.client": {"roles": ["x"]}}}),
    ({"a.b": "exact"}, {"a.b": "exact", "a": {"b": "nested"}}),
    ({"a.b.c": "x"}, {"a.b": "text", "a": {"b": {"c": "x"}}}),
    # several claims
    ({"groups": "admins", "email_verified": True}, {"groups": ["admins"], "email_verified": True}),
    ({"realm_access.roles": "editor", "org.id": [7, 8]}, NESTED),
]

UNMET = [
    # missing, null, empty
    ({"groups": "admins"}, {}),
    ({"groups": "admins"}, {"groups": None}),
    ({"groups": "admins"}, {"groups": []}),
    ({"groups": "admins"}, {"groups": [None]}),
    ({"groups": "*"}, {"groups": ""}),
    ({"groups": "*"}, {"groups": [""]}),
    ({"blocked": False}, {}),
    ({"blocked": False}, {"blocked": None}),
    ({"level": 0}, {"level": None}),
    # text
    ({"groups": "admins"}, {"groups": "admin"}),
    ({"groups": "admins"}, {"groups": "Admins"}),
    ({"groups": "admins"}, {"groups": "admins "}),
    ({"groups": "admins"}, {"groups": "admins ops"}),
    ({"groups": "admins"}, {"groups": "admins,ops"}),
    ({"groups": "Admins"}, {"groups": "Domain Admins"}),
    ({"name": "Alice"}, {"name": "Alice Adams"}),
    ({"groups": "admins"}, {"groups": ["staff admins"]}),
    ({"name": "Zoe\u0308"}, {"name": "Zoë"}),
    # lists
    ({"groups": "admins"}, {"groups": [["admins"]]}),
    ({"groups": "admins"}, {"groups": {"admins": True}}),
    ({"groups": "admins"}, {"groups": [{"name": "admins"}]}),
    ({"groups.name": "admins"}, {"groups": [{"name": "admins"}]}),
    ({"groups.0": "admins"}, {"groups": ["admins"]}),
    # spaces
    ({"scope": "orders"}, {"scope": "openid orders:write"}),
    ({"scope": "a"}, {"scope": "b\u00a0a"}),
    ({"scope": "a"}, {"scope": "b\ta"}),
    ({"scope": "a"}, {"scope": ["b a"]}),
    ({"scope": "*"}, {"scope": " "}),
    ({"scope_of": "a"}, {"scope_of": "b a"}),
    # types are never converted
    ({"email_verified": True}, {"email_verified": "true"}),
    ({"email_verified": True}, {"email_verified": "True"}),
    ({"email_verified": True}, {"email_verified": 1}),
    ({"email_verified": "true"}, {"email_verified": True}),
    ({"email_verified": False}, {"email_verified": 0}),
    ({"email_verified": False}, {"email_verified": ""}),
    ({"level": 1}, {"level": True}),
    ({"level": 0}, {"level": False}),
    ({"level": 1}, {"level": "1"}),
    ({"level": "1"}, {"level": 1}),
    ({"level": 1}, {"level": [True]}),
    ({"level": 1}, {"level": 1.5}),
    ({"level": 1}, {"level": float("nan")}),
    ({"level": 1}, {"level": float("inf")}),
    # globs
    ({"level": "*"}, {"level": 5}),
    ({"level": "*"}, {"level": True}),
    ({"email": "*"}, {"email": {"a": "b"}}),
    ({"email": "*@example.com"}, {"email": "alice@example.com.evil.test"}),
    ({"email": "*@example.com"}, {"email": "alice@EXAMPLE.com"}),
    ({"email": "*@example.com"}, {"email": "alice@evil.test\n@example.com"}),
    ({"email": "*@example.com"}, {"email": "alice@evil.test\x00@example.com"}),
    ({"email": "*@example.com"}, {"email": "alice@evil.test\u202e@example.com"}),
    ({"email": "*@example.com"}, {"email": "alice@exampleXcom"}),
    ({"groups": "ab*ba"}, {"groups": "aba"}),
    ({"groups": "*a*a*"}, {"groups": "xax"}),
    ({"groups": "a?"}, {"groups": "ab"}),
    ({"groups": "[ab]*"}, {"groups": "a"}),
    # names
    ({"realm_access.roles": "editor"}, {"realm_access": {"roles": ["viewer"]}}),
    ({"realm_access.roles": "editor"}, {"realm_access": "roles"}),
    ({"realm_access.roles": "editor"}, {"realm_access": {}}),
    ({"realm_access": "roles"}, NESTED),
    ({"org": "*"}, NESTED),
    ({"org.unit": "name"}, NESTED),
    ({"Groups": "admins"}, {"groups": "admins"}),
    ({"a.b": "nested"}, {"a.b": "exact", "a": {"b": "nested"}}),
    ({"a.b": "nested"}, {"a.b": None, "a": {"b": "nested"}}),
    ({URL: "admin"}, {"https://example": {"com/roles": ["user"]}}),
    # several claims
    ({"groups": "admins", "email_verified": True}, {"groups": ["admins"]}),
    ({"groups": "admins", "email_verified": True}, {"groups": ["admins"], "email_verified": False}),
]


def _id(case: tuple[Any, Any]) -> str:
    return f"{case[0]} and {case[1]}"[:100].encode("ascii", "backslashreplace").decode()


@pytest.mark.parametrize("case", MET, ids=_id)
def test_claims_meet_a_rule(case):
    rule, claims = case

    assert Rule.of(rule).allows(claims) is True


@pytest.mark.parametrize("case", UNMET, ids=_id)
def test_claims_do_not_meet_a_rule(case):
    rule, claims = case

    assert Rule.of(rule).allows(claims) is False


@pytest.mark.parametrize("case", MET, ids=_id)
def test_every_condition_of_a_rule_must_be_met(case):
    rule, claims = case

    assert Rule.of({**rule, "tenant": "acme"}).allows(claims) is False
    assert Rule.of({**rule, "tenant": "acme"}).allows({**claims, "tenant": "acme"}) is True


def test_a_rule_that_is_none_allows_nothing():
    assert Rule().allows({"groups": "admins"}) is False


# Mistakes


@pytest.mark.parametrize(
    ("rule", "mistake"),
    [
        ({}, "the rule is empty: it would allow everything, or nothing"),
        ({"groups": []}, "groups: there is no value"),
        ({"groups": set()}, "groups: there is no value"),
        ({"groups": {}}, "groups: there is no value"),
        ({"groups": None}, "and not NoneType"),
        ({"groups": [None]}, "and not NoneType"),
        ({"groups": {"any": ["a"]}}, "and not dict"),
        ({"groups": [["a"]]}, "and not list"),
        ({"groups": b"a"}, "and not bytes"),
        ({"groups": ""}, "groups: a value is empty text"),
        ({"groups": ["a", ""]}, "groups: a value is empty text"),
        ({"level": float("nan")}, "level: nan is no number"),
        ({"level": float("inf")}, "level: inf is no number"),
        ({"": "a"}, "'' is no name of a claim"),
        ({"a..b": "a"}, "'a..b' is no name of a claim"),
        ({".a": "a"}, "'.a' is no name of a claim"),
        ({"a.": "a"}, "'a.' is no name of a claim"),
        ({7: "a"}, "7 is no name of a claim"),
        ({"scope": "a b"}, "scope: 'a b' is several values"),
        ([], "a rule is an object of claims and values"),
        ("groups", "a rule is an object of claims and values"),
        (True, "a rule is an object of claims and values"),
    ],
)
def test_a_rule_that_is_a_mistake(rule, mistake):
    with pytest.raises(ValueError, match=r".") as refused:
        Rule.of(rule)

    assert mistake in str(refused.value)


def test_all_mistakes_of_a_rule_are_told_at_once():
    with pytest.raises(ValueError, match=r"^groups: there is no value; level: nan is no number$"):
        Rule.of({"groups": [], "ok": "x", "level": float("nan")})


# Functions


def is_staff(claims):
    return "staff" in claims.get("groups", [])


def test_a_rule_can_be_a_function_of_the_claims():
    rule = Rule.of(is_staff)

    assert rule.allows({"groups": ["staff"]}) is True
    assert rule.allows({}) is False
    assert str(rule) == "is_staff"


@pytest.mark.parametrize("returned", [None, 1, 0, [], ["staff"], "yes", object()])
def test_a_function_says_true_or_false_and_nothing_else(returned):
    with pytest.raises(UsageError, match="and not True or False"):
        Rule.of(lambda claims: returned).allows({})


def test_a_coroutine_function_is_no_rule_since_a_coroutine_is_true():
    async def is_admin(claims):
        return False

    with pytest.raises(ValueError, match="must not be a coroutine function"):
        Rule.of(is_admin)


def test_what_a_function_raises_is_not_swallowed():
    with pytest.raises(KeyError):
        Rule.of(lambda claims: claims["groups"] == "x").allows({})


# Words


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"groups": "admins"}, "groups is admins"),
        ({"groups": ["admins", "ops"]}, "groups is admins or ops"),
        (
            {"groups": ["admins", "ops"], "email_verified": True},
            "groups is admins or ops, and email_verified is true",
        ),
        ({"level": [1, 2.5, False]}, "level is 1 or 2.5 or false"),
        ({"email": "*@example.com"}, "email is *@example.com"),
    ],
)
def test_a_rule_in_words(rule, words):
    assert str(Rule.of(rule)) == words


def test_the_examples_of_the_docstrings():
    assert doctest.testmod(authorization).failed == 0


# Garbage

TEXTS = ["", " ", "*", "a", "admins", "a.b", "true", "1", "\x00", "\ud800", "𝒜", "a b", "a" * 5000, "\n", "é"]
NAMES = ["groups", "a", "a.b", "a.b.c", "scope", "", ".", "...", "\x00", "b", "c"]


def garbage(random: Random, depth: int = 4) -> Any:
    kind = random.randrange(9 if depth else 6)
    if kind < 3:
        return random.choice(TEXTS)
    if kind < 6:
        return random.choice([None, True, False, 0, 1, -1, 1.5, 10**400, float("nan"), float("-inf")])
    if kind < 8:
        return [garbage(random, depth - 1) for _ in range(random.randrange(5))]
    return {random.choice(NAMES): garbage(random, depth - 1) for _ in range(random.randrange(5))}


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from leaves(member)
    else:
        yield value
        yield from value.split(" ") if isinstance(value, str) else ()


def is_there(value: Any, claims: dict[str, Any]) -> bool:
    """Whether the value of a rule, or what its glob stands for, is anywhere in the claims at all."""
    if isinstance(value, str):
        pattern = re.compile(".*".join(map(re.escape, value.split("*"))))
        return any(leaf and pattern.fullmatch(leaf) for leaf in leaves(claims) if isinstance(leaf, str))
    is_boolean = isinstance(value, bool)
    return any(leaf == value for leaf in leaves(claims) if isinstance(leaf, bool) is is_boolean)


def test_garbage_raises_nothing_but_valueerror_and_allows_nothing_that_is_not_there():
    random = Random(1)  # noqa: S311
    allowed = refused = 0
    for _ in range(20_000):
        source = {random.choice(NAMES): garbage(random, 1) for _ in range(random.randrange(3))}
        claims = {random.choice(NAMES): garbage(random) for _ in range(random.randrange(6))}
        try:
            rule = Rule.of(source)
        except ValueError:
            refused += 1
            continue
        if rule.allows(claims):
            allowed += 1
            for values in source.values():
                assert any(
                    is_there(each, claims) for each in (values if isinstance(values, list) else [values])
                )
        assert isinstance(str(rule), str)

    assert allowed > 20
    assert refused > 1000


def test_the_cost_of_a_rule_is_bounded_by_the_claims_and_not_by_what_a_glob_could_match():
    rule = Rule.of({"groups": "*a*a*a*a*a*a*a*a*b", ".".join("abcdefghij" * 5): "x"})
    claims = {"groups": ["a" * 20_000] * 3, **{str(n): {"b": {}} for n in range(3000)}}

    started = time.process_time()
    assert rule.allows(claims) is False
    assert time.process_time() - started < 1


def test_the_module_imports_nothing_that_does_io():
    source = Path(authorization.__file__).read_text()

    assert "asyncio" not in source
    assert "tornado" not in source
