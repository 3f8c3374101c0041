"""The circuit breaker: when it opens for one kind of request, for how long, and how it closes again."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import pytest

from app.bff.backoff import breaker_seconds
from app.bff.dev.provider import Failure, Provider
from app.bff.errors import (
    AppError,
    ClientRejected,
    GrantRefused,
    ProviderUnavailable,
    UntrustedToken,
)
from app.bff.oidc.breaker import Breaker
from app.bff.oidc.endpoints import EndpointClient, RequestKind
from app.bff.oidc.http import tls
from app.bff.oidc.responses import check_revoked, parse_token_response
from app.bff.sessions.session import LOGIN
from tests.bff.harness import (
    Browser,
    Clock,
    RunningApp,
    make_settings,
    new_browser,
    query_params,
    wait_until,
)

ANSWERS = [
    ClientRejected("the provider answered invalid_client"),
    GrantRefused(),
    UntrustedToken(),
    ProviderUnavailable("the provider answered 403", is_outage=False),
]
HTML = b"<html>Forbidden</html>"


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
    """A 503 with a Retry-After."""
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


# What counts, and for which requests.


def test_retry_after_of_an_answer_below_500_opens_it_only_where_no_anonymous_request_causes_one(clock: Clock):
    too_many = ProviderUnavailable("the provider answered 429", retry_after_seconds=17, is_outage=False)
    refreshes, codes = Breaker(clock=clock), Breaker(for_anonymous=True, clock=clock)
    for breaker in (refreshes, codes):
        failure(breaker, too_many)

    assert refused(refreshes) == 17
    success(codes)


CALM = [
    pytest.param(Failure(403, HTML), id="403 with HTML"),
    pytest.param(Failure(404, HTML), id="404"),
    pytest.param(Failure(429, HTML, {"Retry-After": "60"}), id="429"),
    pytest.param(Failure(400, b'{"error": "temporarily_unavailable"}'), id="an error of its own"),
    pytest.param(Failure(200, HTML), id="200 with HTML"),
    pytest.param(Failure(302, b"", {"Location": "/elsewhere"}), id="a redirect"),
]


@pytest.fixture
async def endpoints(provider: Provider, clock: Clock) -> AsyncIterator[EndpointClient]:
    client = EndpointClient(make_settings(provider_timeout_seconds=0.5), tls=tls(), clock=clock)
    yield client
    await client.close()


async def post(endpoints: EndpointClient, kind: RequestKind, url: str) -> None:
    await endpoints.post(kind, url, {}, check_revoked)


async def fail_three_times(endpoints: EndpointClient, kind: RequestKind, url: str) -> None:
    for _ in range(3):
        with pytest.raises(ProviderUnavailable):
            await post(endpoints, kind, url)


@pytest.mark.parametrize("failed", RequestKind)
async def test_each_kind_of_request_has_a_breaker_of_its_own(
    failed: RequestKind, endpoints: EndpointClient, provider: Provider
):
    provider.fails["revoke"] = Failure(503)
    await fail_three_times(endpoints, failed, f"{provider.issuer}/revoke")
    provider.fails["revoke"] = Failure(200)

    for kind in set(RequestKind) - {failed}:
        await post(endpoints, kind, f"{provider.issuer}/revoke")
    with pytest.raises(ProviderUnavailable, match="breaker is open"):
        await post(endpoints, failed, f"{provider.issuer}/revoke")


@pytest.mark.parametrize("answer", CALM)
async def test_nothing_opens_after(answer: Failure, endpoints: EndpointClient, provider: Provider):
    parse = functools.partial(parse_token_response, target=LOGIN, token_type="Bearer")
    provider.fails["token"] = answer
    for _ in range(4):
        with pytest.raises(ProviderUnavailable, match=r"provider answered|token response"):
            await endpoints.post(RequestKind.CODE, f"{provider.issuer}/token", {}, parse)

    assert provider.counts["token"] == 4


async def test_three_time_outs_open_it(endpoints: EndpointClient, provider: Provider):
    provider.holds["revoke"] = asyncio.Event()
    await fail_three_times(endpoints, RequestKind.REFRESH, f"{provider.issuer}/revoke")

    with pytest.raises(ProviderUnavailable, match="breaker is open"):
        await post(endpoints, RequestKind.REFRESH, f"{provider.issuer}/revoke")
    assert provider.counts["revoke"] == 3


async def test_three_refused_connections_open_it(endpoints: EndpointClient, provider: Provider):
    await provider.stop()
    await fail_three_times(endpoints, RequestKind.REFRESH, f"{provider.issuer}/revoke")

    with pytest.raises(ProviderUnavailable, match="breaker is open"):
        await post(endpoints, RequestKind.REFRESH, f"{provider.issuer}/revoke")


# What a browser without a session can do.


async def callback_with_a_made_up_code(app: RunningApp) -> None:
    async with new_browser(app) as stranger:
        state = query_params(await stranger.start_login())["state"]
        response = await stranger.get(
            f"/bff/callback?code=x&state={state}&iss={app.services.provider.issuer}"
        )
    assert response.status_code == 503


@pytest.mark.parametrize("answer", [Failure(403, HTML), Failure(503)], ids=["403 with HTML", "503"])
async def test_made_up_codes_stop_no_refresh(
    answer: Failure, app: RunningApp, browser: Browser, provider: Provider, clock: Clock
):
    await browser.login()
    clock.advance(301)  # the access token is over
    provider.fails["token"] = answer
    for _ in range(4):
        await callback_with_a_made_up_code(app)
    del provider.fails["token"]

    assert (await browser.fetch("/api/echo")).status_code == 200


async def test_made_up_codes_stop_no_login_after_403(app: RunningApp, browser: Browser, provider: Provider):
    provider.fails["token"] = Failure(403, HTML)
    for _ in range(4):
        await callback_with_a_made_up_code(app)
    del provider.fails["token"]

    await browser.login()
    assert (await browser.fetch("/api/echo")).status_code == 200


async def test_a_hundred_codes_that_wait_for_the_provider_leave_refreshes_a_connection(provider: Provider):
    patient = EndpointClient(make_settings(provider_timeout_seconds=20), tls=tls())
    held, url = asyncio.Event(), provider.issuer
    provider.holds["token"], provider.fails["revoke"] = held, Failure(200)
    codes = [asyncio.create_task(post(patient, RequestKind.CODE, f"{url}/token")) for _ in range(101)]
    await wait_until(lambda: provider.counts["token"] == 100)

    await asyncio.wait_for(post(patient, RequestKind.REFRESH, f"{url}/revoke"), 10)
    held.set()
    await asyncio.gather(*codes, return_exceptions=True)
    await patient.close()
