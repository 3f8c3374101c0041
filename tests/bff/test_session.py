"""Sessions and token sets: lifetime, refresh, serialisation, and what a repr shows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from app.bff.oidc.dpop import new_key
from app.bff.paths import PROJECT
from app.bff.sessions.mongo.sessions import from_bytes, to_bytes
from app.bff.sessions.session import LOGIN, Lifetime, Reason, Session, Target, TokenSet, session_ref

NOW = 1_800_000_000.0
HOUR = 3600
ORDERS = Target(scope="orders.read", resource="https://orders.example/")
BILLING = Target(audience="billing", exchanged=True)


def tokens(*, lasts: float | None = HOUR, **changed: Any) -> TokenSet:
    expires_at = None if lasts is None else NOW + lasts
    return TokenSet(**{"access_token": "at-1", **changed}, received_at=NOW, expires_at=expires_at)


def a_session() -> Session:
    return Session(
        ref=session_ref("the-cookie"),
        issuer="https://provider.example",
        subject="alice",
        sid="the-sid",
        claims={"email": "alice@example.org"},
        tokens=tokens(refresh_token="rt-1", id_token="it-1"),
        created_at=NOW,
        renewed_at=NOW,
        expires_at=NOW + HOUR,
    )


def test_the_ref_is_the_sha_256_of_the_session_id():
    assert session_ref("the-cookie") == hashlib.sha256(b"the-cookie").hexdigest()


@pytest.mark.parametrize("file", ["static/bff/bff.d.ts", "docs/bff/sessions.md", "templates/signed_out.html"])
@pytest.mark.parametrize("reason", sorted(set(Reason) - {Reason.RENEWED}))
def test_a_reason_that_pages_may_hear_is_told_wherever_reasons_are(file: str, reason: Reason):
    assert f'"{reason}"' in (PROJECT / file).read_text().replace("`", '"')


def test_an_access_token_is_alive_until_it_expires():
    assert tokens().is_alive(now=NOW + HOUR - 1)
    assert not tokens().is_alive(now=NOW + HOUR)


def is_fresh(token_set: TokenSet, *, margin_seconds: float, now: float) -> bool:
    """Whether it is early enough to hand out the access token without renewing it."""
    return token_set.is_alive(now=now + token_set.margin(margin_seconds))


def test_an_access_token_is_fresh_until_the_margin():
    assert is_fresh(tokens(), margin_seconds=60, now=NOW + HOUR - 61)
    assert not is_fresh(tokens(), margin_seconds=60, now=NOW + HOUR - 60)


@pytest.mark.parametrize(
    ("lasts", "margin_seconds", "fresh_for"),
    [
        pytest.param(HOUR, 60, HOUR - 60, id="an hour with a minute"),
        pytest.param(600, 60, 540, id="ten minutes with exactly a tenth"),
        pytest.param(60, 60, 54, id="a minute with a minute"),
        pytest.param(10, 60, 9, id="ten seconds with a minute"),
        pytest.param(HOUR, 0, HOUR, id="an hour without margin"),
    ],
)
def test_the_margin_is_at_most_a_tenth_of_the_lifetime(lasts, margin_seconds, fresh_for):
    assert is_fresh(tokens(lasts=lasts), margin_seconds=margin_seconds, now=NOW + fresh_for - 0.5)
    assert not is_fresh(tokens(lasts=lasts), margin_seconds=margin_seconds, now=NOW + fresh_for)


@pytest.mark.parametrize("lasts", [0, -5])
def test_an_access_token_issued_expired_is_neither_alive_nor_fresh(lasts):
    assert not tokens(lasts=lasts).is_alive(now=NOW)
    assert not is_fresh(tokens(lasts=lasts), margin_seconds=60, now=NOW)


def test_an_access_token_without_expiry_is_always_alive():
    assert tokens(lasts=None).is_alive(now=NOW + 10 * HOUR)
    assert is_fresh(tokens(lasts=None), margin_seconds=60, now=NOW + 10 * HOUR)


def test_a_refresh_that_brings_everything_replaces_everything():
    earlier = tokens(refresh_token="rt-1", id_token="it-1", scope="openid")
    newer = tokens(access_token="at-2", refresh_token="rt-2", id_token="it-2", scope="openid email")

    assert earlier.updated_by(newer) == newer


@pytest.mark.parametrize("name", ["refresh_token", "id_token", "scope"])
def test_what_a_refresh_omits_stays(name):
    earlier = tokens(**{name: "earlier"})
    updated = earlier.updated_by(tokens(access_token="at-2", lasts=60))

    assert getattr(updated, name) == "earlier"
    assert (updated.access_token, updated.expires_at) == ("at-2", NOW + 60)


def test_a_refresh_without_expires_in_drops_the_old_expiry():
    assert tokens().updated_by(tokens(access_token="at-2", lasts=None)).expires_at is None


@pytest.mark.parametrize(
    ("used_after", "ends_after"),
    [
        pytest.param(0, HOUR, id="an idle hour after login"),
        pytest.param(HOUR, 2 * HOUR, id="an idle hour after it was used"),
        pytest.param(11.5 * HOUR, 12 * HOUR, id="at the absolute end, however late it was used"),
        pytest.param(20 * HOUR, 12 * HOUR, id="at the absolute end, which does not move"),
    ],
)
def test_a_session_ends(used_after, ends_after):
    lifetime = Lifetime(idle_seconds=HOUR, absolute_seconds=12 * HOUR)

    assert lifetime.end(created_at=NOW, now=NOW + used_after) == NOW + ends_after


@pytest.mark.parametrize("secret", ["at-1", "rt-1", "it-1", "the-sid", "the-cookie", "alice@example.org"])
def test_a_repr_shows_no_secret(secret):
    assert secret not in repr(a_session())
    assert secret not in repr(a_session().tokens)


def test_every_field_of_the_tokens_that_is_a_token_is_left_out_of_the_repr():
    shown = {field.name for field in fields(TokenSet) if field.repr}

    assert shown == {"received_at", "expires_at", "scope", "target"}


@pytest.mark.parametrize("record", [a_session(), tokens()], ids=["session", "tokens"])
def test_a_session_is_immutable(record):
    with pytest.raises(FrozenInstanceError):
        record.expires_at = 0


# What a token is for.


def test_the_target_of_the_login_has_no_parameters():
    assert Target() == LOGIN
    assert LOGIN.params == {}
    assert tokens().target == LOGIN


@pytest.mark.parametrize(
    ("target", "params"),
    [
        pytest.param(Target(scope="a b"), {"scope": "a b"}, id="RFC 6749 §6: scope"),
        pytest.param(Target(resource="urn:x"), {"resource": "urn:x"}, id="RFC 8707 §2: resource"),
        pytest.param(Target(audience="x"), {"audience": "x"}, id="RFC 8693 §2.1: audience"),
        pytest.param(
            Target("a", "urn:x", "x"), {"scope": "a", "resource": "urn:x", "audience": "x"}, id="all three"
        ),
        pytest.param(Target(exchanged=True), {}, id="how it is got is not said"),
        pytest.param(Target(scope="", audience=""), {}, id="nothing empty is said"),
    ],
)
def test_the_parameters_of_a_target_are(target, params):
    assert target.params == params


@pytest.mark.parametrize(
    "other",
    [
        LOGIN,
        Target(scope="orders.write", resource="https://orders.example/"),
        Target(scope="orders.read", resource="https://orders.example"),
        Target(scope="orders.read"),
        Target(resource="https://orders.example/"),
        Target("orders.read", "https://orders.example/", "orders"),
        Target("orders.read", "https://orders.example/", exchanged=True),
    ],
    ids=str,
)
def test_targets_differ_if_any_field_differs(other):
    assert other != ORDERS
    assert len({other, ORDERS}) == 2


def test_equal_targets_are_equal_and_have_one_hash():
    same = Target("orders.read", "https://orders.example/")

    assert same == ORDERS
    assert {ORDERS: "at-1"}[same] == "at-1"


@pytest.mark.parametrize(
    "resource",
    ["https://orders.example", "https://orders.example/v1?tenant=7", "urn:x", "api://f00d", "tag:a@b,2026:c"],
)
def test_a_resource_is_any_absolute_uri(resource):  # RFC 8707 §2
    assert Target(resource=resource).params == {"resource": resource}


@pytest.mark.parametrize(
    "resource",
    [
        "",
        "orders",
        "/orders",
        "//orders.example",
        "orders.example/v1",
        "?a",
        "https://a#b",
        "https://a#",
        "urn:a#",
        "https:",
        "https://a b",
        " https://a",
        "https://a\n",
    ],
)
def test_a_resource_is_not_relative_and_has_no_fragment_not_even_an_empty_one(resource):  # RFC 8707 §2
    with pytest.raises(ValueError, match="absolute URI without a fragment"):
        Target(resource=resource)


@pytest.mark.parametrize(
    ("lasts", "seconds", "margin"),
    [
        pytest.param(HOUR, 60, 60, id="the setting"),
        pytest.param(60, 60, 6, id="at most a tenth of the lifetime"),
        pytest.param(HOUR, 0, 0, id="none"),
        pytest.param(None, 60, 0, id="none without a known end"),
        pytest.param(0, 60, 0, id="none without a lifetime"),
    ],
)
def test_the_margin_before_the_expiry_is(lasts, seconds, margin):
    assert tokens(lasts=lasts).margin(seconds) == margin


# What a token response changes in a session.


def orders(*, lasts: float | None = HOUR, **changed: Any) -> TokenSet:
    return tokens(lasts=lasts, **{"access_token": "at-orders", "target": ORDERS, **changed})


def test_a_new_session_has_a_token_for_the_login_only():
    session = a_session()

    assert session.tokens_for(LOGIN) is session.tokens
    assert session.tokens_for(ORDERS) is None
    assert session.tokens_for(BILLING) is None


def test_a_refresh_for_another_target_adds_its_access_token_and_leaves_that_of_the_login():
    session = a_session().updated_by(orders(), now=NOW)

    assert session.tokens == a_session().tokens
    assert session.tokens_for(ORDERS) == orders()
    assert session.tokens_for(BILLING) is None


def test_its_refresh_token_is_for_the_whole_session():  # RFC 6749 §6, RFC 8707 §2.2
    session = a_session().updated_by(orders(refresh_token="rt-2", id_token="it-2"), now=NOW)

    assert session.tokens == tokens(refresh_token="rt-2", id_token="it-2")
    assert session.tokens_for(ORDERS) == orders()


def test_there_is_one_token_per_target_the_newest():
    session = a_session().updated_by(orders(), now=NOW).updated_by(tokens(target=BILLING), now=NOW)
    session = session.updated_by(orders(access_token="at-newer", lasts=60), now=NOW)

    assert session.tokens_for(ORDERS) == orders(access_token="at-newer", lasts=60)
    assert [other.target for other in session.others] == [BILLING, ORDERS]


def test_a_refresh_of_the_login_keeps_the_tokens_for_other_targets():
    session = a_session().updated_by(orders(), now=NOW).updated_by(tokens(access_token="at-2"), now=NOW)

    assert session.tokens_for(LOGIN).access_token == "at-2"
    assert session.tokens_for(LOGIN).refresh_token == "rt-1"
    assert session.tokens_for(ORDERS) == orders()


@pytest.mark.parametrize("newer", [tokens(), tokens(target=BILLING)], ids=["login", "another"])
@pytest.mark.parametrize(("lasts", "stays"), [(60, False), (61, True), (None, True)])
def test_only_expired_tokens_are_dropped(newer, lasts, stays):
    session = a_session().updated_by(orders(lasts=lasts), now=NOW).updated_by(newer, now=NOW + 60)

    assert (session.tokens_for(ORDERS) is not None) is stays


def test_a_new_token_stays_even_if_it_was_issued_expired():
    assert a_session().updated_by(orders(lasts=-5), now=NOW).tokens_for(ORDERS) == orders(lasts=-5)


@pytest.mark.parametrize("newer", [tokens(), orders()], ids=["login", "another"])
def test_nothing_else_of_the_session_changes(newer):
    updated = a_session().updated_by(newer, now=NOW + 60)

    assert replace(updated, tokens=a_session().tokens, others=()) == a_session()


# Serialisation.


def a_full_session() -> Session:
    others = (orders(lasts=None, scope="orders.read"), tokens(target=BILLING))
    return replace(a_session(), others=others, dpop_key=new_key(), session_state="s-1", version=7)


def opened(record: dict[str, Any]) -> Session:
    return from_bytes(json.dumps(record).encode())


@pytest.mark.parametrize("session", [a_session(), a_full_session()], ids=["the least", "everything"])
def test_a_session_is_equal_after_serialisation(session):
    found = from_bytes(to_bytes(session))

    assert found == session
    assert {type(found.others), type(found.tokens.target)} == {tuple, Target}


def test_fields_outside_the_seal_override_those_inside():
    found = from_bytes(to_bytes(a_session()), version=9, renewed_at=NOW + 1, expires_at=NOW + 2)

    assert found == replace(a_session(), version=9, renewed_at=NOW + 1, expires_at=NOW + 2)


def test_a_record_of_an_older_release_opens_with_defaults():
    record = json.loads(to_bytes(a_session()))
    del record["others"], record["dpop_key"], record["tokens"]["target"]

    assert opened(record) == a_session()


def test_a_record_of_a_newer_release_opens_without_unknown_fields():
    record = json.loads(to_bytes(a_full_session()))
    token_sets = [record["tokens"], *record["others"]]
    for part in (record, *token_sets, *(tokens["target"] for tokens in token_sets)):
        part["added_later"] = {"x": 1}

    assert replace(opened(record), dpop_key=None) == replace(a_full_session(), dpop_key=None)


def test_a_record_without_a_required_field_does_not_open():
    record = json.loads(to_bytes(a_session()))
    del record["subject"]

    with pytest.raises(TypeError, match="subject"):
        opened(record)


def test_the_dpop_key_shows_in_no_repr():
    session = a_full_session()

    for secret in (session.dpop_key["d"], session.dpop_key["x"], "at-orders"):
        assert secret not in repr(session)
