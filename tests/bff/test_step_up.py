"""Step-up: a handler that requires more than a session (RFC 9470)."""

from __future__ import annotations

import httpx2
import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from app.bff.handlers.authenticated import authenticated
from app.bff.handlers.base import ApiHandler, BaseHandler
from app.bff.oidc.claims import LEEWAY_SECONDS
from tests.bff.certified_provider import FormBrowser
from tests.bff.harness import Browser, Clock, RunningApp, query_params, refresh_target, sign_in
from tests.bff.test_certified_provider import a_person


class Vault(BaseHandler):
    @authenticated(acr=["mfa", "gold"])
    async def get(self) -> None:
        self.write("gold bars")

    @authenticated(acr="mfa", max_age=300)
    def post(self) -> None:
        self.write("taken")


class Recent(BaseHandler):
    @authenticated(max_age=300)
    async def get(self) -> None:
        self.write("recent")


class AtOnce(BaseHandler):
    @authenticated(max_age=0)
    def get(self) -> None:
        self.write("at once")


class Transfer(ApiHandler):
    @authenticated(acr=("mfa", "gold"), max_age=300)
    async def get(self) -> None:
        self.write({"sent": True})


class Renewed(ApiHandler):
    async def get(self) -> None:
        await self.get_user_access_token(force_renewal=True)


HANDLERS = [
    ("/vault", Vault),
    ("/recent", Recent),
    ("/at-once", AtOnce),
    ("/transfer", Transfer),
    ("/renewed", Renewed),
]


@pytest.fixture
async def app(app: RunningApp) -> RunningApp:
    app.tornado.add_handlers(r".*", HANDLERS)
    return app


async def steps_up(browser: Browser, answer: httpx2.Response) -> str:
    """Follow a redirect to the login and through it; return where the browser is sent then."""
    assert answer.status_code == 302, answer.text
    away = await browser.get(answer.headers["Location"])
    back = await browser.get(await browser.choose(away.headers["Location"]))
    assert back.status_code == 200, back.text
    return refresh_target(back.text)


# A page


async def test_a_user_who_has_signed_in_in_another_way_signs_in_again_and_comes_back(
    app: RunningApp, browser: Browser
):
    session = await sign_in(app, browser)
    answer = await browser.get("/vault?room=1")

    assert query_params(answer.headers["Location"]) == {
        "returnUrl": "/vault?room=1",
        "acr_values": "mfa gold",
    }
    assert await steps_up(browser, answer) == "/vault?room=1"
    assert (await browser.get("/vault?room=1")).text == "gold bars"
    assert await app.services.sessions.get(session.ref) is None


async def test_a_user_who_has_signed_in_too_long_ago_signs_in_again_and_comes_back(
    browser: Browser, clock: Clock
):
    await browser.login()
    assert (await browser.get("/recent")).text == "recent"
    clock.advance(301 + LEEWAY_SECONDS)
    answer = await browser.get("/recent")

    assert query_params(answer.headers["Location"]) == {"returnUrl": "/recent", "max_age": "300"}
    assert await steps_up(browser, answer) == "/recent"
    assert (await browser.get("/recent")).text == "recent"


async def test_an_anonymous_user_meets_all_requirements_in_one_login(provider: Provider, browser: Browser):
    answer = await browser.get("/vault")
    await steps_up(browser, answer)

    assert query_params(answer.headers["Location"])["acr_values"] == "mfa gold"
    assert (await browser.get("/vault")).text == "gold bars"
    assert provider.counts["token"] == 1


async def test_after_an_answer_with_just_now_there_is_time_to_load_the_page(browser: Browser, clock: Clock):
    assert await steps_up(browser, await browser.get("/at-once")) == "/at-once"
    clock.advance(LEEWAY_SECONDS - 1)
    assert (await browser.get("/at-once")).text == "at once"

    clock.advance(2)
    assert await steps_up(browser, await browser.get("/at-once")) == "/at-once"
    assert (await browser.get("/at-once")).text == "at once"


async def test_a_provider_that_cannot_do_it_ends_the_way_instead_of_a_loop(
    app: RunningApp, provider: Provider, browser: Browser
):
    provider.acrs = ("pwd",)
    session = await sign_in(app, browser)
    away = await browser.get((await browser.get("/vault")).headers["Location"])
    back = await browser.get(await browser.choose(away.headers["Location"]))

    assert (back.status_code, "<code>login_failed</code>" in back.text) == (400, True)
    assert await app.session_of(browser) == session


async def test_a_form_that_is_posted_is_not_carried_along_but_explained(browser: Browser):
    await browser.login()
    headers = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
    answer = await browser.http.post("/vault", headers=headers)

    assert answer.status_code == 401
    assert "<code>insufficient_user_authentication</code>" in answer.text
    assert 'href="/bff/login?returnUrl=%2Fvault&amp;acr_values=mfa&amp;max_age=300"' in answer.text


# A fetch()


