"""No token, code, cookie, verifier, secret or key is ever in a log line, an answer or a URL.

Every flow runs with all logging on, in both formats, while a witness remembers what went by.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from html import unescape
from urllib.parse import quote_plus, urlsplit

import httpx2
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Failure, Provider
from app.bff.handlers.authenticated import authenticated
from app.bff.handlers.base import BaseHandler
from app.bff.monitoring.recording import Recording
from app.bff.sessions.session import session_ref
from app.bff.telemetry.exposition import exposed
from app.bff.telemetry.instruments import LOGINS
from app.bff.telemetry.logs import configure_logging
from app.bff.telemetry.metrics import Metrics, merged
from app.bff.telemetry.observer import installed
from app.bff.telemetry.resource import resource_of
from app.bff.telemetry.traces import Traces
from tests.bff.harness import (
    CLIENT_ID,
    CLIENT_SECRET,
    KEY,
    Browser,
    Clock,
    RunningApp,
    new_browser,
    query_params,
    response_cookies,
    running_app,
    wait_until,
)
from tests.bff.streaming_api import wire_of

# Our provider's codes and tokens look like nothing else; an id token begins with `{"` in base64.
LOOKS_SECRET = re.compile(r"\b(?:(?:at|rt|code)-[\w-]{20,}|eyJ[\w-]{10,})")
BASIC = base64.b64encode(f"{quote_plus(CLIENT_ID)}:{quote_plus(CLIENT_SECRET)}".encode()).decode()
STANDING = {
    CLIENT_SECRET,
    quote_plus(CLIENT_SECRET),
    BASIC,
    base64.b64encode(KEY).decode(),
    KEY.hex(),
    repr(KEY),
}
PERSONAL = {"alice", "Alice Adams", "bob"}  # in no metric and no span
# What the protocol itself puts into a URL of the provider, and so into a Location header.
ALLOWED_AT_THE_PROVIDER = {
    *("response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "prompt"),
    *("code_challenge", "code_challenge_method", "id_token_hint", "post_logout_redirect_uri"),
    *("request_uri", "dpop_jkt", "resource"),
}


@dataclass
class Witness:
    """Remembers the secrets that went by, and every answer of ours that a browser got."""

    provider: Provider
    logs: io.StringIO
    secrets: set[str] = field(default_factory=lambda: set(STANDING))
    sids: set[str] = field(default_factory=set)  # in our own links, and nowhere else
    answers: list[httpx2.Response] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)
    spans: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)

    def __post_init__(self) -> None:
        self.traces = Traces(resource_of("secrets", "1"), exporter=self.spans)

    def watch(self, browser: Browser) -> None:
        browser.http.event_hooks["response"] = [self._see]

    async def _see(self, response: httpx2.Response) -> None:
        await response.aread()
        for url in (str(response.request.url), response.headers.get("Location", "")):
            self._learn(query_params(url))
        self._learn(self.provider.last_request.get("token", {}))
        self._learn(self.provider.last_request.get("revoke", {}))
        for name, cookie in response_cookies(response).items():
            self.secrets |= {cookie.value, session_ref(cookie.value)} if "bff" in name else set()
        self.secrets.discard("")
        if response.request.url.host == "localhost":
            self.answers.append(response)

    def _learn(self, params: dict[str, str]) -> None:
        names = ("code", "state", "nonce", "code_verifier", "refresh_token", "token", "id_token_hint")
        names += ("subject_token",)
        self.secrets |= {params[name] for name in names if len(params.get(name, "")) > 15}
        self.sids |= {params[name] for name in ("sid",) if name in params}

    def leaks(self) -> set[str]:
        """The secrets found in places where none may be."""
        for handler in logging.getLogger().handlers:
            handler.flush()
        found = [self._found(self.logs.getvalue(), self.secrets | self.sids)]
        for answer in self.answers:
            headers = [
                f"{name}: {value}" for name, value in answer.headers.multi_items() if name != "set-cookie"
            ]
            if answer.headers.get("Location", "").startswith(self.provider.issuer):
                assert query_params(answer.headers["Location"]).keys() <= ALLOWED_AT_THE_PROVIDER
                headers = [line for line in headers if not line.startswith("location")]
            found.append(self._found("\n".join([*headers, answer.text, unescape(answer.text)]), self.secrets))
        found.append(self._found(self.telemetry, self.secrets | self.sids | PERSONAL))
        return set().union(*found)

    @property
    def telemetry(self) -> str:
        """All metrics and spans, as they are sent."""
        self.traces.provider.force_flush()
        scrape, _ = exposed(merged([self.metrics.snapshot()]))
        return scrape.decode() + "".join(span.to_json() for span in self.spans.get_finished_spans())

    def _found(self, text: str, secrets: set[str]) -> set[str]:
        return {secret for secret in secrets if secret in text} | set(LOOKS_SECRET.findall(text))


@dataclass
class World:
    app: RunningApp
    browser: Browser
    provider: Provider
    api: DemoApi
    clock: Clock

    async def callback(self) -> str:
        return await self.browser.choose(await self.browser.start_login("/account"))


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    """All that is logged, as the application formats it: as words, and as JSON."""
    root, lines = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    with contextlib.redirect_stderr(lines):
        configure_logging(debug=True)
        words = root.handlers[:]
        configure_logging(debug=False)
    root.handlers.extend(words)
    root.setLevel(logging.DEBUG)
    yield lines
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
async def witness(provider: Provider, logs: io.StringIO) -> AsyncIterator[Witness]:
    """Metrics and traces are on: it reads them as well."""
    witness = Witness(provider, logs)
    with installed(Recording(witness.metrics, witness.traces)):
        yield witness
    witness.traces.close(within_seconds=5)


@pytest.fixture
async def app(witness: Witness, provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    async with running_app(provider, api, clock=clock) as app:
        yield app


@pytest.fixture
async def world(
    witness: Witness, app: RunningApp, browser: Browser, provider: Provider, api: DemoApi, clock: Clock
) -> AsyncIterator[World]:
    witness.watch(browser)
    app.tornado.add_handlers(r".*", [(r"/breaks/(.*)", Breaks)])
    return World(app, browser, provider, api, clock)


class Breaks(BaseHandler):
    """A page with mistakes in it, made while it holds a token."""

    @authenticated
    async def get(self, how: str) -> None:
        token = await self.get_user_access_token()
        if how == "elsewhere":
            await self.create_client("apiClient").get(f"http://evil.example/?{len(token)}")
        if how == "refused":
            await self.create_client("apiClient").get("status/403", raise_for_status=True)
        if how == "client":
            self.create_client("nameless")
        raise RuntimeError(f"broken, with a token of {len(token)} letters")


# The flows


async def signing_in_looking_around_and_signing_out(world: World) -> None:
    await world.browser.login()
    for path in ("/", "/account", "/nowhere"):
        await world.browser.get(path)
    for path in ("/bff/user", "/api/echo", "/api/todos", "/api/redirect?to=/", "/api/../x"):
        await world.browser.fetch(path)
    out = await world.browser.logout()
    back = await world.browser.http.get(out.headers["Location"])
    await world.browser.get(back.headers["Location"])


async def a_page_that_breaks(world: World) -> None:
    await world.browser.login()
    for how in ("by itself", "elsewhere", "refused", "client"):
        assert (await world.browser.get(f"/breaks/{how}")).status_code >= 500


async def an_answer_that_is_repeated_or_forged(world: World) -> None:
    link = await world.callback()
    await world.browser.get(link)
    world.browser.delete_cookie("bff")
    for url in (link, f"{link}&state=again", link.replace("code-", "code-x"), f"{link}&error=access_denied"):
        assert (await world.browser.get(url)).status_code == 400
        assert (await world.browser.fetch(url, "POST")).status_code == 405


async def an_attempt_that_was_damaged(world: World) -> None:
    link = await world.callback()
    [name] = [name for name in world.browser.cookie_names() if name.startswith("bff-login")]
    damaged = f"{name}={str(world.browser.cookie(name))[:-4]}"
    assert (await world.browser.get(link, Cookie=damaged)).status_code == 400


async def a_code_that_the_provider_refuses(world: World) -> None:
    link = await world.callback()
    world.clock.advance(61)
    assert (await world.browser.get(link)).status_code == 400


async def a_person_who_declines(world: World) -> None:
    back = await world.browser.http.post(await world.browser.start_login(), data={"deny": "yes"})
    assert (await world.browser.get(back.headers["Location"])).status_code == 400


async def id_tokens_that_are_refused(world: World) -> None:
    world.provider.overrides["id_token"] = {"nonce": "of-another-login"}
    assert (await world.browser.get(await world.callback())).status_code == 400
    world.provider.overrides["id_token"] = {"aud": "another-client"}
    assert (await world.browser.get(await world.callback())).status_code == 400
    world.provider.signs_with_unpublished_key = True
    assert (await world.browser.get(await world.callback())).status_code == 400
    world.provider.signing_alg = "none"
    assert (await world.browser.get(await world.callback())).status_code == 400


async def a_provider_that_repeats_what_it_got_in_its_errors(world: World) -> None:
    for status, error in (
        (400, "invalid_request"),
        (400, "invalid_grant"),
        (500, "x"),
        (401, "invalid_client"),
        (200, "x"),
    ):
        link = await world.callback()
        words = f"no such thing as {query_params(link)['code']} {CLIENT_SECRET} {BASIC}"
        body = {"error": error, "error_description": words, "id_token": f"eyJhbGciOiJSUzI1NiJ9.{words}"}
        world.provider.fails["token"] = Failure(status, json.dumps(body).encode())
        assert (await world.browser.get(link)).status_code in (400, 503)


async def a_provider_that_repeats_what_it_got_in_its_answer_to_the_browser(world: World) -> None:
    for error in ("invalid_scope", "access_denied", "eyJhbGciOiJSUzI1NiJ9", "at-" + "a" * 30):
        state = query_params(await world.browser.start_login())["state"]
        words = f"neither {state}, at-{'a' * 30} nor {CLIENT_SECRET} {quote_plus(CLIENT_SECRET)} {BASIC}"
        world.provider.overrides["callback"] = {"code": None, "error": error, "error_description": words}
        assert (await world.browser.get(await world.callback())).status_code == 400


async def a_revocation_whose_refusal_repeats_the_token(world: World) -> None:
    await world.browser.login()
    session = await world.app.session_of(world.browser)
    assert session
    words = {"error": "unsupported_token_type", "error_description": f"not {session.tokens.refresh_token}!"}
    world.provider.fails["revoke"] = Failure(400, json.dumps(words).encode())
    left = await world.browser.logout()
    await world.browser.get((await world.browser.http.get(left.headers["Location"])).headers["Location"])


async def a_token_response_that_is_none(world: World) -> None:
    link = await world.callback()
    body = {"access_token": "at-" + "a" * 30, "id_token": "eyJhbGciOiJub25lIn0.eyJhbGciOiJub25lIn0."}
    world.provider.fails["token"] = Failure(200, json.dumps(body).encode())
    assert (await world.browser.get(link)).status_code == 400
    world.provider.fails["token"] = Failure(200, b"at-" + b"a" * 30)
    assert (await world.browser.get(await world.callback())).status_code == 503


async def a_provider_that_goes_away(world: World) -> None:
    link = await world.callback()
    await world.browser.login()
    url = await world.browser.logout_url()
    await world.provider.stop()
    assert (await world.browser.get(link)).status_code in (302, 503)
    world.clock.advance(301)
    assert (await world.browser.fetch("/api/echo")).status_code == 401
    assert (await world.browser.get("/account")).status_code == 401
    await world.browser.get(url)


async def a_refresh(world: World) -> None:
    await world.browser.login()
    world.clock.advance(301)
    assert (await world.browser.fetch("/api/echo")).status_code == 200
    assert (await world.browser.get("/account")).status_code == 200


async def a_refresh_that_is_refused(world: World) -> None:
    await world.browser.login()
    world.provider.end_all_grants()
    world.clock.advance(301)
    assert (await world.browser.fetch("/api/echo")).status_code == 401


async def a_refresh_with_the_id_token_of_another_user(world: World) -> None:
    await world.browser.login()
    world.provider.overrides["id_token"] = {"sub": "bob"}
    world.clock.advance(301)
    assert (await world.browser.get("/account")).status_code == 401


async def a_refresh_that_fails_with_many_words(world: World) -> None:
    await world.browser.login()
    session = await world.app.session_of(world.browser)
    assert session
    words = json.dumps({"error": "x", "error_description": session.tokens.refresh_token}).encode()
    world.provider.fails["token"] = Failure(400, words)
    world.clock.advance(301)
    assert (await world.browser.fetch("/api/echo")).status_code == 401
    assert (await world.browser.get("/account")).status_code == 401


async def an_api_that_refuses_the_token(world: World) -> None:
    await world.browser.login()
    world.api.fails["echo"] = Failure(401, headers={"WWW-Authenticate": "Bearer"})
    assert (await world.browser.fetch("/api/echo")).status_code == 401
    await world.browser.get("/account")


async def an_api_that_goes_away(world: World) -> None:
    await world.browser.login()
    world.api.holds["echo"] = asyncio.Event()
    call = asyncio.create_task(world.browser.fetch("/api/echo"))
    await wait_until(lambda: world.api.counts["echo"] == 1)
    await world.api.stop()
    assert (await call).status_code == 502
    assert (await world.browser.fetch("/api/echo")).status_code == 502
    await world.browser.get("/account")


async def a_logout_with_a_wrong_sid(world: World) -> None:
    await world.browser.login()
    assert (await world.browser.get("/bff/logout?sid=guessed")).status_code == 400
    assert (await world.browser.get(f"{await world.browser.logout_url()}&returnUrl=//x")).status_code == 302


async def a_revocation_that_fails(world: World) -> None:
    for failure in (Failure(503), Failure(400, json.dumps({"error": "x"}).encode())):
        await world.browser.login()
        world.provider.fails["revoke"] = failure
        assert (await world.browser.logout()).status_code == 302


async def a_revocation_that_is_made_up_for(world: World) -> None:
    await world.browser.login()
    world.provider.fails["revoke"] = Failure(503)
    assert (await world.browser.logout()).status_code == 302
    world.clock.advance(61)
    await world.app.services.revocation.drain_due()
    world.provider.fails.clear()
    world.clock.advance(61)
    await world.app.services.revocation.drain_due()
    assert world.provider.counts["revoke"] == 2


async def tokens_that_are_bound_and_exchanged_and_a_request_that_is_pushed(world: World) -> None:
    kinds = {"dpop": True, "par": True, "http_clients": {"apiClient": exchanging(world.api)}}
    world.provider.dpop_nonce = world.api.dpop_nonce = "newest"
    async with (
        running_app(world.provider, world.api, clock=world.clock, **kinds) as app,
        new_browser(app) as browser,
    ):
        browser.http.event_hooks = world.browser.http.event_hooks
        await browser.login()
        assert (await browser.fetch("/api/echo")).status_code == 200
        world.provider.fails["token"] = Failure(400, b'{"error": "invalid_dpop_proof"}')
        world.clock.advance(301)
        assert (await browser.fetch("/api/echo")).status_code == 401


def exchanging(api: DemoApi) -> dict[str, str]:
    return {"base_url": api.base_url, "token": "exchange", "audience": "https://orders.example"}


async def cookies_that_open_nothing(world: World) -> None:
    await world.browser.login()
    cookie = str(world.browser.cookie("bff"))
    for damaged in (cookie[:-1], cookie * 50):
        sent = {"Cookie": f"bff={damaged}", "X-CSRF": "1"}
        assert (await world.browser.http.get("/api/echo", headers=sent)).status_code == 401
        assert (await world.browser.get("/account", Cookie=f"bff={damaged}")).status_code == 302


Flow = Callable[[World], Awaitable[None]]
FLOWS: list[Flow] = [
    signing_in_looking_around_and_signing_out,
    a_page_that_breaks,
    an_answer_that_is_repeated_or_forged,
    an_attempt_that_was_damaged,
    a_code_that_the_provider_refuses,
    a_person_who_declines,
    id_tokens_that_are_refused,
    a_provider_that_repeats_what_it_got_in_its_errors,
    a_provider_that_repeats_what_it_got_in_its_answer_to_the_browser,
    a_revocation_whose_refusal_repeats_the_token,
    a_token_response_that_is_none,
    a_provider_that_goes_away,
    a_refresh,
    a_refresh_that_is_refused,
    a_refresh_with_the_id_token_of_another_user,
    a_refresh_that_fails_with_many_words,
    an_api_that_refuses_the_token,
    an_api_that_goes_away,
    a_logout_with_a_wrong_sid,
    a_revocation_that_fails,
    a_revocation_that_is_made_up_for,
    tokens_that_are_bound_and_exchanged_and_a_request_that_is_pushed,
    cookies_that_open_nothing,
]


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
async def test_nothing_leaks_from(flow: Flow, world: World, witness: Witness):
    await flow(world)

    assert len(witness.secrets - STANDING) >= 4  # state, nonce, the attempt's cookie and its hash
    assert "request answered" in witness.logs.getvalue()
    assert "http_server_request_duration_seconds_count" in witness.telemetry
    assert '"kind": "SpanKind.SERVER"' in witness.telemetry
    assert not witness.leaks()


async def test_nothing_leaks_from_a_record_that_cannot_be_opened(
    witness: Witness, mongod: Mongod, provider: Provider, api: DemoApi, clock: Clock
):
    store = {"session_store": f"{mongod.uri.rstrip('/')}/secrets"}
    async with running_app(provider, api, clock=clock, **store) as app, new_browser(app) as browser:
        witness.watch(browser)
        await browser.login()
        session_id = browser.cookie("bff")
    async with (
        running_app(provider, api, clock=clock, **store, encryption_keys=[bytes(32)]) as app,
        new_browser(app) as browser,
    ):
        witness.watch(browser)
        response = await browser.get("/account", Cookie=f"bff={session_id}")

    assert response.status_code == 302
    assert "session could not be decrypted" in witness.logs.getvalue()
    assert not witness.leaks()


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
@pytest.mark.parametrize("place", ["message", "field", "traceback"])
async def test_the_witness_would_notice(place: str, level: int, world: World, witness: Witness):
    await world.browser.login()
    session_id = world.browser.cookie("bff")
    log = logging.getLogger("app.leaky")
    if place == "message":
        log.log(level, f"a message with {session_id}")
    elif place == "field":
        log.log(level, "a field", extra={"leak": session_id})
    else:
        log.log(level, "a traceback", exc_info=RuntimeError(session_id))

    assert witness.leaks() == {session_id}


@pytest.mark.parametrize("place", ["metric", "span"])
@pytest.mark.parametrize("leak", ["session id", "user"])
async def test_the_witness_would_notice_a_leak_in_telemetry(
    place: str, leak: str, world: World, witness: Witness
):
    await world.browser.login()
    value = str(world.browser.cookie("bff")) if leak == "session id" else "alice"
    if place == "metric":
        witness.metrics.add(LOGINS, (value,))
    else:
        witness.traces.enter_work(value)[0].end()

    assert witness.leaks() == {value}


async def test_the_witness_would_notice_a_leak_in_an_answer(world: World, witness: Witness):
    await world.browser.login()
    token = (await world.app.session_of(world.browser)).tokens.access_token  # type: ignore[union-attr]
    world.api.fails["echo"] = Failure(200, token.encode())
    await world.browser.fetch("/api/echo")

    assert witness.leaks() == {token}


async def test_no_secret_shows_in_a_repr(world: World):
    await world.browser.login()
    session = await world.app.session_of(world.browser)
    assert session
    shown = f"{session!r} {world.app.services.settings!r} {world.app.services!r}"

    assert not LOOKS_SECRET.findall(shown)
    assert not [secret for secret in (*STANDING, session.sid) if secret in shown]


async def test_the_path_of_a_request_is_logged_and_its_query_is_not(world: World, witness: Witness):
    link = await world.callback()
    await world.browser.get(link)

    assert urlsplit(link).path in witness.logs.getvalue()
    assert "state=" not in witness.logs.getvalue()


@pytest.mark.parametrize("path", ["/nowhere", "/api/echo"])
async def test_the_rest_of_a_body_that_is_longer_than_it_says_is_not_logged_as_a_method(
    path: str, world: World, witness: Witness
):
    post = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\nrecognisable"
    async with wire_of(world.app) as wire:
        await wire.send(
            f"{post}{post}GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        await wire.ended()

    assert '"path": "/"' in witness.logs.getvalue()
    assert "recognisable" not in witness.logs.getvalue()
