"""Every place that asks a rule, for an admin, one of the staff, another user, and without a session.

Alice is of the staff and an admin, Bob of the staff, Carol has an account and no more.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError
from tornado.httputil import HTTPHeaders

from app.bff import ApiHandler, BaseHandler, Forbidden, SocketHandler, authenticated, url
from app.bff.authorization import Rule
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import USERS, Provider
from app.bff.dev.registrations import User
from app.bff.errors import NoSession, NotAllowed
from app.bff.proxy.rules import check_permission, is_write
from app.bff.sessions.session import Session
from app.bff.settings.apis import RemoteApiSettings
from tests.bff.application.main import ROUTES
from tests.bff.harness import Browser, Clock, RunningApp, new_browser, running_app
from tests.bff.nginx import running_site
from tests.bff.websocket_clients import close_code_and_reason, open_websocket

SECRET = "0123456789abcdef" * 2
ADMINS = {"groups": "admins"}
STAFF = {"groups": "staff"}
PEOPLE = {**USERS, "carol": User("carol", "Carol Clark", "carol@example.com")}
REMOTE = [
    {"path": "/api", "client": "apiClient", "require": STAFF, "write": ADMINS},
    {"path": "/api/admin", "client": "apiClient", "require": ADMINS},
    {"path": "/journal", "client": "apiClient", "write": ADMINS},
    *({"path": f"/{kind}", "client": kind, "require": STAFF} for kind in ("none", "client", "user_or_none")),
]


def is_admin(claims: Any) -> bool:
    return "admin" in claims["realm_access"]["roles"]


class AdminPage(BaseHandler):
    @authenticated(require={"realm_access.roles": "admin", "email_verified": True})
    async def get(self) -> None:
        self.finish("for admins")

    @authenticated(require=ADMINS)
    def post(self) -> None:
        self.finish("done")


class AdminData(ApiHandler):
    @authenticated(require=is_admin)
    async def get(self) -> None:
        self.finish_json("for admins")


class StrongAdminData(ApiHandler):
    @authenticated(require=ADMINS, acr="mfa")
    async def get(self) -> None:
        self.finish_json("for admins")


class Buttons(BaseHandler):
    def get(self) -> None:
        template = "{% if may({'groups': ['admins', 'ops']}) %}delete{% else %}look{% endif %}"
        page = self.services.pages.from_string(template)
        self.finish(page.render(self.page_context()))


class Own(BaseHandler):
    @authenticated
    async def get(self) -> None:
        raise Forbidden("This is for administrators.")


class AdminSocket(SocketHandler):
    require = ADMINS
    look_again_seconds = 0.01

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message)


class Broken(ApiHandler):
    @authenticated(require=lambda claims: claims["shoe_size"] > 40)
    def get(self) -> None:
        self.finish_json("open")


PAGES = [
    url("/admin", AdminPage),
    url("/data", AdminData),
    url("/strong", StrongAdminData),
    url("/buttons", Buttons),
    url("/own", Own),
    url("/admin-socket", AdminSocket),
    url("/broken", Broken),
]


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    provider.users = PEOPLE
    kinds = {"apiClient": "user", "none": "none", "client": "client", "user_or_none": "user_or_none"}
    clients = {name: {"base_url": api.base_url, "token": kind} for name, kind in kinds.items()}
    settings = {"http_clients": clients, "remote_apis": REMOTE, "forward_auth_secret": SECRET}
    async with running_app(provider, api, clock=clock, routes=[*ROUTES, *PAGES], **settings) as app:
        yield app


Browsers = dict[str, Browser]
Ask = Callable[[Browser], Awaitable[int]]


@pytest.fixture
async def browsers(app: RunningApp) -> AsyncIterator[Browsers]:
    """A browser for each user, and one in which no user is signed in."""
    async with AsyncExitStack() as stack:
        names = (*PEOPLE, "signed out")
        browsers = {name: await stack.enter_async_context(new_browser(app)) for name in names}
        for name in PEOPLE:
            await browsers[name].login(name)
        yield browsers


def page(path: str) -> Ask:
    async def ask(browser: Browser) -> int:
        return (await browser.get(path)).status_code

    return ask


def data(method: str, path: str, **options: Any) -> Ask:
    async def ask(browser: Browser) -> int:
        return (await browser.fetch(path, method, **options)).status_code

    return ask


def socket(path: str) -> Ask:
    async def ask(browser: Browser) -> int:
        try:
            async with open_websocket(browser, path) as socket:
                await socket.send_str("x")
                return 101 if await socket.receive_str() == "x" else 0
        except WSServerHandshakeError as refused:
            return refused.status

    return ask


def forward_auth(method: str, path: str, **headers: str) -> Ask:
    forwarded = {"X-Forwarded-Method": method, "X-Forwarded-Uri": path, "X-Forward-Auth-Secret": SECRET}
    return data("GET", "/bff/forward-auth", headers={**forwarded, **headers})


KEY = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
TODO = {"json": {"title": "x"}}
MATRIX = [  # what alice, bob, carol and a browser without a session get
    ("a page", page("/admin"), [200, 403, 403, 302]),
    ("a page: HEAD", data("HEAD", "/admin"), [200, 403, 403, 401]),
    ("a form", data("POST", "/admin"), [200, 403, 403, 401]),
    ("data", data("GET", "/data"), [200, 403, 403, 401]),
    ("data that needs another login, too", data("GET", "/strong"), [401, 403, 403, 401]),
    ("a socket", socket("/admin-socket"), [101, 403, 403, 401]),
    ("forwarded: reading", data("GET", "/api/todos"), [200, 200, 403, 401]),
    ("forwarded: HEAD", data("HEAD", "/api/echo"), [200, 200, 403, 401]),
    ("forwarded: OPTIONS", data("OPTIONS", "/api/echo"), [200, 200, 403, 401]),
    ("forwarded: POST", data("POST", "/api/todos", **TODO), [201, 403, 403, 401]),
    ("forwarded: PUT", data("PUT", "/api/echo"), [200, 403, 403, 401]),
    ("forwarded: PATCH", data("PATCH", "/api/echo"), [200, 403, 403, 401]),
    ("forwarded: DELETE", data("DELETE", "/api/echo"), [200, 403, 403, 401]),
    ("forwarded: the entry below", data("GET", "/api/admin/echo"), [200, 403, 403, 401]),
    ("forwarded: any may read", data("GET", "/journal/echo"), [200, 200, 200, 401]),
    ("forwarded: admins may write", data("POST", "/journal/echo"), [200, 403, 403, 401]),
    ("forwarded: without a token", data("GET", "/none/echo"), [401, 401, 403, 401]),
    ("forwarded: our own token", data("GET", "/client/echo"), [200, 200, 403, 401]),
    ("forwarded: perhaps a token", data("GET", "/user_or_none/echo"), [200, 200, 403, 401]),
    ("a forwarded socket", socket("/api/socket"), [101, 403, 403, 401]),
    ("a forwarded socket, reading is open", socket("/journal/socket"), [101, 403, 403, 401]),
    ("forward-auth: GET", forward_auth("GET", "/api/echo"), [204, 204, 403, 401]),
    ("forward-auth: POST", forward_auth("POST", "/api/echo"), [204, 403, 403, 401]),
    ("forward-auth: a method in small letters", forward_auth("get", "/api/echo"), [405, 405, 405, 405]),
    ("forward-auth: a socket", forward_auth("GET", "/api/socket", **KEY), [204, 403, 403, 401]),
    ("forward-auth: the entry below", forward_auth("GET", "/api/admin/echo"), [204, 403, 403, 401]),
    ("forward-auth: without a token", forward_auth("GET", "/none/echo"), [204, 204, 403, 401]),
]


async def test_who_may_is_the_same_everywhere(browsers: Browsers):
    answers = {
        place: [await ask(browser) for browser in browsers.values()] for place, ask, _ in MATRIX
    }  # in one test: to start the parts anew for each row takes seconds

    assert answers == {place: expected for place, _, expected in MATRIX}


async def test_a_single_page_app_may_be_for_some_alone(
    provider: Provider, api: DemoApi, clock: Clock, tmp_path: Path
):
    provider.users = PEOPLE
    (tmp_path / "index.html").write_text("<!doctype html><title>App</title>")
    settings = {"spa": str(tmp_path), "spa_signed_in": '{"groups": "admins"}'}
    async with (
        running_app(provider, api, clock=clock, routes=[], **settings) as app,
        new_browser(app) as alice,
        new_browser(app) as bob,
        new_browser(app) as signed_out,
    ):
        await alice.login("alice")
        await bob.login("bob")
        pages = [await browser.get("/items/5") for browser in (alice, bob, signed_out)]

    assert [page.status_code for page in pages] == [200, 403, 302]
    assert "prompt=select_account&amp;returnUrl=%2Fitems%2F5" in pages[1].text


async def test_what_is_not_allowed_never_reaches_the_api(browsers: Browsers, api: DemoApi):
    for method in ("GET", "POST", "DELETE"):
        await browsers["carol"].fetch("/api/echo", method)
        await browsers["bob"].fetch("/api/admin/echo", method)

    assert api.last_request is None


# What the user is told


async def test_a_page_says_who_is_signed_in_and_offers_another_account_and_never_loops(browsers: Browsers):
    refused = await browsers["bob"].get("/admin?tab=2")

    assert refused.status_code == 403
    assert "You are signed in as <strong>Bob Brown</strong>" in refused.text
    switch = "/bff/login?prompt=select_account&amp;returnUrl=%2Fadmin%3Ftab%3D2"
    assert f'href="{switch}"' in refused.text
    assert "<code>forbidden</code>" in refused.text
    assert "groups" not in refused.text
    assert "realm_access" not in refused.text


async def test_with_the_other_account_the_page_opens(browsers: Browsers):
    browser = browsers["bob"]
    back = await browser.choose(await browser.start_login("/admin", prompt="select_account"), "alice")
    await browser.get(back)

    assert (await browser.get("/admin")).text == "for admins"


async def test_the_same_account_once_more_is_refused_once_more(browsers: Browsers):
    await browsers["bob"].login("bob", "/admin")

    assert (await browsers["bob"].get("/admin")).status_code == 403


async def test_data_is_refused_by_a_problem_document_without_a_login_url(browsers: Browsers):
    problem = (await browsers["bob"].fetch("/data")).json()

    assert (problem["status"], problem["code"]) == (403, "forbidden")
    assert problem["detail"] == "Your account does not have what this needs."
    assert "login_url" not in problem


async def test_the_refusal_of_a_form_leads_to_no_form(browsers: Browsers):
    refused = await browsers["bob"].submit("/admin", name="x")

    assert refused.status_code == 403
    assert 'returnUrl=%2F"' in refused.text


async def test_a_handler_that_refuses_by_itself_offers_another_account_as_well(browsers: Browsers):
    refused = await browsers["bob"].get("/own")

    assert "This is for administrators." in refused.text
    assert "prompt=select_account" in refused.text


async def test_a_csrf_refusal_offers_no_other_account(browsers: Browsers):
    refused = await browsers["alice"].get("/data")

    assert refused.json()["code"] == "csrf_rejected"


async def test_templates_ask_with_may_also_where_there_is_no_session(browsers: Browsers):
    shown = [(await browser.get("/buttons")).text for browser in browsers.values()]

    assert shown == ["delete", "look", "look", "look"]


async def test_the_log_says_the_rule_and_the_user_is_not_told(
    browsers: Browsers, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, logger="app")
    for path in ("/admin", "/api/admin/echo"):
        await browsers["bob"].fetch(path)

    rules = [record.rule for record in caplog.records if record.getMessage() == "request refused"]
    assert rules == ["realm_access.roles is admin, and email_verified is true", "groups is admins"]


async def test_a_function_that_fails_opens_nothing_and_is_our_fault(browsers: Browsers):
    assert [(await browser.fetch("/broken")).status_code for browser in browsers.values()] == [500] * 3 + [
        401
    ]


# A change of claims


async def test_a_socket_is_closed_when_the_claims_no_longer_meet_its_rule(browsers: Browsers):
    alice = browsers["alice"]
    async with open_websocket(alice, "/admin-socket") as socket:
        session = await alice.app.session_of(alice)
        assert session is not None
        changed = replace(session, claims={**session.claims, "groups": ["staff"]})
        assert await alice.app.services.sessions.save(changed)

        assert await close_code_and_reason(socket) == (4403, "not allowed any more")


# Mistakes


@pytest.mark.parametrize("rule", [{}, {"groups": []}, {"groups": None}, "admins", ["admins"]])
def test_a_rule_that_is_a_mistake_is_one_when_the_file_is_imported(rule: Any):
    with pytest.raises(ValueError, match=r"."):
        authenticated(require=rule)
    with pytest.raises(ValueError, match=r"."):
        type("Chat", (SocketHandler,), {"require": rule})


# The pure part


def api_with(**rules: Any) -> RemoteApiSettings:
    return RemoteApiSettings(path="/api", client="apiClient", **rules)


@pytest.mark.parametrize("kind", [[], ["require"], ["write"], ["require", "write"]], ids=str)
@pytest.mark.parametrize("writes", [True, False], ids=["writes", "reads"])
def test_reading_needs_one_rule_and_writing_both(kind: list[str], writes: bool, session: Session):
    api = api_with(**dict.fromkeys(kind, ADMINS))
    asked = ("require" in kind) or ("write" in kind and writes)
    member = replace(session, claims={"groups": ["admins"]})

    assert check_permission(api, member, writes=writes) is None
    for given, error in ((replace(session, claims={}), NotAllowed), (None, NoSession)):
        if asked:
            with pytest.raises(error):
                check_permission(api, given, writes=writes)
        else:
            assert check_permission(api, given, writes=writes) is None


OVERRIDES = ["X-HTTP-Method-Override", "x-http-method", "X-Method-Override"]


@pytest.mark.parametrize(
    ("method", "headers", "writes"),
    [
        ("GET", {}, False),
        ("HEAD", {}, False),
        ("OPTIONS", {}, False),
        *((method, {}, True) for method in ("POST", "PUT", "PATCH", "DELETE", "QUERY", "TRACE", "get", "")),
        ("GET", KEY, True),
        *(("GET", HTTPHeaders({name: "DELETE"}), True) for name in OVERRIDES),
    ],
)
def test_what_may_change_something_is_writing(method: str, headers: dict[str, str], writes: bool):
    assert is_write(method, headers) is writes


# nginx, which keeps permissions for some seconds


async def test_nginx_keeps_no_permission_for_another_method_path_or_user(
    provider: Provider, api: DemoApi, clock: Clock, tmp_path: Path
):
    provider.users = PEOPLE
    remote = [
        {"path": path, "client": "apiClient", "methods": ["GET", "POST"]} for path in ("/orders", "/slow")
    ]
    rules = {"require": STAFF, "write": ADMINS}
    settings: dict[str, Any] = {"remote_apis": [{**remote[0], **rules}, remote[1]]}
    async with (
        running_site(provider, api, tmp_path, clock=clock, **settings) as site,
        AsyncExitStack() as stack,
    ):
        people = {
            name: await stack.enter_async_context(site.browser())
            for name in ("alice", "bob", "carol", "signed out")
        }
        for name in PEOPLE:
            await people[name].login(name)
        for _ in range(2):  # the second time with what nginx has kept
            for method, expected in (("GET", [200, 200, 403, 401]), ("POST", [200, 403, 403, 401])):
                answers = [await browser.fetch("/orders/echo", method) for browser in people.values()]

                assert [answer.status_code for answer in answers] == expected
                assert answers[2].json()["code"] == "forbidden"


def test_a_rule_stays_what_it_is_in_settings_and_is_compiled_once():
    rule = Rule.of(ADMINS)

    assert api_with(require=rule).require is rule