async def test_a_fetch_is_answered_with_the_requirements(browser: Browser):
    await browser.login()
    answer = await browser.fetch("/transfer")
    problem = answer.json()

    assert (answer.status_code, problem["code"]) == (401, "insufficient_user_authentication")
    assert (problem["acr_values"], problem["max_age"]) == ("mfa gold", 300)
    assert query_params(problem["login_url"]) == {"acr_values": "mfa gold", "max_age": "300"}
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer error="insufficient_user_authentication", acr_values="mfa gold", max_age="300"'
    )


async def test_a_fetch_works_after_the_login_at_its_login_url(browser: Browser):
    await browser.login()
    url = (await browser.fetch("/transfer")).json()["login_url"]
    away = await browser.get(f"{url}&returnUrl=/account")
    await browser.get(await browser.choose(away.headers["Location"]))

    assert (await browser.fetch("/transfer")).json() == {"sent": True}


async def test_a_stranger_s_fetch_learns_the_same_login_url(browser: Browser):
    answer = await browser.fetch("/transfer")

    assert answer.json()["code"] == "no_session"
    assert answer.json()["login_url"] == "/bff/login?acr_values=mfa+gold&max_age=300"
    assert "WWW-Authenticate" not in answer.headers


async def test_each_method_has_demands_of_its_own(browser: Browser, clock: Clock):
    await browser.get(await browser.choose(await browser.start_login(acr_values="mfa")))
    assert (await browser.fetch("/vault", "POST")).text == "taken"
    clock.advance(301 + LEEWAY_SECONDS)

    assert (await browser.fetch("/vault", "POST")).status_code == 401
    assert (await browser.get("/vault")).text == "gold bars"


# Checked, not believed


@pytest.mark.parametrize(
    "lie", [{"auth_time": None}, {"auth_time": "now"}, {"auth_time": 2**40}, {"acr": ["mfa"]}, {"acr": None}]
)
async def test_a_session_that_does_not_say_how_it_began_is_not_enough(
    lie: dict[str, object], provider: Provider, browser: Browser
):
    provider.overrides["id_token"] = {"acr": "mfa", **lie}
    await browser.login()

    assert (await browser.fetch("/transfer")).json()["code"] == "insufficient_user_authentication"


async def test_a_refreshed_id_token_makes_a_session_neither_younger_nor_better(
    app: RunningApp, provider: Provider, browser: Browser, clock: Clock
):
    session = await sign_in(app, browser)
    clock.advance(301 + LEEWAY_SECONDS)
    provider.overrides["id_token"] = {"auth_time": int(clock.now), "acr": "mfa"}
    assert (await browser.fetch("/renewed")).status_code == 200
    refreshed = await app.session_of(browser)

    assert refreshed
    assert refreshed.tokens.id_token != session.tokens.id_token
    assert refreshed.claims == session.claims
    for path in ("/recent", "/vault"):
        assert (await browser.fetch(path)).json()["code"] == "insufficient_user_authentication"


async def test_what_an_api_demands_for_itself_is_passed_through(api: DemoApi, browser: Browser):
    await browser.login()
    challenge = 'Bearer error="insufficient_user_authentication", acr_values="gold"'
    api.fails["echo"] = Failure(401, b"no", {"WWW-Authenticate": challenge})
    answer = await browser.fetch("/api/echo")

    assert (answer.status_code, answer.text) == (401, "no")
    assert answer.headers["WWW-Authenticate"] == challenge


@pytest.mark.parametrize(
    "challenge", ['Basic realm="api"', "Negotiate", 'Digest realm="api", Bearer', "Bearer, Basic"]
)
async def test_a_challenge_for_which_a_browser_would_ask_for_a_password_stays_here(
    api: DemoApi, browser: Browser, challenge: str
):
    await browser.login()
    api.fails["echo"] = Failure(401, b"no", {"WWW-Authenticate": challenge})

    assert "WWW-Authenticate" not in (await browser.fetch("/api/echo")).headers


# The decorator


def test_a_requirement_that_no_login_could_meet_stops_the_start():
    with pytest.raises(ValueError, match="acr_values"):
        authenticated(acr="mfa gold")
    with pytest.raises(ValueError, match="max_age"):
        authenticated(max_age=-1)


def test_the_guarded_method_keeps_its_name():
    assert Vault.get.__name__ == "get"


# An independent provider


async def test_the_certified_provider_asks_again_and_says_when(clock: Clock):
    async with a_person(clock) as (alice, _):
        alice.app.tornado.add_handlers(r".*", HANDLERS)
        await alice.signs_in()
        answer = await alice.get("/recent")
        back = await alice.get(await passed(alice, answer.headers["Location"]))

        assert refresh_target(back.text) == "/recent"
        assert (await alice.get("/recent")).text == "recent"


async def passed(visitor: FormBrowser, login_url: str) -> str:
    away = await visitor.get(login_url)
    return await visitor.passes_the_provider(away.headers["Location"])
