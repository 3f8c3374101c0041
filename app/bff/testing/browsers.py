"""An HTTP browser without rendering: it keeps cookies, navigates, and does what `fetch()` does on a page."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Any, Self

import httpx2

from app.bff.paths import LOGIN_PATH, USER_PATH
from app.bff.web.cross_origin import CSRF_HEADER, CSRF_VALUE

NAVIGATION_HEADERS = {
    "Accept": "text/html",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Site": "none",
}
FETCH_HEADERS = {
    "Accept": "*/*",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Site": "same-origin",
}

# All servers of a test speak plain http, and loading the certificates takes longer than a test.
_WITHOUT_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Browser:
    """One browser: its cookies, and the headers that tell a navigation from a `fetch()`.

    It follows no redirect, so that a test sees where each answer leads. `http` is the `httpx2.AsyncClient`
    behind it, for requests that no browser would send.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.http = httpx2.AsyncClient(
            base_url=base_url,
            follow_redirects=False,
            timeout=20,
            trust_env=False,
            verify=_WITHOUT_CERTIFICATES,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.aclose()

    async def get(self, url: str, **headers: str) -> httpx2.Response:
        """Navigate. `Accept_Language="de"` sends the header `Accept-Language`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.get(url, headers={**NAVIGATION_HEADERS, **named})

    async def submit(self, url: str, /, **fields: str) -> httpx2.Response:
        """Send the form of a page, by POST."""
        same_origin = {"Sec-Fetch-Site": "same-origin", "Origin": self.base_url}
        return await self.http.post(url, data=fields, headers={**NAVIGATION_HEADERS, **same_origin})

    async def fetch(
        self, url: str, method: str = "GET", *, csrf: bool = True, **options: Any
    ) -> httpx2.Response:
        """Do what `fetch()` does on a page of the application; `json=`, `content=`, `headers=` as in httpx.

        `csrf=False` leaves out the header `X-CSRF: 1`, without which an ApiHandler answers 403.
        """
        own = {CSRF_HEADER: CSRF_VALUE} if csrf else {}
        headers = {**FETCH_HEADERS, **own, **options.pop("headers", {})}
        return await self.http.request(method, url, headers=headers, **options)

    async def login(self, user: str = "alice", return_url: str = "/") -> httpx2.Response:
        """Sign in as a user of the development provider (`alice` or `bob`); return what the callback answers.

        Raises AssertionError, which quotes the answer, if a step on the way fails.
        """
        parameters = {"returnUrl": return_url}
        start = await self.http.get(LOGIN_PATH, params=parameters, headers=NAVIGATION_HEADERS)
        authorize_url = _next_url(start, "the login page of the application")
        answer = await self.http.get(authorize_url)
        if answer.status_code == 200:  # the provider asks who it is, unless this browser has signed in before
            answer = await self.http.post(authorize_url, data={"sub": user})
        callback = await self.get(_next_url(answer, "the development provider"))
        assert callback.status_code == 200, _unexpected(callback, "the login callback")
        return callback

    async def logout(self) -> httpx2.Response:
        """Sign out by the link that the pages have; return the answer, which leads to the provider."""
        user = await self.fetch(USER_PATH)
        assert user.status_code == 200, _unexpected(user, USER_PATH)
        claims = {claim["type"]: claim["value"] for claim in user.json()}
        return await self.get(str(claims["bff:logout_url"]))

    def cookie(self, name: str) -> str | None:
        """The value of a cookie, or None."""
        values = (cookie.value for cookie in self.http.cookies.jar if cookie.name == name)
        return next(filter(None, values), None)


def _next_url(response: httpx2.Response, whose: str) -> str:
    assert response.has_redirect_location, _unexpected(response, whose)
    return response.headers["Location"]


def _unexpected(response: httpx2.Response, whose: str) -> str:
    return f"{whose} answered {response.status_code}:\n{response.text[:2000]}"
