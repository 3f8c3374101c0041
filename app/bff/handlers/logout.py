"""Logout, here and at the provider (OpenID Connect RP-Initiated Logout 1.0): by link or by JavaScript."""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urljoin

from app.bff.errors import ProviderUnavailable, StoreUnavailable, WrongSid
from app.bff.handlers.auth import AuthHandler
from app.bff.handlers.web import RETURN_URL
from app.bff.oidc.browser_requests import LogoutRequest
from app.bff.oidc.claims import string_claim
from app.bff.oidc.refusals import refusal_fields
from app.bff.paths import LOGOUT_PATH
from app.bff.sessions.interfaces import Pending
from app.bff.sessions.session import LogoutHint, session_ref
from app.bff.web.cross_origin import is_navigation, is_navigation_of_own_page, is_sent_from_elsewhere
from app.bff.web.headers import security_headers
from app.bff.web.return_paths import part_for_cookie

log = logging.getLogger(__name__)

_MAX_REVOCATIONS = 4  # that the cookie names; further ones take place a minute later


class LogoutHandler(AuthHandler):
    """Shared by both steps of a logout: a sealed cookie carries state from the first to the second."""

    async def set_logout_cookie(self, *, return_path: str, state: str, **saved: str) -> None:
        part, name = part_for_cookie(return_path), self.services.cookies.logout_name
        if part != return_path and await self.save_return_path(return_path, state):
            saved["return_path_is_saved"] = "true"
        content = {"state": state, "return_path": part, **saved}
        self.set_sealed_cookie(name, self.services.vault.seal_json(content, place=name))

    async def return_path_in(self, saved: dict[str, str]) -> str:
        """Return the path of a logout that the cookie or, for a long one, the store has saved."""
        part = saved["return_path"]
        return await self.saved_return_path(saved["state"], part) if "return_path_is_saved" in saved else part


