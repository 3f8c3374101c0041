"""Where a setting comes from: a variable, `.env`, a file that BFF_…_FILE names, the code or the default."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, get_args

from dotenv import dotenv_values
from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from app.bff.errors import SettingsError
from app.bff.settings.models import ENV_FILE, ENV_PREFIX, BffSettings

FILE_SUFFIX = "_FILE"
_MAX_FILE_BYTES = 65_536

Source = Literal["environment", ".env", "file", "default"]


def variable(field: str, suffix: str = "") -> str:
    return ENV_PREFIX + field.upper() + suffix


def read_variables() -> dict[str, str]:
    """Return the variables of `.env` and of the environment, which wins.

    Raises SettingsError if `.env` is no text.
    """
    return {**_of_env_file(), **os.environ}


def _of_env_file() -> dict[str, str]:
    try:
        return {name: value or "" for name, value in dotenv_values(ENV_FILE).items()}
    except UnicodeDecodeError:
        raise SettingsError(f"{ENV_FILE}: is not UTF-8") from None


def is_secret(field: FieldInfo) -> bool:
    """Whether a value of this field must not be shown: its type says so, or `repr=False`."""
    return not field.repr or bool({SecretStr, SecretBytes} & set(_types(field.annotation)))


def _types(annotation: object) -> Iterable[object]:
    yield annotation
    for inner in get_args(annotation):
        yield from _types(inner)


def secret_files(model: type[BffSettings], variables: Mapping[str, str]) -> dict[str, Path]:
    """Return the files that BFF_…_FILE names, by field: every secret field may be in one."""
    named = {name: variables.get(variable(name, FILE_SUFFIX), "").strip() for name in secret_fields(model)}
    return {name: Path(file) for name, file in named.items() if file}


def secret_fields(model: type[BaseModel]) -> list[str]:
    """Return the fields that are secret, or hold a model that has such fields."""
    return [name for name, field in model.model_fields.items() if is_secret(field) or _holds_secrets(field)]


def _holds_secrets(field: FieldInfo) -> bool:
    types = _types(field.annotation)
    return any(
        isinstance(each, type) and issubclass(each, BaseModel) and secret_fields(each) for each in types
    )


def read_secret_file(file: Path) -> str:
    """Return the text of a file, without white space around it. Raises ValueError, which says why not."""
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"{file} has more than {_MAX_FILE_BYTES} bytes")
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not UTF-8") from None
    if not text:
        raise ValueError(f"{file} is empty")
    return text


def source_of(field: str, variables: Mapping[str, str]) -> Source:
    """Return where the value of a field comes from; `variables` are those of `read_variables`."""
    if variables.get(variable(field, FILE_SUFFIX)):
        return "file"
    if variable(field) in os.environ:
        return "environment"
    return ".env" if variable(field) in variables else "default"
