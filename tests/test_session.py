"""Sessions and token sets: how long they last, what a refresh keeps, and what a log never shows."""

from __future__ import annotations

import hashlib
from dataclasses import FrozenInstanceError, fields

import pytest

from app.sessions.session import Lifetime, Session, TokenSet, new_session_id, session_ref

NOW = 1_800_000_000.0
HOUR = 3600


def tokens(*, lasts: float | None = HOUR, **changed: str | None) -> TokenSet:
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


def test_session_ids_have_256_bits_and_never_repeat():
    ids = {new_session_id() for _ in range(100)}

    assert len(ids) == 100
    assert min(map(len, ids)) >= 43  # 256 bits in base64


def test_the_ref_is_the_sha_256_of_the_session_id():
    assert session_ref("the-cookie") == hashlib.sha256(b"the-cookie").hexdigest()


def test_an_access_token_is_alive_until_the_second_it_ends():
    assert tokens().is_alive(now=NOW + HOUR - 1)
    assert not tokens().is_alive(now=NOW + HOUR)


def test_an_access_token_is_fresh_until_the_margin():
    assert tokens().is_fresh(margin_seconds=60, now=NOW + HOUR - 61)
    assert not tokens().is_fresh(margin_seconds=60, now=NOW + HOUR - 60)


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
    assert tokens(lasts=lasts).is_fresh(margin_seconds=margin_seconds, now=NOW + fresh_for - 0.5)
    assert not tokens(lasts=lasts).is_fresh(margin_seconds=margin_seconds, now=NOW + fresh_for)


@pytest.mark.parametrize("lasts", [0, -5])
def test_an_access_token_that_came_expired_is_neither_alive_nor_fresh(lasts):
    assert not tokens(lasts=lasts).is_alive(now=NOW)
    assert not tokens(lasts=lasts).is_fresh(margin_seconds=60, now=NOW)


def test_an_access_token_without_known_end_is_good_until_an_api_says_otherwise():
    assert tokens(lasts=None).is_alive(now=NOW + 10 * HOUR)
    assert tokens(lasts=None).is_fresh(margin_seconds=60, now=NOW + 10 * HOUR)


def test_a_refresh_that_brings_everything_replaces_everything():
    earlier = tokens(refresh_token="rt-1", id_token="it-1", scope="openid")
    newer = tokens(access_token="at-2", refresh_token="rt-2", id_token="it-2", scope="openid email")

    assert earlier.updated_by(newer) == newer


@pytest.mark.parametrize("name", ["refresh_token", "id_token", "scope"])
def test_what_a_refresh_leaves_out_is_kept(name):
    earlier = tokens(**{name: "kept"})
    updated = earlier.updated_by(tokens(access_token="at-2", lasts=60))

    assert getattr(updated, name) == "kept"
    assert (updated.access_token, updated.expires_at) == ("at-2", NOW + 60)


def test_a_refresh_that_does_not_say_how_long_forgets_the_old_end():
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
def test_a_record_is_never_changed_only_replaced(record):
    with pytest.raises(FrozenInstanceError):
        record.expires_at = 0
