"""May an expired lease of another process be taken over now? May a refusal end the session? As tables."""

from __future__ import annotations

import pytest

from app.bff.sessions.mongo.outages import GRACE_SECONDS, Outages, may_take_over
from app.bff.sessions.mongo.sessions import ahead_seconds
from app.bff.sessions.session import LOGIN, Session, Target, TokenSet
from app.bff.tokens.policy import Refusal, can_refresh, judge_refusal
from tests.bff.harness import Clock

EXCHANGED = Target(audience="orders", exchanged=True)


def a_session(*, refresh_token: str | None = "rt-1", taken_over: bool = False) -> Session:
    return Session(
        ref="ref",
        issuer="https://login.example",
        subject="alice",
        sid="sid",
        claims={},
        tokens=TokenSet("at-1", 0, 300, refresh_token),
        created_at=0,
        renewed_at=0,
        expires_at=3600,
        lease_taken_over=taken_over,
    )


@pytest.mark.parametrize(
    ("failing", "seconds_since_recovery", "may"),
    [
        pytest.param(False, float("inf"), True, id="no outage was ever seen"),
        pytest.param(True, float("inf"), False, id="the store fails"),
        pytest.param(False, 0, False, id="it has just answered again"),
        pytest.param(False, GRACE_SECONDS - 0.01, False, id="the others may be about to save"),
        pytest.param(False, GRACE_SECONDS, True, id="they have had the time to"),
        pytest.param(True, GRACE_SECONDS, False, id="it fails once more"),
    ],
)
def test_an_expired_lease_may_be_taken_over(failing: bool, seconds_since_recovery: float, may: bool):
    assert may_take_over(failing=failing, seconds_since_recovery=seconds_since_recovery) == may


def test_the_grace_begins_with_the_first_answer_after_the_last_failure():
    clock = Clock()
    outages = Outages(clock)
    for _ in range(2):
        outages.failed()
        clock.advance(60)  # nothing is asked for a minute
        assert not outages.may_take_over
        outages.answered()
        clock.advance(GRACE_SECONDS - 1)
        outages.answered()
        assert not outages.may_take_over
    clock.advance(1)
    assert outages.may_take_over


@pytest.mark.parametrize(
    ("taken_over", "now", "waited_seconds", "judgement"),
    [
        pytest.param(False, "rt-1", 0, Refusal.END, id="it is refused to the lease's first owner"),
        pytest.param(False, "rt-2", 0, Refusal.RETRY, id="another process has saved a newer one"),
        pytest.param(False, None, 0, Refusal.RETRY, id="it was revoked by hand"),
        pytest.param(True, "rt-1", 0, Refusal.WAIT, id="the owner of the expired lease may still save"),
        pytest.param(True, "rt-1", 2.9, Refusal.WAIT, id="it still may"),
        pytest.param(True, "rt-1", 3, Refusal.END, id="it has not"),
        pytest.param(True, "rt-2", 0, Refusal.RETRY, id="it has saved meanwhile"),
        pytest.param(True, "rt-2", 99, Refusal.RETRY, id="it has saved late"),
    ],
)
def test_a_refused_refresh_token_means(
    taken_over: bool, now: str | None, waited_seconds: float, judgement: Refusal
):
    refused, current = a_session(taken_over=taken_over), a_session(refresh_token=now)

    assert judge_refusal(current, refused, waited_seconds=waited_seconds) is judgement


@pytest.mark.parametrize(
    ("session", "target", "can"),
    [
        pytest.param(a_session(), LOGIN, True, id="with a refresh token"),
        pytest.param(a_session(refresh_token=None), LOGIN, False, id="without one"),
        pytest.param(a_session(refresh_token=None), EXCHANGED, True, id="by token exchange"),
    ],
)
def test_only_a_session_that_cannot_get_a_token_needs_another_login(
    session: Session, target: Target, can: bool
):
    assert can_refresh(session, target) == can


@pytest.mark.parametrize(
    ("store_time", "sent_at", "received_at", "ahead"),
    [
        pytest.param(100.5, 100, 101, 0, id="between the two"),
        pytest.param(90, 100, 101, 10, id="we are ahead"),
        pytest.param(131, 100, 101, -30, id="we are behind"),
        pytest.param(104, 100, 105, 0, id="a slow answer proves nothing"),
    ],
)
def test_our_clock_is_ahead_of_the_stores_by_at_least(
    store_time: float, sent_at: float, received_at: float, ahead: float
):
    assert ahead_seconds(store_time, sent_at=sent_at, received_at=received_at) == ahead
