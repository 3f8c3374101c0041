"""Logout, here and at the provider (OpenID Connect RP-Initiated Logout 1.0): by link or by JavaScript."""

from __future__ import annotations

import hmac
import logging
import secrets

from app.bff.errors import ProviderUnavailable, WrongSid
from app.bff.handlers.login import AuthHandler
from app.bff.oidc.login_attempt import ATTEMPT_SECONDS
from app.bff.oidc.refusals import refusal_fields
from app.bff.paths import LOGOUT_PATH
from app.bff.web.cross_origin import is_sent_from_elsewhere
from app.bff.web.return_paths import local_path

log = logging.getLogger(__name__)

_MAX_COOKIE_VALUE = 2500  # characters; sealing adds a third, and browsers drop a cookie beyond 4096
_MAX_REVOCATIONS = 4  # that the cookie names; further ones take place a minute later


class LogoutHandler(AuthHandler):
    """Shared by both steps of a logout: a sealed cookie carries state from the first to the second."""

    def set_logout_cookie(self, **saved: str) -> None:
        name = self.services.cookies.logout_name
        self.set_cookie(
            name,
            self.services.vault.seal_json(saved, place=name),
            max_age=ATTEMPT_SECONDS,
            **self.services.cookies.login_cookie_attributes,
        )


class Logout(LogoutHandler):
    """Ends the session here, then at the provider. `sid` in the link prevents logout CSRF.

    Other sites of the provider may know the `sid`: a navigation that another origin has started is
    refused, and never repeated as a same-site one.
    """

    retry_for_strict_cookies = False

    async def get(self) -> None:
        if is_sent_from_elsewhere(self.request.headers):
            raise WrongSid("Only our own pages sign you out. Please use the link on them.")
        return_path = local_path(self.params.get("returnUrl"))
        if self.session is None:
            self.redirect(
                self.read_logout_cookie().get("provider_url") or await self._url_without_session(return_path)
            )
            return
        if not hmac.compare_digest(self.params.get("sid", "").encode(), self.session.sid.encode()):
            raise WrongSid("The link to sign out was not one of ours. Please use the one on our pages.")
        provider_url = await self._end(return_path)
        self.redirect(provider_url or return_path)

    async def post(self) -> None:
        """End the session for a page's JavaScript: `{"url": …}` is where it must navigate to.

        The provider's URL contains the ID token, which no script may see: it is stored in the logout
        cookie, and `get` redirects to it.
        """
        self.check_csrf()
        return_path = local_path(self.params.get("returnUrl"))
        provider_logs_out = await self._end_by_script(return_path)
        self.finish({"url": LOGOUT_PATH if provider_logs_out else return_path})

    async def _end_by_script(self, return_path: str) -> bool:
        """End the session; return whether the provider has one that must end too."""
        if self.session is not None:
            return await self._end(return_path, by_script=True) is not None
        if self.services.cookies.session_name not in self.request_cookies:
            return False
        self.clear_session_cookie()
        return await self._provider_url(return_path, None, by_script=True) is not None

    async def _end(self, return_path: str, *, by_script: bool = False) -> str | None:
        """End the session, and return where the provider ends its own.

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
        self.set_header("Clear-Site-Data", '"cache", "storage"')
        hint = self.session.tokens.id_token if self.services.oidc.issued(self.session) else None
        url = await self._provider_url(
            return_path,
            hint,
            by_script=by_script,
            revocations=" ".join(each.id for each in pending[:_MAX_REVOCATIONS]),
        )
        if url is None:
            await self.services.tokens.revoke_now(pending)
        return url

    async def _url_without_session(self, return_path: str) -> str:
        """Return the provider's logout URL for a logout link whose session has ended already.

        Without `id_token_hint` the provider asks the user to confirm.
        """
        if "sid" not in self.params:
            return return_path
        if (
            self.services.cookies.session_name in self.request_cookies
        ):  # else it may not have been sent (SameSite)
            self.clear_session_cookie()
        return await self._provider_url(return_path, None) or return_path

    async def _provider_url(
        self, return_path: str, id_token: str | None, *, by_script: bool = False, revocations: str = ""
    ) -> str | None:
        """Return where the provider ends its session, if it can, and remember what then is to be revoked."""
        state = secrets.token_urlsafe(32)
        revocations = revocations or " ".join(self.waiting_revocations)
        try:
            url = await self.services.oidc.logout_url(id_token=id_token, state=state)
        except ProviderUnavailable:
            return None
        if url is None:
            return None
        if by_script and id_token and len(url + return_path + revocations) > _MAX_COOKIE_VALUE:
            return await self._provider_url(return_path, None, by_script=True, revocations=revocations)
        for_get = {"provider_url": url} if by_script else {}
        self.set_logout_cookie(state=state, return_path=return_path, revocations=revocations, **for_get)
        return url


class LogoutCallback(LogoutHandler):
    """The provider has ended its session and redirected the browser back, with our `state`.

    Only now are the refresh tokens revoked: see `UserTokens.end_before_logout`.
    """

    retry_for_strict_cookies = False

    async def get(self) -> None:
        saved, cookies = self.read_logout_cookie(), self.services.cookies
        self.clear_cookie(cookies.logout_name, **cookies.login_cookie_attributes)
        state_matches = hmac.compare_digest(
            saved.get("state", "").encode(), self.params.get("state", "").encode()
        )
        if not saved or not state_matches:
            self.redirect("/")
            return
        if said := refusal_fields(self.params):
            log.warning("provider refused the logout", extra=said)
        await self.services.tokens.revoke_after_logout(self.waiting_revocations)
        self.redirect(saved["return_path"])
