"""A login attempt: the state between an authorization request and its response, sealed in a cookie."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, field

from app.bff.crypto import Unsealable, Vault
from app.bff.errors import LoginFailed
from app.bff.oidc.dpop import DpopKey
from app.bff.oidc.refusals import error_code, refusal_fields
from app.bff.oidc.step_up import AuthenticationRequirements

ATTEMPT_SECONDS = 600

# The messages for a provider's `error`. Its own description is logged, and not shown: a link by a third party
# can contain any text (RFC 6749 §4.1.2.1).
_MESSAGES = {
    "access_denied": "Signing in was cancelled.",
    "login_required": "The sign-in service wants you to sign in again.",
    "temporarily_unavailable": "The sign-in service is busy. Please try again in a moment.",
}


# Where the name of a field differs in a sealed attempt; other releases open it during a rolling upgrade.
_SEALED_NAMES = {"request_params": "asked", "notifies_opener": "reports"}
# Stands among the request parameters, where earlier releases overlook it.
_SAVED = "return_path_is_saved"
_FIELD_NAMES = {sealed: name for name, sealed in _SEALED_NAMES.items()}


@dataclass(frozen=True)
class LoginAttempt:
    """One authorization request of one browser tab.

    `created_at` is in seconds since the epoch. `replaces` is the ref of the session that this login
    ends: its SameSite=Strict cookie is not sent with the provider's redirect. Tokens are bound to
    `dpop_key`, a private JWK, if there is one. `request_params` are the parameters that the response must
    satisfy. With `notifies_opener` a silent login ends with a message to the page that started it,
    instead of at `return_path`. With `return_path_is_saved` that is a part of the path only; all of it is in
    the store (ReturnPaths).
    """

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)  # of PKCE, RFC 7636 §4.1
    return_path: str
    issuer: str
    created_at: float
    replaces: str | None = None
    dpop_key: DpopKey | None = field(default=None, repr=False)
    request_params: dict[str, str] = field(default_factory=dict)
    notifies_opener: bool = False
    return_path_is_saved: bool = False

    @classmethod
    def start(
        cls,
        *,
        return_path: str,
        issuer: str,
        replaces: str | None,
        now: float,
        dpop_key: DpopKey | None = None,
        request_params: Mapping[str, str] | None = None,
        notifies_opener: bool = False,
    ) -> LoginAttempt:
        return cls(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            return_path=return_path,
            issuer=issuer,
            created_at=now,
            replaces=replaces,
            dpop_key=dpop_key,
            request_params=dict(request_params or {}),
            notifies_opener=notifies_opener,
        )

    @property
    def requirements(self) -> AuthenticationRequirements:
        return AuthenticationRequirements.from_params(self.request_params)

    @property
    def is_silent(self) -> bool:
        """Whether this is a silent login: the provider shows no page."""
        return self.request_params.get("prompt") == "none"

    @property
    def auth_time_floor(self) -> float | None:
        """The earliest `auth_time` accepted after `prompt=login`; otherwise None."""
        return self.created_at if self.request_params.get("prompt") == "login" else None

    def validate_response(
        self, params: Mapping[str, str], *, announces_iss: bool, now: float, issuers: Container[object] = ()
    ) -> str:
        """Return the code of an authorization response, or raise LoginFailed.

        `state` is compared before anything else is trusted (RFC 6749 §10.12), then `iss`, which is
        required if the provider announces it (RFC 9207 §2.4), and only then is `error` read. `issuers` are
        those of the provider, if it has several.
        """
        if not hmac.compare_digest(params.get("state", "").encode(), self.state.encode()):
            raise LoginFailed("This answer belongs to another sign-in.")
        if now > self.created_at + ATTEMPT_SECONDS:
            raise LoginFailed("This sign-in took too long.")
        if (announces_iss or "iss" in params) and params.get("iss") not in (issuers or (self.issuer,)):
            raise LoginFailed("This answer is not from our sign-in service.")
        if "error" in params:
            raise _refused(params)
        if not params.get("code"):
            raise LoginFailed("The answer of the sign-in service is incomplete.")
        return params["code"]

    def sealed(self, vault: Vault, *, cookie_name: str) -> str:
        # Empty fields are left out, so that an older release opens this during a rolling upgrade.
        fields = asdict(self)
        if fields.pop(_SAVED):
            fields["request_params"][_SAVED] = "true"
        content = {_SEALED_NAMES.get(name, name): value for name, value in fields.items() if value}
        return vault.seal_json(content, place=cookie_name)

    @classmethod
    def opened(cls, cookie: str, vault: Vault, *, cookie_name: str) -> LoginAttempt:
        """Return the attempt in a cookie, or raise LoginFailed if it cannot be opened."""
        try:
            content = vault.open_json(cookie, place=cookie_name)
            fields = {_FIELD_NAMES.get(name, name): value for name, value in content.items()}
            if fields.get("request_params", {}).pop(_SAVED, None):
                fields[_SAVED] = True
            return cls(**fields)
        except (Unsealable, TypeError) as error:  # TypeError: fields of another release
            raise LoginFailed("This browser remembers no such sign-in.") from error


def _refused(params: Mapping[str, str]) -> LoginFailed:
    code, refusal = error_code(params["error"]), refusal_fields(params)
    message = _MESSAGES.get(code or "", "The sign-in service refused.")
    if code is None:
        return LoginFailed(message, refusal=refusal)
    return LoginFailed(f"{message} ({code})", reason=code, refusal=refusal)
