"""Doctor: the provider's metadata compared with the settings. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from app.bff.doctor.report import Finding, info, ok, warning, wrong
from app.bff.oidc.dpop import ALGORITHM
from app.bff.oidc.metadata import Metadata, expected_algorithms, strings
from app.bff.settings.models import BffSettings

_ANY_AUTH = frozenset({"client_secret_basic"})  # what holds if nothing is announced (RFC 8414 §2)


def check_metadata(metadata: Metadata, document: Mapping[str, Any], settings: BffSettings) -> list[Finding]:
    """`document` is the whole discovery document, `metadata` the members that the application uses."""
    return [
        _pkce(metadata),
        _issuer_in_answers(metadata),
        _client_auth(strings(document, "token_endpoint_auth_methods_supported") or _ANY_AUTH, settings),
        _signatures(metadata.signing_algorithms, settings),
        _scopes(strings(document, "scopes_supported"), settings),
        _offline_access(metadata, settings),
        _pushed_requests(metadata, settings),
        _bound_tokens(strings(document, "dpop_signing_alg_values_supported"), settings),
        _revocation(metadata, settings),
        _end_session(metadata),
        _backchannel_logout(document),
        _prompts(metadata),
    ]


def _pkce(metadata: Metadata) -> Finding:
    if metadata.announces_pkce:
        return ok("PKCE with S256")
    return warning(
        "PKCE with S256 is not announced", "Enable it there: otherwise only state and nonce protect logins."
    )


def _issuer_in_answers(metadata: Metadata) -> Finding:
    if metadata.announces_iss:
        return ok("authorization responses carry iss (RFC 9207)")
    return info("authorization responses carry no iss (RFC 9207); with a single provider this matters little")


def _client_auth(methods: Set[str], settings: BffSettings) -> Finding:
    if settings.client_auth in methods:
        return ok(f"client authentication by {settings.client_auth}")
    return wrong(
        f"client authentication by {settings.client_auth} is not announced",
        f"Set BFF_CLIENT_AUTH to the registered method, one of: {', '.join(sorted(methods))}.",
    )


def _signatures(announced: frozenset[str], settings: BffSettings) -> Finding:
    expected = expected_algorithms(announced, settings.id_token_alg)
    names = ", ".join(sorted(expected))
    if expected and expected <= announced:
        return ok(f"ID tokens signed with {names}, as is to be registered for this client")
    if announced:
        return warning(
            f"ID tokens must be signed with {names}, which is not announced",
            f"Set BFF_ID_TOKEN_ALG to what is registered, one of: {', '.join(sorted(announced))}.",
        )
    return wrong(
        "ID tokens are signed with no supported algorithm: every login will fail",
        "Choose an asymmetric algorithm there, such as RS256, PS256 or ES256.",
    )


def _scopes(scopes: Set[str], settings: BffSettings) -> Finding:
    if not scopes:
        return info("scopes_supported is not announced")
    missing = [scope for scope in settings.login_scope.split() if scope not in scopes]
    if not missing:
        return ok(f"the scopes {settings.login_scope}")
    advice = "Allow them there, or remove them from BFF_SCOPE and the named clients."
    if "offline_access" in missing:
        advice = (
            "Find out how that provider issues refresh tokens: without them users log in at every expiry."
        )
    return warning(f"scopes that are not announced: {' '.join(missing)}", advice)


def _offline_access(metadata: Metadata, settings: BffSettings) -> Finding:
    """Whether the login asks for a refresh token in the way of this provider."""
    asked = "offline_access" in settings.login_scope.split()
    if not metadata.is_keycloak:
        if asked:
            return ok("offline_access asks for a refresh token")
        return info(
            "offline_access is not asked for: with most providers a login then brings no refresh token"
        )
    if not asked:
        return ok("it is a Keycloak, and offline_access is not asked for: refresh tokens come without it")
    scope = " ".join(scope for scope in settings.scope.split() if scope != "offline_access")
    return warning(
        "it is a Keycloak, and with offline_access it keeps no session of the browser: prompt=none, a logout"
        " by an administrator and at the identity provider behind it do nothing",
        f"Set BFF_SCOPE={scope}, and leave offline_access out of the scopes of named clients: refresh tokens"
        " come without it.",
    )


def _pushed_requests(metadata: Metadata, settings: BffSettings) -> Finding:
    offered = metadata.pushed_authorization_request_endpoint is not None
    required = metadata.requires_pushed_authorization_requests
    if not (settings.par or required):
        return info(f"PAR {'is' if offered else 'is not'} offered; BFF_PAR is off")
    if not offered:
        return wrong(
            "PAR is required but not offered: no login can start",
            "Set BFF_PAR=false. A provider that requires PAR must announce its endpoint.",
        )
    return ok(f"PAR, {'which it requires' if required else 'as BFF_PAR says'}")


def _bound_tokens(algorithms: Set[str], settings: BffSettings) -> Finding:
    if not settings.dpop:
        return info(f"DPoP {'is' if algorithms else 'is not'} offered; BFF_DPOP is off")
    if ALGORITHM in algorithms:
        return ok(f"DPoP with {ALGORITHM}")
    if not algorithms:
        return warning("DPoP is not announced, and BFF_DPOP is on", "Set BFF_DPOP=false if logins fail.")
    return wrong(
        f"DPoP is offered without {ALGORITHM}, the algorithm that the application signs with",
        "Set BFF_DPOP=false.",
    )


def _revocation(metadata: Metadata, settings: BffSettings) -> Finding:
    if metadata.revocation_endpoint:
        return ok("refresh tokens can be revoked (RFC 7009)")
    if not settings.revoke_refresh_token_on_logout:
        return info("refresh tokens cannot be revoked; BFF_REVOKE_REFRESH_TOKEN_ON_LOGOUT is off")
    return warning(
        "refresh tokens cannot be revoked: they outlive a logout",
        "Make them short-lived there. BFF_REVOKE_REFRESH_TOKEN_ON_LOGOUT=false silences this warning.",
    )


def _end_session(metadata: Metadata) -> Finding:
    if metadata.end_session_endpoint:
        return ok("RP-initiated logout is offered")
    return warning(
        "RP-initiated logout is not offered: the next login may ask for no password",
        "Enable RP-initiated logout there, if available.",
    )


def _backchannel_logout(document: Mapping[str, Any]) -> Finding:
    if document.get("backchannel_logout_supported") is not True:
        return info("back-channel logout is not offered: a logout there does not end the session here")
    if document.get("backchannel_logout_session_supported") is not True:
        return info("back-channel logout without sid: it ends all sessions of the user")
    return ok("back-channel logout with sid")


def _prompts(metadata: Metadata) -> Finding:
    if metadata.prompts:
        return info(f"prompt={'|'.join(sorted(metadata.prompts))}")
    return info("prompt_values_supported is not announced")
