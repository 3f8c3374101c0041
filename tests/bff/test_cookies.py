"""Cookies: their names, their attributes, and which login attempt each one belongs to."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from app.bff.web.cookies import MAX_LOGIN_ATTEMPTS, SESSION_ID_LENGTH, CookiePolicy, read_cookies

NOW = 1_800_000_000.0
STRICT = CookiePolicy(https=True, samesite="strict")
PLAIN = CookiePolicy(https=False, samesite="strict")


def names_of(policy: CookiePolicy) -> list[str]:
    return [policy.session_name, policy.logout_name, policy.login_name("state", NOW)]


def test_on_https_every_name_has_the_host_prefix():
    assert all(name.startswith("__Host-") for name in names_of(STRICT))


def test_on_http_no_name_has_it_because_browsers_would_refuse_the_cookie():
    assert not any(name.startswith("__") for name in names_of(PLAIN))


def test_every_name_begins_with_that_of_the_application():
    shop = CookiePolicy(https=True, samesite="strict", name="shop")

    assert all(name.startswith("__Host-shop") for name in names_of(shop))
    assert STRICT.login_name_of("state", [shop.login_name("state", NOW)]) is None


def test_all_names_differ():
    assert len(set(names_of(STRICT))) == 3


@pytest.mark.parametrize(("setting", "written"), [("strict", "Strict"), ("lax", "Lax")])
def test_the_session_cookie_is_for_the_server_only_and_as_strict_as_the_settings_say(setting, written):
    assert CookiePolicy(https=True, samesite=setting).session_attributes == {
        "path": "/",
        "httponly": True,
        "secure": True,
        "samesite": written,
    }


def test_cookies_that_come_back_from_the_provider_are_lax_whatever_the_settings_say():
    assert STRICT.login_cookie_attributes == {
        "path": "/",
        "httponly": True,
        "secure": True,
        "samesite": "Lax",
    }


@pytest.mark.parametrize("attributes", [PLAIN.session_attributes, PLAIN.login_cookie_attributes])
def test_on_http_no_cookie_is_secure_because_browsers_would_not_send_it(attributes):
    assert attributes["secure"] is False


def test_no_cookie_names_a_domain():
    assert "domain" not in {**STRICT.session_attributes, **STRICT.login_cookie_attributes}


def test_each_login_attempt_has_a_cookie_of_its_own():
    assert STRICT.login_name("state-1", NOW) != STRICT.login_name("state-2", NOW)


def test_the_name_of_a_login_cookie_does_not_show_the_state():
    assert "recognisable" not in STRICT.login_name("recognisable", NOW)


@pytest.mark.parametrize("policy", [STRICT, PLAIN], ids=["https", "http"])
def test_state_finds_its_own_cookie_among_others(policy: CookiePolicy):
    names = [policy.login_name(f"state-{number}", NOW + number) for number in range(3)]

    assert policy.login_name_of("state-1", ["theme", policy.session_name, *names]) == names[1]


@pytest.mark.parametrize("state", ["", "another", "state-1 "])
def test_an_unknown_state_finds_no_cookie(state):
    assert STRICT.login_name_of(state, [STRICT.login_name("state-1", NOW)]) is None


def test_a_cookie_without_the_prefix_is_ignored_on_https():
    assert STRICT.login_name_of("state", [PLAIN.login_name("state", NOW)]) is None


def attempts(number: int, size: int = 500) -> dict[str, str]:
    """The cookies of so many login attempts, the youngest first."""
    return {STRICT.login_name(f"state-{age}", NOW - age): size * "x" for age in range(1, number + 1)}


NEW = STRICT.login_name("state", NOW)
SESSION = {"theme": 9000 * "x", STRICT.session_name: SESSION_ID_LENGTH * "x"}


def test_below_the_limit_no_login_attempt_has_to_go():
    cookies = {**SESSION, **attempts(MAX_LOGIN_ATTEMPTS - 1)}

    assert STRICT.excess_attempts(cookies, NEW, 500 * "x") == []


def test_at_the_limit_the_oldest_login_attempts_go():
    cookies = {**SESSION, **attempts(MAX_LOGIN_ATTEMPTS + 1)}

    assert STRICT.excess_attempts(cookies, NEW, 500 * "x") == list(attempts(MAX_LOGIN_ATTEMPTS + 1))[:3:-1]


@pytest.mark.parametrize("name", [NEW, STRICT.logout_name], ids=["attempt", "logout"])
@pytest.mark.parametrize("size", [0, 1, 500, 1500, 3000])
@pytest.mark.parametrize("each", [1, 400, 690, 700, 1000, 2000])
def test_what_is_left_with_the_new_cookie_is_below_4_kb_and_no_attempt_goes_in_vain(
    name: str, size: int, each: int
):
    cookies = {**attempts(9, each), STRICT.logout_name: 300 * "x"}
    excess = STRICT.excess_attempts(cookies, name, size * "x")
    left = {**{key: value for key, value in cookies.items() if key not in excess}, name: size * "x"}
    line = header({**left, STRICT.session_name: SESSION_ID_LENGTH * "x"})
    fuller = header({**left, excess[0]: each * "x"}) if excess else ""

    assert len(line) < 4096
    assert excess == sorted(attempts(9, each))[: len(excess)]
    assert len(fuller) > 3500 or sum(map(STRICT.is_login_name, left)) >= MAX_LOGIN_ATTEMPTS or not excess


def header(cookies: dict[str, str]) -> str:
    return "Cookie: " + "; ".join(f"{name}={value}" for name, value in cookies.items())


# The reader

ENGINE = Path(__file__).parents[2] / "app/bff"
CHARACTERS = [bytes([number]).decode("latin-1") for number in range(256)]
OURS = "__Host-bff"


@pytest.mark.parametrize(
    ("header", "cookies"),
    [
        pytest.param("a=1; b=2", {"a": "1", "b": "2"}, id="as browsers write"),
        pytest.param("a=1;b=2", {"a": "1", "b": "2"}, id="without the space"),
        pytest.param("a=1=2;", {"a": "1=2"}, id="with a sign in the value"),
        pytest.param('a="1"', {"a": '"1"'}, id="verbatim"),
        pytest.param(" a = 1\t; \tb=2", {"a": "1", "b": "2"}, id="with space and tab"),
        pytest.param("A=1; a=2", {"A": "1", "a": "2"}, id="in both cases"),
        pytest.param("a=1; b=2; a=3", {"b": "2"}, id="twice"),
        pytest.param("a=1; b=2; a=1", {"b": "2"}, id="twice with the same value"),
        pytest.param("a=1; a=2; a=3", {}, id="three times"),
        pytest.param("a=1; a", {"a": "1"}, id="and a value without a name"),
        pytest.param("a=1,a=2", {"a": "1,a=2"}, id="in two headers, which no browser sends"),
        pytest.param("", {}, id="none"),
    ],
)
def test_cookies_are_read(header: str, cookies: dict[str, str]):
    assert read_cookies({"Cookie": header}) == cookies
    assert read_cookies({}) == {}


@pytest.mark.parametrize("planted", ["{character}" + OURS, OURS + "{character}"], ids=["before", "after"])
def test_a_name_is_ours_without_any_other_byte_and_a_second_one_makes_it_none(planted: str):
    read = {
        character: read_cookies({"Cookie": f"{OURS}=alice; {planted.format(character=character)}=bob"}).get(
            OURS
        )
        for character in CHARACTERS
    }
    none = {" ", "\t", ";" if planted.startswith("{") else "="}

    assert {character for character, value in read.items() if value is None} == none
    assert {value for character, value in read.items() if character not in none} == {"alice"}


@pytest.mark.parametrize("character", [*"\xa0\x85\r\n ~", "x", "-"])
def test_only_what_we_have_named_is_a_login_attempt(character: str):
    name = STRICT.login_name("state", NOW)

    assert STRICT.login_name_of("state", [f"{character}{name}", f"{name}{character}"]) is None
    assert STRICT.excess_attempts({f"{name}{character}{number}": "" for number in range(9)}) == []


def reads_cookies(node: ast.AST) -> bool:
    match node:
        case ast.ImportFrom(module="tornado.httputil" | "http.cookies", names=names):
            return bool({name.name for name in names} & {"parse_cookie", "SimpleCookie", "BaseCookie"})
        case ast.Attribute(value=ast.Name(id="request") | ast.Attribute(attr="request"), attr="cookies"):
            return True
        case ast.Attribute(value=ast.Name(id="self"), attr="cookies" | "get_cookie" | "get_signed_cookie"):
            return True
        case ast.Subscript(slice=ast.Constant(value=str(name))) if not isinstance(node.ctx, ast.Store):
            return name.lower() == "cookie"
        case ast.Call(func=ast.Attribute(attr="get" | "get_list"), args=[ast.Constant(value=str(name)), *_]):
            return name.lower() == "cookie"
    return False


def test_no_other_code_of_the_engine_reads_a_cookie():
    found = {
        str(file.relative_to(ENGINE))
        for file in ENGINE.rglob("*.py")
        if any(map(reads_cookies, ast.walk(ast.parse(file.read_text()))))
    }

    assert found == {"web/cookies.py"}
