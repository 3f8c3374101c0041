"""A login attempt: what we must remember between sending the browser out and seeing it come back."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from app.bff.crypto import Unsealable, Vault
from app.bff.errors import LoginFailed
from app.bff.oidc.dpop import DpopKey
from app.bff.oidc.step_up import AuthenticationRequirements

ATTEMPT_SECONDS = 600

# What a provider's `error` means to the person in front of the browser; its own text is not shown,
# because anybody can write one into a link (RFC 6749 §4.1.2.1).
_REASONS = {
    "access_denied": "Signing in was cancelled.",
    "login_required": "The sign-in service wants you to sign in again.",
    "temporarily_unavailable": "The sign-in service is busy. Please try again in a moment.",
}


# The names of fields in a sealed attempt, where they differ: other releases open it during a rollout.
_SEALED_NAMES = {"request_params": "asked", "notifies_opener": "reports"}
_FIELD_NAMES = {sealed: name for name, sealed in _SEALED_NAMES.items()}


@dataclass(frozen=True)
class LoginAttempt:
    """One browser tab on its way to the provider and back.

    `created_at` is in seconds since the epoch. `replaces` is the ref of the session that this login
    puts an end to: its cookie does not come along when the provider sends the browser back. Tokens
    are bound to `dpop_key`, a private JWK, if there is one. `request_params` are the parameters that the
    provider's answer must live up to. `notifies_opener` says that a silent login ends with a message to the
    page that waits for it, not at `return_path`.
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
        """Whether the provider was asked to show nothing."""
        return self.request_params.get("prompt") == "none"

    @property
    def auth_time_floor(self) -> float | None:
        """When the provider was asked for another login, whoever is signed in there; or None."""
        return self.created_at if self.request_params.get("prompt") == "login" else None

    def validate_response(self, params: Mapping[str, str], *, announces_iss: bool, now: float) -> str:
        """Return the authorization code of the provider's answer, or raise LoginFailed.

        `state` is compared before anything else is believed (RFC 6749 §10.12), then `iss`, which
        must be there if the provider announces it (RFC 9207 §2.4), and only then is `error` read.
        """
        if not hmac.compare_digest(params.get("state", "").encode(), self.state.encode()):
            raise LoginFailed("This answer belongs to another sign-in.")
        if now > self.created_at + ATTEMPT_SECONDS:
            raise LoginFailed("This sign-in took too long.")
        if params.get("iss", None if announces_iss else self.issuer) != self.issuer:
            raise LoginFailed("This answer is not from our sign-in service.")
        if "error" in params:
            raise _refused(params["error"])
        if not params.get("code"):
            raise LoginFailed("The answer of the sign-in service is incomplete.")
        return params["code"]

    def sealed(self, vault: Vault, *, cookie_name: str) -> str:
        # What has its default is left out: while a new version is rolled out, an older one may open this.
        content = {_SEALED_NAMES.get(name, name): value for name, value in asdict(self).items() if value}
        return vault.seal_json(content, place=cookie_name)

    @classmethod
    def opened(cls, cookie: str, vault: Vault, *, cookie_name: str) -> LoginAttempt:
        """Return the attempt in a cookie, or raise LoginFailed for one that is not ours."""
        try:
            content = vault.open_json(cookie, place=cookie_name)
            return cls(**{_FIELD_NAMES.get(name, name): value for name, value in content.items()})
        except (Unsealable, TypeError) as error:  # TypeError: another version of ours sealed other fields
            raise LoginFailed("This browser remembers no such sign-in.") from error


def _refused(error: str) -> LoginFailed:
    words = _REASONS.get(error, "The sign-in service refused.")
    return LoginFailed(words, reason=error) if re.fullmatch("[a-z_]{1,64}", error) else LoginFailed(words)
