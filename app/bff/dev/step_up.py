"""Authentication requirements of a request: `max_age` and `acr_values`."""
# Authlib is untyped:
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import re
from collections.abc import Mapping

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import InvalidRequestError

from app.bff.dev.grants import ProviderSession
from app.bff.dev.realm import Realm

Params = Mapping[str, str]


def check_authentication_requirements(parameters: Params, realm: Realm) -> None:
    """Raise an OAuth2Error if `max_age` is no number, or no acr value is supported and that is refused."""
    if not re.fullmatch(r"[0-9]{1,9}", parameters.get("max_age", "0")):
        raise InvalidRequestError("The max_age must be a number of seconds.")
    if "acr_values" in parameters and realm.refuses_other_acrs and acr_for(parameters, realm) is None:
        raise OAuth2Error("None of the acr_values.", error="unmet_authentication_requirements")


def acr_for(parameters: Params, realm: Realm) -> str | None:
    """Return the first requested acr value that is supported."""
    return next((acr for acr in parameters.get("acr_values", "").split() if acr in realm.acrs), None)


def session_satisfies(session: ProviderSession, parameters: Params, realm: Realm) -> bool:
    """Whether the session satisfies the request without a new login; with `max_age=0`, never."""
    acr, max_age = acr_for(parameters, realm), parameters.get("max_age", "")
    if acr not in (None, session.acr):
        return False
    return not max_age.isdecimal() or realm.clock() - session.auth_time < int(max_age)
