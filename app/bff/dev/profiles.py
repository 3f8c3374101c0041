"""Profiles of the development provider: BFF_DEV_PROVIDER=entra makes it behave like that provider."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from app.bff.dev.provider import Failure, Provider

VARIABLE = "BFF_DEV_PROVIDER"

_WITHOUT_ISS = {"callback": {"iss": None}}
_METADATA_WITHOUT_ISS = {"authorization_response_iss_parameter_supported": None}
_BASIC_METADATA = {**_METADATA_WITHOUT_ISS, "pushed_authorization_request_endpoint": None}

# The switches of Realm and LocalServer that differ from a provider that reads the RFCs; docs/bff/providers.md
# describes each, and has the settings that it needs.
PROFILES: Mapping[str, Mapping[str, object]] = {
    "keycloak": {"offline_params": {}, "rotates": False, "sessions_end_with_their_grants": True},
    "entra": {
        "overrides": {
            **_WITHOUT_ISS,
            "metadata": {**_BASIC_METADATA, "revocation_endpoint": None, "introspection_endpoint": None},
        },
        "fails": {"userinfo": Failure(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})},
    },
    "auth0": {"overrides": {**_WITHOUT_ISS, "metadata": _BASIC_METADATA}, "audience_names_api": True},
    "okta": {"overrides": {**_WITHOUT_ISS, "metadata": _METADATA_WITHOUT_ISS}, "demands_logout_hint": True},
    "google": {
        "overrides": {
            **_WITHOUT_ISS,
            "metadata": {
                **_BASIC_METADATA,
                "end_session_endpoint": None,
                "backchannel_logout_supported": None,
            },
            "id_token": {"sid": None},
        },
        "refused_scopes": frozenset({"offline_access"}),
        "offline_params": {"access_type": "offline"},
        "rotates": False,
    },
    "cognito": {
        "overrides": {
            **_WITHOUT_ISS,
            "metadata": {**_BASIC_METADATA, "backchannel_logout_supported": None},
            "id_token": {"sid": None},
        },
        "refused_scopes": frozenset({"offline_access"}),
        "offline_params": {},
        "rotates": False,
        "logout_uri_parameter": "logout_uri",
    },
    "zitadel": {
        "overrides": {**_WITHOUT_ISS, "metadata": _BASIC_METADATA},
        "further_audiences": ("265432109876543210",),
    },
    "apple": {
        "overrides": {
            **_WITHOUT_ISS,
            "metadata": {**_BASIC_METADATA, "end_session_endpoint": None, "userinfo_endpoint": None},
            "id_token": {"sid": None, "email_verified": "true"},
        },
        "refused_scopes": frozenset({"offline_access", "profile"}),
        "form_post_scopes": frozenset({"name", "email"}),
        "offline_params": {},
        "rotates": False,
    },
    "duende": {"rotates": False},
    "authentik": {"overrides": {**_WITHOUT_ISS, "metadata": _BASIC_METADATA}},
}


def apply_profile(provider: Provider, name: str) -> None:
    """Set the switches of a profile; raises SystemExit, which lists the names, for an unknown one."""
    if name not in PROFILES:
        raise SystemExit(f"{VARIABLE} is {name!r}; there are: {', '.join(PROFILES)}.")
    for switch, value in deepcopy(dict(PROFILES[name])).items():
        setattr(provider, switch, value)
