"""Which access token a caller can use: fresh, good enough while it is renewed, or just alive."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from app.bff.errors import ReauthenticationRequired
from app.bff.sessions.session import LOGIN, Target, TokenSet
from app.bff.tokens.policy import TokenRequest
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
    wanted = TokenRequest(margin, Clock(NOW + after), **changed)
    found = [(way, getattr(wanted, way)(holder)) for way in WAYS]
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
def test_the_first_three_quarters_of_the_margin_are_the_time_in_which_nobody_waits(
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


def test_without_a_margin_a_token_is_fresh_until_it_is_over():
    assert good_in(a_holder(), after=999, margin=0) == WAYS
    assert good_in(a_holder(), after=1000, margin=0) == []


@pytest.mark.parametrize("after", [0, 10**9])
def test_a_token_whose_end_is_not_known_is_always_good(after):
    assert good_in(a_holder(lasts=None), after=after) == WAYS


@pytest.mark.parametrize("lasts", [0, -5, -(10**9)])
def test_a_token_that_came_expired_is_good_for_nothing(lasts):
    assert good_in(a_holder(lasts=lasts), after=0) == []


def test_a_token_that_lasts_longer_than_anybody_lives_is_good():
    assert good_in(a_holder(lasts=1e300), after=10**9) == WAYS


def test_a_clock_that_goes_back_makes_no_token_bad():
    assert good_in(a_holder(), after=-10_000) == WAYS


def test_the_clock_is_read_when_somebody_asks(clock: Clock):
    holder = Holder(TokenSet("at-1", clock(), clock() + 1000))
    wanted = TokenRequest(60, clock)

    assert wanted.fresh(holder) is holder.tokens
    clock.advance(1000)
    assert wanted.unexpired(holder) is None


def test_the_token_that_an_api_has_refused_is_good_for_nothing():
    assert good_in(a_holder(), after=0, rejected="at-1") == []
    assert good_in(a_holder(lasts=None), after=0, rejected="at-1") == []


def test_any_other_token_than_that_is_good():
    assert good_in(a_holder(), after=0, rejected="at-0") == WAYS


def test_a_token_for_something_else_is_not_what_is_wanted():
    assert good_in(a_holder(target=ORDERS), after=0) == []
    assert good_in(a_holder(), after=0, target=ORDERS) == []
    assert good_in(a_holder(target=ORDERS), after=0, target=ORDERS) == WAYS


def test_where_there_is_none_there_is_none():
    assert good_in(Holder(None), after=0) == []


def test_a_token_inside_the_margin_is_better_than_an_error():
    holder = a_holder()
    wanted = TokenRequest(60, Clock(NOW + 999))

    assert wanted.unexpired_or_raise(holder, ReauthenticationRequired()) is holder.tokens


@pytest.mark.parametrize("holder", [Holder(None), a_holder(lasts=0)], ids=["no token", "one that is over"])
def test_otherwise_the_error_it_is(holder: Holder):
    error = ReauthenticationRequired("sign in again")

    with pytest.raises(ReauthenticationRequired) as raised:
        TokenRequest(60, Clock(NOW)).unexpired_or_raise(holder, error)
    assert raised.value is error


def test_what_is_wanted_unless_somebody_says_otherwise_is_the_token_of_the_login(clock: Clock):
    assert TokenRequest(60, clock) == TokenRequest(60, clock, LOGIN, None)


def test_the_refused_token_shows_in_no_repr(clock: Clock):
    assert "at-1" not in repr(TokenRequest(60, clock, rejected="at-1"))
