"""Loads settings from the environment and `.env`, and reports every mistake at once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any, TypeVar

from dotenv import dotenv_values
from pydantic import ValidationError

from app.bff.errors import SettingsError
from app.bff.settings.apis import HttpClientSettings, RemoteApiSettings
from app.bff.settings.models import ENV_PREFIX, BffSettings
from app.bff.settings.proxies import Proxies

OF_SCRIPTS = frozenset({"BFF_DEV_PROVIDER"})  # read by scripts/dev.sh, and no setting of the application

S = TypeVar("S", bound=BffSettings)


def load_settings(model: type[S]) -> S:
    """Return the settings in the environment and in `.env`; raise SettingsError with a line per mistake.

    A variable BFF_… that is no field of `model` is a mistake.
    """
    try:
        variables = {**dotenv_values(".env"), **os.environ}
    except UnicodeDecodeError:
        raise SettingsError(".env: is not UTF-8") from None
    names = [name for name in variables if name.startswith(ENV_PREFIX)]
    mistakes = [_unknown_name(name, model) for name in names if not _is_known(name, model)]
    try:
        settings = model()
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        mistakes += [format_validation_error(problem) for problem in problems]
    try:
        Proxies.of_environment()
    except ValueError as error:
        mistakes.append(str(error))
    if mistakes:
        raise SettingsError(*mistakes)
    return settings


def _is_known(name: str, model: type[BffSettings]) -> bool:
    return name in OF_SCRIPTS or name.removeprefix(ENV_PREFIX).lower() in model.model_fields


def _unknown_name(name: str, model: type[BffSettings]) -> str:
    known = [ENV_PREFIX + field.upper() for field in model.model_fields]
    guess = difflib.get_close_matches(name, known, n=1)
    return f"{name}: there is no such setting" + (f"; did you mean {guess[0]}?" if guess else "")


def format_validation_error(problem: Mapping[str, Any]) -> str:
    name, *inner = (str(part) for part in problem["loc"])
    where = "".join(f"[{part}]" for part in inner)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        shape = HttpClientSettings if name == "http_clients" else RemoteApiSettings
        message = f"there is no such key; there are: {', '.join(shape.model_fields)}"
    return f"{ENV_PREFIX}{name.upper()}{where}: {message}"