class Logout(LogoutHandler):
    """Ends the session here, then at the provider. `sid` in the link prevents logout CSRF.

    Other sites of the provider may know the `sid`: a navigation that another origin has started is
    refused, and never repeated as a same-site one. Where the provider sends no `sid`, front ends written for
    Duende.BFF know none: then a link without it does, if the browser says that a page of ours has started the
    navigation. One that says nothing (no Fetch Metadata) needs the `sid` of `logout_url`.

    The provider gets the ID token as `id_token_hint`: in the URL, or beyond the length of one by a page
    that posts it. It is also known for TOMBSTONE_SECONDS after the end of a session, to the browser that had
    it. Without one some providers ask the user, and others show an error: so the browser is not sent there by
    itself, but gets a page that says what has ended, with a link.
    """

    retry_for_strict_cookies = False
    cors_methods = ("POST",)
    own_params = (RETURN_URL, "sid")

    async def get(self) -> None:
        return_path = self._checked_return_path()
        if self.session is None:
            await self._get_without_session(return_path)
        else:
            self._leave(await self._end(return_path), return_path)

    async def head(self) -> None:
        """Check the link as `get` does, and end nothing."""
        return_path = self._checked_return_path()
        if self.session is None and "sid" not in self.params:
            self.redirect(return_path)
        else:
            self.set_status(204)

    def _checked_return_path(self) -> str:
        """Return `returnUrl`; raises WrongSid unless the link is one of ours, for this session."""
        if is_sent_from_elsewhere(self.request.headers, self.services.settings.allowed_origins):
            raise WrongSid("Only our own pages sign you out. Please use the link on them.")
        return_path, sid = self.requested_return_path, self.params.get("sid")
        if self.session is None:
            return return_path
        if sid is None and not string_claim(self.session.claims, "sid"):
            is_ours = is_navigation_of_own_page(self.request.headers)
        else:
            is_ours = hmac.compare_digest((sid or "").encode(), self.session.sid.encode())
        if not is_ours:
            raise WrongSid("The link to sign out was not one of ours. Please use the one on our pages.")
        return return_path

    async def post(self) -> None:
        """End the session for a page's JavaScript: `{"url": …}` is where it must navigate to.

        For a page of an allowed origin that is an absolute URL.

        The request to the provider contains the ID token, which no script may see: `get` makes it, from what
        the logout cookie says.
        """
        self.check_csrf()
        return_path = self.requested_return_path
        request = await self._end_by_script(return_path)
        url, base_url = LOGOUT_PATH if request else return_path, self.services.settings.base_url
        is_ours = self.request.headers.get("Origin") not in self.services.settings.allowed_origins
        self.finish({"url": url if is_ours else urljoin(base_url, url)})

    async def _end_by_script(self, return_path: str) -> LogoutRequest | None:
        """End the session; return the request for the provider, if it has one that must end too."""
        if self.session is not None:
            return await self._end(return_path, by_script=True)
        session_id = self.request_cookies.get(self.services.cookies.session_name)
        if session_id is None:
            return None
        self.clear_session_cookie()
        ref = session_ref(session_id)
        return await self._start(return_path, await self._hint(ref), ref, by_script=True)

    async def _end(self, return_path: str, *, by_script: bool = False) -> LogoutRequest | None:
        """End the session, and return the request that ends the provider's.

        Tabs that sign in concurrently each start a session here with the same `sid`, of which the browser
        stores the last: all of them end.
        """
        assert self.session is not None
        issuer, subject, sid = self.session.issuer, self.session.subject, self.session.sid
        same_sid = await self.services.sessions.of_sid(issuer, sid)
        sessions = {other.ref: other for other in same_sid if other.subject == subject}
        pending = await self.services.tokens.end_before_logout(
            list({self.session.ref: self.session, **sessions}.values())
        )
        self.clear_session_cookie()
        # Storage is that of the whole origin: the theme and drafts are in it, too.
        storage = ', "storage"' if self.services.settings.clear_storage_on_logout else ""
        self.set_header("Clear-Site-Data", f'"cache"{storage}')
        request = await self._start(
            return_path, self.session.logout_hint, self.session.ref, by_script=by_script, pending=pending
        )
        if request is None:
            await self.services.tokens.revoke_now(pending)
        return request

    async def _start(
        self,
        return_path: str,
        hint: LogoutHint | None,
        ref: str,
        *,
        by_script: bool = False,
        pending: Sequence[Pending] = (),
    ) -> LogoutRequest | None:
        """Return the request that ends the provider's session, if it can; the cookie has what comes then.

        A logout by script goes on in `get`, which looks the hint up again: a URL with it may fill a cookie.
        """
        state = secrets.token_urlsafe(32)
        try:
            request = await self.services.oidc.logout_request(hint=hint, state=state)
        except ProviderUnavailable:
            return None
        if request is None:
            return None
        revocations = " ".join([each.id for each in pending[:_MAX_REVOCATIONS]] or self.waiting_revocations)
        saved = {"state": state, "revocations": revocations, "ref": ref}
        if by_script:
            saved["provider_url"] = ""  # of earlier releases it is the URL
        await self.set_logout_cookie(return_path=return_path, **saved)
        return request

    async def _get_without_session(self, return_path: str) -> None:
        """Go on with a logout by script, or with one whose session has ended already."""
        saved = self.read_logout_cookie()
        if "provider_url" in saved:
            await self._go_on(saved)
            return
        if "sid" not in self.params:
            self.redirect(return_path)
            return
        ref = saved.get("ref", "")
        if session_id := self.request_cookies.get(self.services.cookies.session_name):
            self.clear_session_cookie()  # else it may not have been sent (SameSite)
            ref = session_ref(session_id)
        hint = await self._hint(ref)
        if hint and not hmac.compare_digest(self.params["sid"].encode(), hint.sid.encode()):
            hint = None
        self._leave(await self._start(return_path, hint, ref), return_path)

    async def _go_on(self, saved: dict[str, str]) -> None:
        if "id_token_hint=" in saved["provider_url"]:
            self.redirect(saved["provider_url"])
            return
        request: LogoutRequest | None = None
        with suppress(ProviderUnavailable):
            request = await self.services.oidc.logout_request(
                hint=await self._hint(saved.get("ref", "")), state=saved["state"]
            )
        self._leave(request, await self.return_path_in(saved))

    async def _hint(self, ref: str) -> LogoutHint | None:
        """Return what the session of this browser has left, if it is known; `ref` is of a cookie of ours."""
        with suppress(StoreUnavailable):
            return await self.services.sessions.logout_hint(ref) if ref else None
        return None

    def _leave(self, request: LogoutRequest | None, return_path: str) -> None:
        """Answer with the way to the provider, or back if there is none."""
        if request is None:
            self.redirect(return_path)
        elif request.id_token_hint is None or not (request.url or self._is_shown_in_a_window):
            self.render_page("bff/signed_out_here.html", url=request.unhinted_url, return_path=return_path)
        elif request.url:
            self.redirect(request.url)
        else:
            settings = self.services.settings
            for name, value in security_headers(
                nonce=self.csp_nonce, https=settings.https, posts_to=request.action, added=settings.csp
            ).items():
                self.set_header(name, value)
            self.render_page("bff/post.html", action=request.action, fields=request.form)

    @property
    def _is_shown_in_a_window(self) -> bool:
        """Whether the response is a page that no script can read, other than that of a `fetch()`."""
        headers = self.request.headers
        return is_navigation(headers) and headers.get("Sec-Fetch-Dest", "document") == "document"


class LogoutCallback(LogoutHandler):
    """The provider has ended its session and redirected the browser back, with our `state`.

    Only now are the refresh tokens revoked: see `UserTokens.end_before_logout`.
    """

    retry_for_strict_cookies = False

    async def head(self) -> None:
        """Answer as `get`, and revoke nothing."""
        self.redirect(await self.return_path_in(self._saved) if self._saved else "/")

    async def get(self) -> None:
        saved, cookies = self._saved, self.services.cookies
        self.clear_cookie(cookies.logout_name, **cookies.login_cookie_attributes)
        if not saved:
            self.redirect("/")
            return
        if said := refusal_fields(self.params):
            log.warning("provider refused the logout", extra=said)
        await self.services.tokens.revoke_after_logout(self.waiting_revocations)
        self.redirect(await self.return_path_in(saved))

    @property
    def _saved(self) -> dict[str, str]:
        """What the logout has saved that `state` names; empty if there is none."""
        saved, state = self.read_logout_cookie(), self.params.get("state", "")
        is_named = hmac.compare_digest(saved.get("state", "").encode(), state.encode())
        return saved if is_named else {}
