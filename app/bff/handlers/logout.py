"""Logout, here and at the provider: by a link on our pages, or by their JavaScript."""

from __future__ import annotations

import asyncio
import hmac
import secrets

from app.bff.crypto import Unsealable
from app.bff.errors import ProviderUnavailable, WrongSid
from app.bff.handlers.login import AuthHandler
from app.bff.oidc.login_attempt import ATTEMPT_SECONDS
from app.bff.paths import LOGOUT_PATH
from app.bff.sessions.session import Reason
from app.bff.web.return_paths import local_path

_MAX_COOKIE_VALUE = 2500  # letters; sealed they are a third more, and browsers drop a cookie beyond 4096


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

    def read_logout_cookie(self) -> dict[str, str]:
        name = self.services.cookies.logout_name
        try:
            return dict(self.services.vault.open_json(self.get_cookie(name) or "", place=name))
        except Unsealable:
            return {}


class Logout(LogoutHandler):
    """Ends the session here, then at the provider. A link proves with `sid` that it is one of ours."""

    async def get(self) -> None:
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
        """Do the same for a page's JavaScript: `{"url": …}` is where it must navigate to.

        The provider's URL holds the id token, which no script may see; so it waits in our cookie, and
        the browser is sent there by `get`.
        """
        self.check_csrf()
        return_path = local_path(self.params.get("returnUrl"))
        provider_logs_out = await self._end_by_script(return_path)
        self.finish({"url": LOGOUT_PATH if provider_logs_out else return_path})

    async def _end_by_script(self, return_path: str) -> bool:
        """End the session, and say whether there is one at the provider that has to end too."""
        if self.session is not None:
            return await self._end(return_path, by_script=True) is not None
        if self.get_cookie(self.services.cookies.session_name) is None:
            return False
        self.clear_session_cookie()
        return await self._provider_url(return_path, None, by_script=True) is not None

    async def _end(self, return_path: str, *, by_script: bool = False) -> str | None:
        """End the session, and return where the provider ends its own.

        Tabs that sign in at the same time each make a session of ours for one of the provider's, of
        which the browser keeps the last: all of them end.
        """
        assert self.session is not None
        issuer, subject, sid = self.session.issuer, self.session.subject, self.session.sid
        same_sid = await self.services.sessions.of_sid(issuer, sid)
        refs = {self.session.ref, *(other.ref for other in same_sid if other.subject == subject)}
        await asyncio.gather(*(self.services.tokens.end(ref, Reason.SIGNED_OUT) for ref in refs))
        self.clear_session_cookie()
        self.set_header("Clear-Site-Data", '"cache", "storage"')
        return await self._provider_url(return_path, self.session.tokens.id_token, by_script=by_script)

    async def _url_without_session(self, return_path: str) -> str:
        """Whoever clicks on our link wants to be signed out at the provider too, which asks them itself."""
        if "sid" not in self.params:
            return return_path
        if self.get_cookie(self.services.cookies.session_name):  # else it may only have stayed at home
            self.clear_session_cookie()
        return await self._provider_url(return_path, None) or return_path

    async def _provider_url(
        self, return_path: str, id_token: str | None, *, by_script: bool = False
    ) -> str | None:
        state = secrets.token_urlsafe(32)
        try:
            url = await self.services.oidc.logout_url(id_token=id_token, state=state)
        except ProviderUnavailable:
            return None
        if url is None:
            return None
        if by_script and id_token and len(url) + len(return_path) > _MAX_COOKIE_VALUE:
            return await self._provider_url(return_path, None, by_script=True)
        for_get = {"provider_url": url} if by_script else {}
        self.set_logout_cookie(state=state, return_path=return_path, **for_get)
        return url


class LogoutCallback(LogoutHandler):
    """The provider has ended its session and sends the browser back; `state` says where to."""

    retry_for_strict_cookies = False

    def get(self) -> None:
        saved, cookies = self.read_logout_cookie(), self.services.cookies
        self.clear_cookie(cookies.logout_name, **cookies.login_cookie_attributes)
        state_matches = hmac.compare_digest(
            saved.get("state", "").encode(), self.params.get("state", "").encode()
        )
        self.redirect(saved["return_path"] if saved and state_matches else "/")
