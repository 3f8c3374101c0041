"""The breaker: when it opens for an endpoint of the provider, for how long, and how it closes again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import pytest

from app.bff.backoff import breaker_seconds
from app.bff.errors import AppError, ClientRejected, GrantRefused, ProviderUnavailable, UntrustedToken
from app.bff.oidc.breaker import Breaker
from tests.bff.harness import Clock

ANSWERS = [ClientRejected("the provider answered invalid_client"), GrantRefused(), UntrustedToken()]


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock=clock)


@pytest.fixture
def paused(breaker: Breaker) -> Breaker:
    """One that has just begun its first pause, of a second."""
    failures(breaker, 3)
    return breaker


@pytest.fixture
def probing(paused: Breaker, clock: Clock) -> Breaker:
    """One whose first pause is over: the next request is a probe."""
    clock.advance(1)
    return paused


def success(breaker: Breaker) -> None:
    with breaker.request():
        pass


def failure(breaker: Breaker, error: BaseException | None = None) -> None:
    error = error or ProviderUnavailable("the provider answered 500")
    with pytest.raises(type(error)) as raised, breaker.request():
        raise error
    assert raised.value is error


def failures(breaker: Breaker, count: int) -> None:
    for _ in range(count):
        failure(breaker)


def busy(seconds: int) -> ProviderUnavailable:
    """A 503 or 429 with a Retry-After."""
    return ProviderUnavailable("the provider answered 503", retry_after_seconds=seconds)


@contextmanager
def late(breaker: Breaker, error: AppError | None = None) -> Iterator[None]:
    """Wrap what happens while a request is under way, which then succeeds or fails with `error`."""
    with nullcontext() if error is None else pytest.raises(type(error)), breaker.request():
        yield
        if error is not None:
            raise error


def refused(breaker: Breaker) -> int | None:
    """Expect a refusal without a request, and return when it says to try again."""
    with pytest.raises(ProviderUnavailable, match="circuit breaker is open") as refusal, breaker.request():
        pytest.fail("the request was sent")
    return refusal.value.retry_after_seconds


# While all is well, nothing is in anybody's way.


def test_requests_pass_side_by_side_while_the_provider_is_healthy(breaker: Breaker):
    with ExitStack() as requests:
        for _ in range(100):
            requests.enter_context(breaker.request())
    success(breaker)


def test_two_failures_in_a_row_change_nothing(breaker: Breaker):
    failures(breaker, 2)

    with breaker.request(), breaker.request():
        pass


def test_three_failures_in_a_row_begin_a_pause_of_a_second(breaker: Breaker):
    failures(breaker, 3)

    assert refused(breaker) == 1


def test_a_success_in_between_begins_the_count_again(breaker: Breaker):
    for _ in range(5):
        failures(breaker, 2)
        success(breaker)


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda error: type(error).__name__)
def test_a_refusal_is_an_answer_and_begins_the_count_again_too(breaker: Breaker, answer: AppError):
    for _ in range(5):
        failures(breaker, 2)
        failure(breaker, answer)


@pytest.mark.parametrize("error", [KeyError("ours"), asyncio.CancelledError()], ids=["a bug", "cancelled"])
def test_what_says_nothing_of_the_provider_is_neither_failure_nor_success(breaker, error):
    failures(breaker, 2)
    failure(breaker, error)
    failure(breaker, error)
    success(breaker)

    failures(breaker, 2)
    failure(breaker, error)
    failure(breaker)
    refused(breaker)


# How long a pause is.


@pytest.mark.parametrize(
    ("failed", "wanted", "seconds"),
    [
        pytest.param(1, None, 0, id="one failure"),
        pytest.param(2, None, 0, id="two failures"),
        pytest.param(3, None, 1, id="three failures"),
        pytest.param(4, None, 2, id="a failed probe"),
        pytest.param(7, None, 16, id="four failed probes"),
        pytest.param(8, None, 30, id="five, and never longer"),
        pytest.param(10**6, None, 30, id="a million failures"),
        pytest.param(1, 17, 17, id="RFC 9110 §10.2.3: Retry-After counts at once"),
        pytest.param(1, 0, 0, id="Retry-After of nothing"),
        pytest.param(3, 0, 1, id="Retry-After of nothing, too often"),
        pytest.param(1, 60, 60, id="Retry-After of a minute"),
        pytest.param(1, 3600, 60, id="Retry-After of an hour: nobody could sign in"),
        pytest.param(8, 5, 30, id="Retry-After that is shorter than our own pause"),
        pytest.param(8, 45, 45, id="Retry-After that is longer"),
    ],
)
def test_the_pause_after(failed, wanted, seconds):
    assert breaker_seconds(failed, wanted) == seconds


def test_every_failed_probe_makes_the_next_pause_longer_up_to_half_a_minute(breaker: Breaker, clock: Clock):
    pauses = []
    failures(breaker, 3)
    for _ in range(8):
        pauses.append(refused(breaker))
        clock.advance(pauses[-1])
        failure(breaker)

    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_provider_that_says_when_to_come_back_is_left_alone_at_once(breaker: Breaker, clock: Clock):
    failure(breaker, busy(17))

    assert refused(breaker) == 17
    clock.advance(17)
    success(breaker)


def test_but_never_for_more_than_a_minute(breaker: Breaker):
    failure(breaker, busy(3600))

    assert refused(breaker) == 60


def test_a_provider_that_does_not_say_is_not_left_alone_for_the_seconds_that_we_tell_a_browser(breaker):
    error = ProviderUnavailable("the provider took too long")
    assert error.retry_after_seconds == 5

    failure(breaker, error)

    success(breaker)


@pytest.mark.parametrize(("passed", "left"), [(0, 17), (0.2, 17), (1, 16), (16.5, 1), (16.999, 1)])
def test_a_refusal_says_when_the_pause_is_over_in_whole_seconds(breaker, clock, passed, left):
    failure(breaker, busy(17))
    clock.advance(passed)

    assert refused(breaker) == left


def test_refusals_do_not_make_a_pause_longer(paused: Breaker, clock: Clock):
    for _ in range(100):
        refused(paused)
    clock.advance(1)

    success(paused)


def test_the_last_moment_of_a_pause_belongs_to_it_and_the_next_does_not(paused: Breaker, clock: Clock):
    clock.advance(0.99)
    refused(paused)
    clock.advance(0.01)

    success(paused)


@pytest.mark.parametrize("seconds", [61, 3600, 10**9])
def test_a_clock_that_is_set_back_does_not_make_a_pause_longer(paused: Breaker, clock: Clock, seconds):
    clock.advance(-seconds)

    with paused.request():
        assert refused(paused) == 1


# After a pause: one at a time.


def test_only_one_request_tries_while_the_others_are_refused(probing: Breaker):
    with probing.request():
        assert refused(probing) == 1
        assert refused(probing) == 1


def test_even_if_it_takes_long(probing: Breaker, clock: Clock):
    with probing.request():
        clock.advance(1000)
        assert refused(probing) == 1


def test_a_probe_that_succeeds_lets_everybody_through(probing: Breaker):
    success(probing)

    with probing.request(), probing.request():
        pass


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda error: type(error).__name__)
def test_a_probe_that_is_refused_has_found_the_provider_well(probing: Breaker, answer: AppError):
    failure(probing, answer)

    with probing.request(), probing.request():
        pass


def test_after_a_success_it_takes_three_failures_again(probing: Breaker):
    success(probing)
    failures(probing, 2)
    success(probing)
    failures(probing, 3)

    assert refused(probing) == 1


def test_a_probe_that_fails_begins_a_longer_pause_and_after_it_another_may_try(probing, clock):
    failure(probing)

    assert refused(probing) == 2
    clock.advance(2)
    success(probing)


def test_so_does_one_after_a_pause_that_the_provider_asked_for(breaker: Breaker, clock: Clock):
    failure(breaker, busy(17))
    clock.advance(17)
    failure(breaker)

    assert refused(breaker) == 1


def test_a_probe_may_be_told_when_to_come_back(probing: Breaker):
    failure(probing, busy(45))

    assert refused(probing) == 45


async def test_a_probe_that_is_cancelled_leaves_the_way_free_for_the_next(probing: Breaker):
    async def request() -> None:
        with probing.request():
            await asyncio.Event().wait()

    probe = asyncio.create_task(request())
    await asyncio.sleep(0)
    refused(probing)
    probe.cancel()
    await asyncio.wait([probe])

    with probing.request():  # a probe itself: nothing is known yet
        refused(probing)


def test_a_probe_that_fails_for_a_reason_of_ours_leaves_the_way_free_too(probing: Breaker):
    failure(probing, KeyError("ours"))

    with probing.request():
        refused(probing)


# Requests that were under way when the pause began.


def test_a_late_failure_is_no_news(breaker: Breaker, clock: Clock):
    with late(breaker, ProviderUnavailable()):
        failures(breaker, 3)
        clock.advance(0.9)

    assert refused(breaker) == 1
    clock.advance(0.1)
    failure(breaker)
    assert refused(breaker) == 2


def test_a_late_failure_does_not_let_a_second_probe_through(breaker: Breaker, clock: Clock):
    with ExitStack() as probe:
        with late(breaker, ProviderUnavailable()):
            failures(breaker, 3)
            clock.advance(1)
            probe.enter_context(breaker.request())

        refused(breaker)


def test_it_is_none_after_a_probe_has_succeeded_either(breaker: Breaker, clock: Clock):
    with ExitStack() as requests:
        for _ in range(3):
            requests.enter_context(late(breaker, ProviderUnavailable()))
        failures(breaker, 3)
        clock.advance(1)
        success(breaker)

    success(breaker)


@pytest.mark.parametrize("answer", [None, *ANSWERS], ids=lambda error: type(error).__name__)
def test_a_late_answer_opens_again(breaker: Breaker, answer: AppError | None):
    with late(breaker, answer):
        failures(breaker, 3)
        refused(breaker)

    with breaker.request(), breaker.request():
        pass


def test_after_a_late_answer_a_probe_that_fails_begins_no_pause(breaker: Breaker, clock: Clock):
    early = ExitStack()
    early.enter_context(breaker.request())
    failures(breaker, 3)
    clock.advance(1)
    with late(breaker, ProviderUnavailable()):  # the probe
        early.close()

    failure(breaker)
    success(breaker)


def test_one_endpoint_that_fails_says_nothing_about_another(paused: Breaker, clock: Clock):
    success(Breaker(clock=clock))
