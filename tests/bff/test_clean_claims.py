"""Claims are cleaned once, at login: no page and no JSON answer meets what it cannot show."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from app.bff.dev.provider import Provider
from app.bff.oidc.claims import is_well_formed, well_formed
from app.bff.oidc.kept_claims import (
    MAX_CLAIM_BYTES,
    MAX_CLAIMS_BYTES,
    MAX_DEPTH,
    clean_claims,
)
from tests.bff.harness import Browser, RunningApp

HALF, PAIR = "\ud83d", "\ud83d\ude00"


def nested(depth: int, leaf: Any = 1) -> Any:
    for level in range(depth):
        leaf = [leaf] if level % 2 else {"in": leaf}
    return leaf


DROPPED = [
    pytest.param({"x": math.nan}, id="NaN"),
    pytest.param({"x": math.inf}, id="Infinity"),
    pytest.param({"x": json.loads("-1e999")}, id="a number that becomes infinite"),
    pytest.param({"x": [1, {"y": [math.nan]}]}, id="NaN inside"),
    pytest.param({"x": nested(MAX_DEPTH + 1)}, id="one level too deep"),
    pytest.param({"x": nested(900)}, id="far too deep"),
    pytest.param({"x": "y" * MAX_CLAIM_BYTES}, id="too large"),
    pytest.param({"x": ["y"] * MAX_CLAIM_BYTES}, id="too many members"),
    pytest.param({"x" * MAX_CLAIM_BYTES: 1}, id="a name that is too large"),
    pytest.param({"bff:logout_url": "https://evil.example"}, id="the logout URL"),
    pytest.param({"bff:session_expires_in": 1}, id="the session's end"),
    pytest.param({"bff:anything": 1}, id="our prefix"),
    pytest.param({"BFF:logout_url": 1}, id="our prefix in capitals"),
]


@pytest.mark.parametrize("claims", DROPPED)
def test_a_claim_is_dropped_for(claims: dict[str, Any]):
    kept, dropped = clean_claims({"sub": "alice", **claims, "name": "Alice"})

    assert kept == {"sub": "alice", "name": "Alice"}
    assert list(dropped) == list(claims)


@pytest.mark.parametrize(
    "value",
    [
        1,
        2**80,
        -0.5,
        True,
        None,
        "",
        "é",
        "😀",
        "\x00\u2028",
        [],
        {},
        [1, [2, {"a": "b"}]],
        nested(MAX_DEPTH),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_claim_stays_as_it_is(value: Any):
    assert clean_claims({"x": value, "bffx": value}) == ({"x": value, "bffx": value}, {})


def test_what_exceeds_the_limit_of_all_claims_is_dropped():
    kept, dropped = clean_claims({str(number): "y" * 60_000 for number in range(6)} | {"last": 1})

    assert (list(kept), list(dropped)) == (["0", "1", "2", "3", "last"], ["4", "5"])
    assert len(json.dumps(kept)) < MAX_CLAIMS_BYTES


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a" + HALF, "a\ufffd"),
        (HALF + "b", "\ufffdb"),
        ("\ude00" + HALF, "\ufffd\ufffd"),
        (PAIR, "😀"),
        ("plain", "plain"),
        ("Zoë 😀", "Zoë 😀"),
    ],
    ids=ascii,
)
def test_half_a_surrogate_pair_is_replaced_in_text_names_and_members(text: str, clean: str):
    kept, dropped = clean_claims({text: text, "in": [{text: text}]})

    assert (kept, dropped) == ({clean: clean, "in": [{clean: clean}]}, {})
    assert well_formed(text) == clean
    assert is_well_formed(text) == (text == clean)
    json.dumps(kept, ensure_ascii=False).encode()


# In the running application.

CLAIMS = [
    pytest.param({"name": "Al" + HALF}, id="half a pair in the name"),
    pytest.param({"email": HALF, "name": None}, id="half a pair in the address"),
    pytest.param({HALF: HALF}, id="half a pair in a claim's name"),
    pytest.param({"groups": ["a", {HALF: [HALF]}]}, id="half a pair inside"),
    pytest.param({"name": math.nan}, id="NaN"),
    pytest.param({"name": [math.inf], "score": -math.inf}, id="Infinity"),
    pytest.param({"deep": nested(400)}, id="deep"),
    pytest.param({"name": "x" * 70_000}, id="large"),
    pytest.param({"name": {"first": "Al"}, "email": ["a"]}, id="other types"),
    pytest.param({"sid": HALF}, id="half a pair in the provider's session id"),
    pytest.param({"acr": HALF, "amr": [HALF]}, id="half a pair in acr"),
]


def no_constant(name: str) -> Any:
    pytest.fail(f"{name} is no JSON")


@pytest.mark.parametrize("source", ["id_token", "userinfo"])
@pytest.mark.parametrize("claims", CLAIMS)
async def test_pages_and_user_answer_with(
    claims: dict[str, Any], source: str, provider: Provider, browser: Browser
):
    provider.overrides[source] = claims
    await browser.login()

    assert (await browser.get("/")).status_code == 200
    assert (await browser.get("/account")).status_code == 200
    user = await browser.fetch("/bff/user")
    assert user.status_code == 200
    assert {"type": "sub", "value": "alice"} in json.loads(user.text, parse_constant=no_constant)


@pytest.mark.parametrize("source", ["id_token", "userinfo"])
async def test_only_our_own_entries_have_our_prefix(source: str, provider: Provider, browser: Browser):
    provider.overrides[source] = {"bff:logout_url": "https://evil.example/", "bff:session_state": "x"}
    await browser.login()
    entries = (await browser.fetch("/bff/user")).json()

    ours = {entry["type"]: entry["value"] for entry in entries if entry["type"].startswith("bff:")}
    assert ours["bff:logout_url"].startswith("/bff/logout?sid=")
    assert sum(entry["type"] == "bff:logout_url" for entry in entries) == 1
    assert "x" not in ours.values()


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"sub": "alice" + HALF}, id="half a pair in sub"),
        pytest.param({"sub": "a" * 1025}, id="a sub of a kilobyte"),
        pytest.param({"nonce": HALF}, id="half a pair in nonce"),
        pytest.param({"exp": math.nan}, id="NaN as a time"),
        pytest.param({"iat": math.inf}, id="Infinity as a time"),
    ],
)
async def test_a_login_is_refused_for(claims: dict[str, Any], provider: Provider, browser: Browser):
    provider.overrides["id_token"] = claims
    response = await browser.get(await browser.choose(await browser.start_login()))

    assert response.status_code == 400
    assert "<code>login_failed</code>" in response.text


async def test_dropped_claims_are_logged_by_name(
    provider: Provider, browser: Browser, app: RunningApp, caplog: pytest.LogCaptureFixture
):
    provider.overrides["userinfo"] = {"score": math.nan, "n" * 100: math.inf}
    await browser.login()

    [line] = [vars(record) for record in caplog.records if record.message == "claims dropped"]
    assert (line["claims"], line["count"]) == (["score", "n" * 50], 2)
