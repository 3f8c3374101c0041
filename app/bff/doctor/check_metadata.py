"""What the provider announces, held against what we ask of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from app.bff.doctor.report import Finding, info, ok, warning, wrong
from app.bff.oidc.dpop import ALGORITHM
from app.bff.oidc.metadata import Metadata, strings
from app.bff.settings.load import BffSettings

_ANY_AUTH = frozenset({"client_secret_basic"})  # what holds if nothing is announced (RFC 8414 §2)


def announced_findings(
    metadata: Metadata, document: Mapping[str, Any], settings: BffSettings
) -> list[Finding]:
    """`metadata` is what we take from the `document`, which has more."""
    return [
        _pkce(metadata),
        _issuer_in_answers(metadata),
        _client_auth(strings(document, "token_endpoint_auth_methods_supported") or _ANY_AUTH, settings),
        _signatures(metadata),
        _scopes(strings(document, "scopes_supported"), settings),
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
        "PKCE with S256 is not announced", "Switch it on there: else state and nonce alone protect logins."
    )


def _issuer_in_answers(metadata: Metadata) -> Finding:
    if metadata.announces_iss:
        return ok("its answers say whose they are (iss, RFC 9207)")
    return info("its answers do not say whose they are (iss, RFC 9207); with one provider it matters little")


def _client_auth(methods: Set[str], settings: BffSettings) -> Finding:
    if settings.client_auth in methods:
        return ok(f"{settings.client_auth} as proof of who we are")
    return wrong(
        f"{settings.client_auth} is not announced as proof of who a client is",
        f"Set BFF_CLIENT_AUTH to one of these, if it is ours: {', '.join(sorted(methods))}.",
    )


def _signatures(metadata: Metadata) -> Finding:
    if metadata.signing_algorithms:
        return ok(f"id tokens signed with {', '.join(sorted(metadata.signing_algorithms))}")
    return wrong(
        "id tokens are signed with nothing that we believe: no login will succeed",
        "Choose an asymmetric algorithm there, such as RS256, PS256 or ES256.",
    )


def _scopes(scopes: Set[str], settings: BffSettings) -> Finding:
    if not scopes:
        return info("it does not say which scopes it has")
    missing = [scope for scope in settings.login_scope.split() if scope not in scopes]
    if not missing:
        return ok(f"the scopes {settings.login_scope}")
    advice = "Allow them there, or take them out of BFF_SCOPE and of the clients in BFF_HTTP_CLIENTS."
    if "offline_access" in missing:
        advice = "Find out what gives refresh tokens there: without them people sign in again and again."
    return warning(f"scopes that are not announced: {' '.join(missing)}", advice)


def _pushed_requests(metadata: Metadata, settings: BffSettings) -> Finding:
    offered = metadata.pushed_authorization_request_endpoint is not None
    required = metadata.requires_pushed_authorization_requests
    if not (settings.par or required):
        return info(f"PAR {'is' if offered else 'is not'} offered; BFF_PAR is off")
    if not offered:
        return wrong(
            "PAR is not offered, and asked for: no login can start",
            "Set BFF_PAR=false. If the provider requires it, it must also say where.",
        )
    return ok(f"PAR, {'which it requires' if required else 'as BFF_PAR says'}")


def _bound_tokens(algorithms: Set[str], settings: BffSettings) -> Finding:
    if not settings.dpop:
        return info(f"DPoP {'is' if algorithms else 'is not'} offered; BFF_DPOP is off")
    if ALGORITHM in algorithms:
        return ok(f"DPoP with {ALGORITHM}")
    if not algorithms:
        return warning("DPoP is not announced, and BFF_DPOP is on", "Set BFF_DPOP=false if logins fail.")
    return wrong(f"DPoP is offered without {ALGORITHM}, which is what we sign with", "Set BFF_DPOP=false.")


def _revocation(metadata: Metadata, settings: BffSettings) -> Finding:
    if metadata.revocation_endpoint:
        return ok("refresh tokens can be revoked")
    if not settings.revoke_refresh_token_on_logout:
        return info("refresh tokens cannot be revoked; BFF_REVOKE_REFRESH_TOKEN_ON_LOGOUT is off")
    return warning(
        "refresh tokens cannot be revoked: they outlive a logout",
        "Let them be short-lived there. BFF_REVOKE_REFRESH_TOKEN_ON_LOGOUT=false says that you know it.",
    )


def _end_session(metadata: Metadata) -> Finding:
    if metadata.end_session_endpoint:
        return ok("its own session can be ended")
    return warning(
        "its own session cannot be ended: who signs out and in again may not be asked for a password",
        "Switch on RP-initiated logout there, if it can do that.",
    )


def _backchannel_logout(document: Mapping[str, Any]) -> Finding:
    if document.get("backchannel_logout_supported") is not True:
        return info("back-channel logout is not offered: who signs out there stays signed in here")
    if document.get("backchannel_logout_session_supported") is not True:
        return info("back-channel logout without sid: it ends all sessions of the person who signs out there")
    return ok("back-channel logout, of single sessions")


def _prompts(metadata: Metadata) -> Finding:
    if metadata.prompts:
        return info(f"prompt={'|'.join(sorted(metadata.prompts))}")
    return info("it does not say which values of prompt it knows")
