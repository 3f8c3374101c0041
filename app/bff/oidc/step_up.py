"""Authentication requirements (acr, max_age) and login request parameters. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from app.bff.errors import BadRequest

# The characters of a scope token (RFC 6749 §3.3): values are quoted in headers, and lists use spaces.
_VALUE = r"[\x21\x23-\x5b\x5d-\x7e]+"
_RULES = {
    "login_hint": (r"[^\x00-\x1f\x7f-\x9f]{1,300}", "one line of up to 300 characters"),
    "acr_values": (
        rf"(?=.{{1,500}}$){_VALUE}(?: {_VALUE})*",
        "names with one space between, up to 500 characters",
    ),
    "max_age": (r"[0-9]{1,9}", "a whole number of seconds"),
}


@dataclass(frozen=True)
class AuthenticationRequirements:
    """A login must have one of the authentication context classes `acr`, at most `max_age` seconds ago.

    Raises ValueError for an `acr` or a `max_age` that cannot be sent to a provider.
    """

    acr: tuple[str, ...] = ()
    max_age: int | None = None

    def __post_init__(self) -> None:
        for name, value in self.params.items():
            _check(name, str(value))
        if " " in "".join(self.acr):
            raise ValueError("acr_values must be one name, or several of them in a list")

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> Self:
        """Return the requirements in the parameters of an authorization request."""
        max_age = params.get("max_age")
        return cls(tuple(params.get("acr_values", "").split()), None if max_age is None else int(max_age))

    @cached_property  # each page has a login URL
    def params(self) -> dict[str, str | int]:
        """The parameters of an authorization request (OIDC Core §3.1.2.1, RFC 9470 §4)."""
        acr_values: dict[str, str | int] = {"acr_values": " ".join(self.acr)} if self.acr else {}
        return acr_values if self.max_age is None else {**acr_values, "max_age": self.max_age}


def login_parameters(params: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of an authorization request in those of `/bff/login`, or raise BadRequest.

    Does not check whether the provider supports the prompt.
    """
    given = {"login_hint": params.get("hint"), **params}
    parameters = {name: value for name in ("prompt", *_RULES) if (value := given.get(name)) is not None}
    for name, value in parameters.items():
        try:
            _check(name, value)
        except ValueError as error:
            raise BadRequest(str(error)) from None
    return parameters


def provider_parameters(
    params: Mapping[str, str], *, configured: Mapping[str, str], allowed: Collection[str]
) -> dict[str, str]:
    """Return what only the provider interprets: `configured`, and of `params` those that are `allowed`.

    Raises BadRequest for a value of more than one line or more than 500 characters.
    """
    passed = {name: params[name] for name in allowed if name in params}
    for name, value in passed.items():
        if not re.fullmatch(r"[^\x00-\x1f\x7f-\x9f]{1,500}", value):
            raise BadRequest(f"{name} must be one line of up to 500 characters")
    own = {name: value for name, value in configured.items() if name not in ("prompt", *_RULES)}
    return {**own, **passed}


def _check(name: str, value: str) -> None:
    pattern, description = _RULES.get(name, (".*", ""))
    if not re.fullmatch(pattern, value):
        raise ValueError(f"{name} must be {description}")
