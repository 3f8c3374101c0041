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


# Closed.


def test_requests_pass_concurrently_while_closed(breaker: Breaker):
    with ExitStack() as requests:
        for _ in range(100):
            requests.enter_context(breaker.request())
    success(breaker)


def test_two_failures_in_a_row_change_nothing(breaker: Breaker):
    failures(breaker, 2)

    with breaker.request(), breaker.request():
        pass


def test_three_failures_in_a_row_open_it_for_a_second(breaker: Breaker):
    failures(breaker, 3)

    assert refused(breaker) == 1


def test_a_success_resets_the_count_of_failures(breaker: Breaker):
    for _ in range(5):
        failures(breaker, 2)
        success(breaker)


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda error: type(error).__name__)
def test_a_refusal_counts_as_success(breaker: Breaker, answer: AppError):
    for _ in range(5):
        failures(breaker, 2)
        failure(breaker, answer)


@pytest.mark.parametrize("error", [KeyError("ours"), asyncio.CancelledError()], ids=["a bug", "cancelled"])
def test_another_exception_is_neither_failure_nor_success(breaker, error):
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
    ("failed", "retry_after", "seconds"),
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
        pytest.param(1, 3600, 60, id="Retry-After of an hour, capped"),
        pytest.param(8, 5, 30, id="Retry-After that is shorter than our own pause"),
        pytest.param(8, 45, 45, id="Retry-After that is longer"),
    ],
)
def test_the_pause_after(failed, retry_after, seconds):
    assert breaker_seconds(failed, retry_after) == seconds


def test_every_failed_probe_doubles_the_pause_up_to_half_a_minute(breaker: Breaker, clock: Clock):
    pauses = []
    failures(breaker, 3)
    for _ in range(8):
        pauses.append(refused(breaker))
        clock.advance(pauses[-1])
        failure(breaker)

    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_retry_after_opens_it_at_once(breaker: Breaker, clock: Clock):
    failure(breaker, busy(17))

    assert refused(breaker) == 17
    clock.advance(17)
    success(breaker)


def test_retry_after_opens_it_for_a_minute_at_most(breaker: Breaker):
    failure(breaker, busy(3600))

    assert refused(breaker) == 60


def test_the_default_retry_after_for_browsers_does_not_open_it(breaker):
    error = ProviderUnavailable("the provider took too long")
    assert error.retry_after_seconds == 5

    failure(breaker, error)

    success(breaker)


@pytest.mark.parametrize(("passed", "left"), [(0, 17), (0.2, 17), (1, 16), (16.5, 1), (16.999, 1)])
def test_the_error_while_open_has_the_rest_of_the_pause_in_whole_seconds(breaker, clock, passed, left):
    failure(breaker, busy(17))
    clock.advance(passed)

    assert refused(breaker) == left


def test_requests_while_open_do_not_extend_the_pause(paused: Breaker, clock: Clock):
    for _ in range(100):
        refused(paused)
    clock.advance(1)

    success(paused)


def test_the_last_moment_of_a_pause_is_open_and_the_next_is_half_open(paused: Breaker, clock: Clock):
    clock.advance(0.99)
    refused(paused)
    clock.advance(0.01)

    success(paused)


@pytest.mark.parametrize("seconds", [61, 3600, 10**9])
def test_a_clock_that_is_set_back_does_not_extend_a_pause(paused: Breaker, clock: Clock, seconds):
    clock.advance(-seconds)

    with paused.request():
        assert refused(paused) == 1


# After a pause: one at a time.


def test_half_open_passes_one_probe_and_refuses_the_others(probing: Breaker):
    with probing.request():
        assert refused(probing) == 1
        assert refused(probing) == 1


def test_half_open_passes_one_probe_even_if_it_takes_long(probing: Breaker, clock: Clock):
    with probing.request():
        clock.advance(1000)
        assert refused(probing) == 1


def test_a_successful_probe_closes_it(probing: Breaker):
    success(probing)

    with probing.request(), probing.request():
        pass


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda error: type(error).__name__)
def test_a_probe_with_a_refusal_closes_it(probing: Breaker, answer: AppError):
    failure(probing, answer)

    with probing.request(), probing.request():
        pass


def test_once_closed_it_takes_three_failures_to_open_again(probing: Breaker):
    success(probing)
    failures(probing, 2)
    success(probing)
    failures(probing, 3)

    assert refused(probing) == 1


def test_a_failed_probe_begins_a_longer_pause_followed_by_another_probe(probing, clock):
    failure(probing)

    assert refused(probing) == 2
    clock.advance(2)
    success(probing)


def test_a_failed_probe_after_retry_after_begins_a_longer_pause(breaker: Breaker, clock: Clock):
    failure(breaker, busy(17))
    clock.advance(17)
    failure(breaker)

    assert refused(breaker) == 1


def test_a_probe_may_get_a_retry_after(probing: Breaker):
    failure(probing, busy(45))

    assert refused(probing) == 45


async def test_a_cancelled_probe_lets_the_next_one_through(probing: Breaker):
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


def test_a_probe_with_another_exception_lets_the_next_one_through(probing: Breaker):
    failure(probing, KeyError("ours"))

    with probing.request():
        refused(probing)


# Requests that were under way when the pause began.


def test_a_late_failure_of_an_earlier_request_is_ignored(breaker: Breaker, clock: Clock):
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


def test_a_late_failure_after_recovery_is_ignored(breaker: Breaker, clock: Clock):
    with ExitStack() as requests:
        for _ in range(3):
            requests.enter_context(late(breaker, ProviderUnavailable()))
        failures(breaker, 3)
        clock.advance(1)
        success(breaker)

    success(breaker)


@pytest.mark.parametrize("answer", [None, *ANSWERS], ids=lambda error: type(error).__name__)
def test_a_late_success_closes_it(breaker: Breaker, answer: AppError | None):
    with late(breaker, answer):
        failures(breaker, 3)
        refused(breaker)

    with breaker.request(), breaker.request():
        pass


def test_after_a_late_success_a_failed_probe_begins_no_pause(breaker: Breaker, clock: Clock):
    early = ExitStack()
    early.enter_context(breaker.request())
    failures(breaker, 3)
    clock.advance(1)
    with late(breaker, ProviderUnavailable()):  # the probe
        early.close()

    failure(breaker)
    success(breaker)


def test_each_endpoint_has_its_own_breaker(paused: Breaker, clock: Clock):
    success(Breaker(clock=clock))
