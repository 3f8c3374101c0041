"""Login: the redirect to the provider, also of a silent login. Its second step is in callback.py."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from urllib.parse import urlencode

from app.bff.errors import BadRequest, CsrfRejected
from app.bff.handlers.auth import LoginStep
from app.bff.handlers.web import MOVED, READING, RETURN_URL
from app.bff.oidc.dpop import new_key
from app.bff.oidc.login_attempt import LoginAttempt
from app.bff.oidc.step_up import login_parameters, provider_parameters
from app.bff.paths import LOGIN_PATH
from app.bff.web.cross_origin import FRAMES, is_sent_from_elsewhere, login_refusal
from app.bff.web.query import in_own_case, single_values
from app.bff.web.return_paths import part_for_cookie, path_on

_PROMPTS = frozenset({"none", "login", "consent", "select_account"})  # OIDC Core §3.1.2.1


class Login(LoginStep):
    """Starts a login attempt. Several may be pending in one browser, one in each tab.

    Another site may initiate it (OIDC Core §4): `iss`, `login_hint` and `target_link_uri`, by GET or POST.
    """

    own_params = (RETURN_URL, "prompt", "login_hint", "hint", "acr_values", "max_age")

    async def prepare(self) -> None:
        silent = self.request.method in READING and self._requests_silent_login()
        self.set_silent(silent, path=self._silent_end())
        await super().prepare()

    async def get(self) -> None:
        self._check_navigation()
        here = f"{LOGIN_PATH}?{urlencode(self.params)}".removesuffix("?")
        may_move = not self.is_silent and MOVED not in self.params
        if may_move and (there := self.at_base_url(here)) != here:
            self.redirect(there)
            return
        request_params, further = await self._checked_parameters()
        attempt = self._new_attempt(request_params)
        if any(map(self.services.cookies.is_login_name, self.request_cookies)):
            # An attempt that has not come back: the page that it was sent to may have moved.
            await self.services.provider.moved(self.services.provider.login_page)
        url = await self.services.oidc.login_url(attempt, further)
        if not self.is_silent:
            # The browser is back from a logout, though not by the provider's way. This login may share the
            # grant of the earlier one, so that must not be revoked later.
            await self.services.tokens.revoke_after_logout(self.waiting_revocations)
        if attempt.return_path != self.requested_return_path and not attempt.notifies_opener:
            is_saved = await self.save_return_path(self.requested_return_path, attempt.state)
            attempt = replace(attempt, return_path_is_saved=is_saved)
        name = self.services.cookies.login_name(attempt.state, attempt.created_at)
        self.set_sealed_cookie(name, attempt.sealed(self.services.vault, cookie_name=name))
        self.redirect(url)

    async def head(self) -> None:
        """Answer as `get`, and start no attempt: the provider's page has no parameters."""
        self._check_navigation()
        await self._checked_parameters()
        self.redirect((await self.services.provider.metadata()).authorization_endpoint)

    def post(self) -> None:
        """Repeat the request as a GET: another site's form is a navigation without the Strict cookie.

        Not by a redirect if the form is on a page of ours: browsers apply its `form-action` to where that
        leads in the end, which is the provider.
        """
        self._check_navigation()
        sent = in_own_case(self.request.body_arguments, self.own_params)
        params = {**self.params, **single_values(sent, optional=(RETURN_URL,))}
        url = f"{LOGIN_PATH}?{urlencode(params)}"
        if is_sent_from_elsewhere(self.request.headers):
            self.redirect(url, status=303)
        else:
            self.navigate_same_site(url)

    def check_trusted_origin(self, origin: str) -> bool:
        return True  # a login may start at any site, by a link as well

    def _check_navigation(self) -> None:
        if refusal := login_refusal(self.request.headers, self.services.settings.allowed_origins):
            raise CsrfRejected(refusal)

    @cached_property
    def requested_return_path(self) -> str:
        """`returnUrl`; of a login that another site initiates, the path of `target_link_uri`."""
        if "iss" not in self.params:
            return super().requested_return_path
        base_url, target = self.services.settings.base_url, self.params.get("target_link_uri")
        return self.local_path_or_home(lambda: path_on(base_url, target))

    async def _checked_parameters(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return parameters for the provider: those that the response must meet, and the others.

        Raises BadRequest for one that the login does not take.
        """
        settings, configured = self.services.settings, self.services.settings.login_params
        self._check_issuer()
        request_params = login_parameters({**configured, **self.params})
        await self._check_prompt(request_params)
        further = provider_parameters(
            self.params, configured=configured, allowed=settings.login_params_allowed
        )
        if "login_hint" in request_params:  # nothing in the response depends on it
            further["login_hint"] = request_params.pop("login_hint")
        return request_params, further

    def _new_attempt(self, request_params: dict[str, str]) -> LoginAttempt:
        return LoginAttempt.start(
            return_path=part_for_cookie(self.requested_return_path),
            issuer=self.services.provider.issuer,
            replaces=self.session.ref if self.session else None,
            now=self.services.clock(),
            dpop_key=new_key() if self.services.settings.dpop else None,
            request_params=request_params,
            notifies_opener=self.is_silent and self.silent_path is None,
        )

    def _check_issuer(self) -> None:
        """Raise BadRequest for another issuer than the provider."""
        issuer, provider = self.params.get("iss"), self.services.provider
        if issuer not in (None, provider.issuer) and issuer not in provider.issuers:
            raise BadRequest("iss is not the provider of this application")

    def _requests_silent_login(self) -> bool:
        # Read from the raw query: no page may be shown, even if the other parameters are invalid.
        return set(self.request.query_arguments.get("prompt", [])) == {b"none"}

    def _silent_end(self) -> str | None:
        """Where a silent login ends: in a window at its return path; None: with the message."""
        try:
            self._check_issuer()
            if self.request.headers.get("Sec-Fetch-Dest") in FRAMES:
                return None
            return self.requested_return_path if {RETURN_URL, "iss"} & self.params.keys() else None
        except BadRequest:
            return None

    async def _check_prompt(self, params: dict[str, str]) -> None:
        """Raise BadRequest for a prompt that the provider does not have.

        Pages of ours offer another account with any provider: `login` stands in for `select_account`.
        """
        prompt, allowed = params.get("prompt"), (await self.services.provider.metadata()).prompts or _PROMPTS
        if prompt == "select_account" and prompt not in allowed and "login" in allowed:
            params["prompt"] = "login"
        elif prompt is not None and prompt not in allowed:
            raise BadRequest(f"prompt must be one of {', '.join(sorted(allowed))}")


class SilentLogin(Login):
    """Duende.BFF's older route for `/bff/login?prompt=none`; it always ends with the message."""

    SUPPORTED_METHODS = ("GET", "HEAD")

    @cached_property
    def params(self) -> dict[str, str]:
        return {**super().params, "prompt": "none"}

    @cached_property
    def requested_return_path(self) -> str:
        return "/"

    def _requests_silent_login(self) -> bool:
        return True

    def _silent_end(self) -> None:
        return None
