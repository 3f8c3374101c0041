"""Loads settings from the environment and `.env`, and reports every mistake at once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from app.bff.errors import SettingsError
from app.bff.settings.apis import HttpClientSettings, RemoteApiSettings
from app.bff.settings.models import ENV_PREFIX, BffSettings
from app.bff.settings.otlp import otlp_mistakes
from app.bff.settings.proxies import Proxies
from app.bff.settings.sources import (
    FILE_SUFFIX,
    read_secret_file,
    read_variables,
    secret_fields,
    secret_files,
    variable,
)

OF_SCRIPTS = frozenset({"BFF_DEV_PROVIDER"})  # read by scripts/dev.sh, and no setting of the application

S = TypeVar("S", bound=BffSettings)


def load_settings(model: type[S]) -> S:
    """Return the settings in the environment, in `.env` and in the files that BFF_…_FILE name.

    Raises SettingsError with a line per mistake. A variable BFF_… that is no field of `model`, nor names the
    file of one that is secret, is a mistake.
    """
    variables = read_variables()
    names, known = [name for name in variables if name.startswith(ENV_PREFIX)], known_names(model)
    mistakes = [_unknown_name(name, model) for name in names if name not in (*OF_SCRIPTS, *known)]
    secrets, unreadable = _read_secrets(model, variables)
    mistakes += unreadable.values()
    try:
        settings = model(**secrets)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        mistakes += [
            format_validation_error(problem, FILE_SUFFIX if problem["loc"][0] in secrets else "")
            for problem in problems
            if problem["loc"][0] not in unreadable
        ]
    try:
        Proxies.of_environment()
    except ValueError as error:
        mistakes.append(str(error))
    mistakes += otlp_mistakes(os.environ)
    if mistakes:
        raise SettingsError(*mistakes)
    return settings


def _read_secrets(
    model: type[BffSettings], variables: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the secrets that are in files, and a mistake for each that could not be read, by field."""
    found, unreadable = {}, {}
    for field, file in secret_files(model, variables).items():
        try:
            if variables.get(variable(field), "").strip():
                raise ValueError(f"{variable(field)} is set as well: remove one of them")
            found[field] = read_secret_file(file)
        except ValueError as error:
            unreadable[field] = f"{variable(field, FILE_SUFFIX)}: {error}"
    return found, unreadable


def known_names(model: type[BffSettings]) -> list[str]:
    """Return the variables that set something."""
    files = [variable(field, FILE_SUFFIX) for field in secret_fields(model)]
    return [*map(variable, model.model_fields), *files]


def _unknown_name(name: str, model: type[BffSettings]) -> str:
    known = known_names(model)
    guess = difflib.get_close_matches(name, known, n=1)
    return f"{name}: there is no such setting" + (f"; did you mean {guess[0]}?" if guess else "")


def format_validation_error(problem: Mapping[str, Any], suffix: str = "") -> str:
    """Return the line for a problem of pydantic's; `suffix` is FILE_SUFFIX if the value was in a file."""
    name, *inner = (str(part) for part in problem["loc"])
    where = "".join(f"[{part}]" for part in inner)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        shape = HttpClientSettings if name == "http_clients" else RemoteApiSettings
        message = f"there is no such key; there are: {', '.join(shape.model_fields)}"
    return f"{variable(name, suffix)}{where}: {message}"
