"""TokenRequest: whether a token is fresh, usable while it is renewed, or just unexpired."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from app.bff.errors import (
    ClientRejected,
    InteractionRequired,
    ProviderUnavailable,
    ReauthenticationRequired,
    TokenUnavailable,
)
from app.bff.sessions.session import LOGIN, Target, TokenSet
from app.bff.tokens.policy import TokenRequest, alive_or_raise, is_too_new_to_renew, unrenewed
from tests.bff.harness import Clock

NOW = 1_800_000_000.0
ORDERS = Target(scope="orders.read", resource="https://orders.example/")
WAYS = ["fresh", "usable_while_renewing", "unexpired"]


@dataclass
class Holder:
    """Something that has one token set, or none."""

    tokens: TokenSet | None

    def tokens_for(self, target: Target) -> TokenSet | None:
        return self.tokens if self.tokens and self.tokens.target == target else None


def a_holder(*, lasts: float | None = 1000, target: Target = LOGIN) -> Holder:
    expires_at = None if lasts is None else NOW + lasts
    return Holder(TokenSet("at-1", NOW, expires_at, target=target))


def good_in(holder: Holder, *, after: float, margin: float = 60, **changed: object) -> list[str]:
    """The ways in which the token of the holder is good, so many seconds after it came."""
    request = TokenRequest(margin, Clock(NOW + after), **changed)
    found = [(way, getattr(request, way)(holder)) for way in WAYS]
    assert all(tokens in (None, holder.tokens) for _, tokens in found)
    return [way for way, tokens in found if tokens is not None]


@pytest.mark.parametrize(
    ("lasts", "margin", "fresh_until", "unhurried_until"),
    [
        pytest.param(1000, 60, 940, 985, id="a margin of a minute"),
        pytest.param(600, 60, 540, 585, id="a margin that is just a tenth of the lifetime"),
        pytest.param(100, 60, 90, 97.5, id="a lifetime too short for it: a tenth"),
        pytest.param(1, 60, 0.9, 0.975, id="a lifetime of a second"),
        pytest.param(1000, 10**9, 900, 975, id="a margin longer than any lifetime"),
    ],
)
def test_in_the_first_three_quarters_of_the_margin_callers_do_not_wait(
    lasts, margin, fresh_until, unhurried_until
):
    holder = a_holder(lasts=lasts)
    moment = lasts / 10_000

    assert good_in(holder, after=0, margin=margin) == WAYS
    assert good_in(holder, after=fresh_until - moment, margin=margin) == WAYS
    assert good_in(holder, after=fresh_until, margin=margin) == WAYS[1:]
    assert good_in(holder, after=unhurried_until - moment, margin=margin) == WAYS[1:]
    assert good_in(holder, after=unhurried_until, margin=margin) == WAYS[2:]
    assert good_in(holder, after=lasts - moment, margin=margin) == WAYS[2:]
    assert good_in(holder, after=lasts, margin=margin) == []


def test_without_a_margin_a_token_is_fresh_until_it_expires():
    assert good_in(a_holder(), after=999, margin=0) == WAYS
    assert good_in(a_holder(), after=1000, margin=0) == []


@pytest.mark.parametrize("after", [0, 10**9])
def test_a_token_without_expiry_is_always_fresh(after):
    assert good_in(a_holder(lasts=None), after=after) == WAYS


@pytest.mark.parametrize("lasts", [0, -5, -(10**9)])
def test_a_token_that_was_issued_expired_is_never_used(lasts):
    assert good_in(a_holder(lasts=lasts), after=0) == []


def test_a_token_with_a_huge_lifetime_is_fresh():
    assert good_in(a_holder(lasts=1e300), after=10**9) == WAYS


def test_a_clock_that_is_set_back_expires_no_token():
    assert good_in(a_holder(), after=-10_000) == WAYS


def test_the_clock_is_read_at_each_call(clock: Clock):
    holder = Holder(TokenSet("at-1", clock(), clock() + 1000))
    request = TokenRequest(60, clock)

    assert request.fresh(holder) is holder.tokens
    clock.advance(1000)
    assert request.unexpired(holder) is None


def test_the_rejected_token_is_never_used():
    assert good_in(a_holder(), after=0, rejected="at-1") == []
    assert good_in(a_holder(lasts=None), after=0, rejected="at-1") == []


def test_another_token_than_the_rejected_one_is_used():
    assert good_in(a_holder(), after=0, rejected="at-0") == WAYS


def test_a_token_for_another_target_is_not_used():
    assert good_in(a_holder(target=ORDERS), after=0) == []
    assert good_in(a_holder(), after=0, target=ORDERS) == []
    assert good_in(a_holder(target=ORDERS), after=0, target=ORDERS) == WAYS


def test_without_tokens_there_is_none():
    assert good_in(Holder(None), after=0) == []


def test_an_unexpired_token_is_returned_instead_of_an_error():
    holder = a_holder()
    request = TokenRequest(60, Clock(NOW + 999))

    assert request.unexpired_or_raise(holder, ReauthenticationRequired()) is holder.tokens


@pytest.mark.parametrize("holder", [Holder(None), a_holder(lasts=0)], ids=["no token", "one that is over"])
def test_without_an_unexpired_token_the_error_is_raised(holder: Holder):
    error = ReauthenticationRequired("sign in again")

    with pytest.raises(ReauthenticationRequired) as raised:
        TokenRequest(60, Clock(NOW)).unexpired_or_raise(holder, error)
    assert raised.value is error


def test_the_default_target_is_that_of_the_login(clock: Clock):
    assert TokenRequest(60, clock) == TokenRequest(60, clock, LOGIN, None)


def test_the_rejected_token_shows_in_no_repr(clock: Clock):
    assert "at-1" not in repr(TokenRequest(60, clock, rejected="at-1"))


# What a caller gets whose token cannot be renewed

EXCHANGED = Target(audience="orders", exchanged=True)


@pytest.mark.parametrize(
    ("error", "target", "kind"),
    [
        (InteractionRequired(), LOGIN, ReauthenticationRequired),
        (InteractionRequired(), ORDERS, ReauthenticationRequired),
        (InteractionRequired(), EXCHANGED, ReauthenticationRequired),
        (ClientRejected(), LOGIN, ReauthenticationRequired),
        (ClientRejected(), ORDERS, ReauthenticationRequired),  # a login asks for its scope and resource
        (ClientRejected(), EXCHANGED, TokenUnavailable),
        (ProviderUnavailable(), LOGIN, TokenUnavailable),
        (ProviderUnavailable(), ORDERS, TokenUnavailable),
    ],
)
def test_a_login_is_offered_where_it_helps(error, target, kind):
    assert type(unrenewed(error, target)) is kind


def test_the_provider_s_retry_after_is_passed_on():
    assert unrenewed(ProviderUnavailable(retry_after_seconds=17), LOGIN).retry_after_seconds == 17


@pytest.mark.parametrize("lasts", [0.1, None])
def test_new_tokens_are_used_while_they_are_valid(lasts):
    tokens = a_holder(lasts=lasts).tokens

    assert alive_or_raise(tokens, now=NOW) is tokens


@pytest.mark.parametrize("lasts", [0, -2])
def test_new_tokens_that_have_expired_on_the_way_are_not_used(lasts):
    with pytest.raises(TokenUnavailable):
        alive_or_raise(a_holder(lasts=lasts).tokens, now=NOW)


@pytest.mark.parametrize(
    ("renewed_at", "expires_at", "too_new"),
    [
        pytest.param(None, NOW + 300, False, id="the first one"),
        pytest.param(NOW, NOW + 300, True, id="renewed now"),
        pytest.param(NOW - 9.9, None, True, id="just before ten seconds"),
        pytest.param(NOW - 10, NOW + 300, False, id="ten seconds ago"),
        pytest.param(NOW - 5, NOW, False, id="over already"),
        pytest.param(NOW + 60, NOW + 300, False, id="a clock that was set back"),
    ],
)
def test_a_token_that_an_api_refuses_is_too_new_to_be_renewed(renewed_at, expires_at, too_new):
    assert is_too_new_to_renew(renewed_at, expires_at, now=NOW) is too_new
