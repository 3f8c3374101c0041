"""How a client wants somebody to have signed in: how long ago at most, and in which way."""
# Authlib is untyped:
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import re
from collections.abc import Mapping

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import InvalidRequestError

from app.bff.dev.grants import ProviderSession
from app.bff.dev.realm import Realm

Asked = Mapping[str, str]


def check_demands(asked: Asked, realm: Realm) -> None:
    """Raise what goes back to the client when `max_age` is no number, or no way to sign in will do."""
    if not re.fullmatch(r"[0-9]{1,9}", asked.get("max_age", "0")):
        raise InvalidRequestError("The max_age must be a number of seconds.")
    if "acr_values" in asked and realm.refuses_other_acrs and acr_for(asked, realm) is None:
        raise OAuth2Error("None of the acr_values.", error="unmet_authentication_requirements")


def acr_for(asked: Asked, realm: Realm) -> str | None:
    """The first of the ways that were asked for that there is here."""
    return next((acr for acr in asked.get("acr_values", "").split() if acr in realm.acrs), None)


def is_met_by(session: ProviderSession, asked: Asked, realm: Realm) -> bool:
    """Whether somebody who has signed in so need not be asked again; with a `max_age` of 0, always."""
    wanted, max_age = acr_for(asked, realm), asked.get("max_age", "")
    if wanted not in (None, session.acr):
        return False
    return not max_age.isdecimal() or realm.clock() - session.auth_time < int(max_age)
