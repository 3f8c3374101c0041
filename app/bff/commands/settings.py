"""`python -m app settings`: every setting, its value and where it comes from; secrets are hidden."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from app.bff.settings.models import BffSettings
from app.bff.settings.sources import is_secret, read_variables, source_of, variable

_HIDDEN = "(hidden)"


async def run(settings: BffSettings, args: Namespace) -> int:
    entries = described(settings, read_variables())
    if args.json:
        print(json.dumps(entries, indent=2, ensure_ascii=False))
    else:
        for name, entry in entries.items():
            print(name, json.dumps(entry["value"], ensure_ascii=False), entry["source"], sep="\t")
    return 0


def described(settings: BffSettings, variables: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return `value` and `source` by the name of the variable, in the order of the classes' fields."""
    shown = shown_fields(settings)
    return {
        variable(field): {"value": value, "source": source_of(field, variables)}
        for field, value in shown.items()
    }


def shown_fields(model: BaseModel) -> dict[str, Any]:
    """Return the values of a model's fields as JSON has them; a secret that is set is hidden."""
    return {
        name: _hidden(getattr(model, name)) if is_secret(field) else shown(getattr(model, name))
        for name, field in type(model).model_fields.items()
    }


def _hidden(value: Any) -> str:
    plain = value.get_secret_value() if hasattr(value, "get_secret_value") else value
    return _HIDDEN if plain else ""


def shown(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return shown_fields(value)
    if isinstance(value, Mapping):
        return {str(key): shown(each) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [shown(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
