"""A JSON request body as a pydantic model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from app.bff.errors import BadRequest, InvalidBody, UnsupportedMediaType

Model = TypeVar("Model", bound=BaseModel)

_JSON = re.compile(r"application/(?:[\w.!#$&^-]+\+)?json", re.IGNORECASE | re.ASCII)  # RFC 6839 §3.1
_MAX_ERRORS = 20
# Pydantic's own messages of these types quote what was sent.
_DETAILS = {
    "union_tag_invalid": "Input has an unknown tag",
    "uuid_parsing": "Input should be a valid UUID",
}


def parse_json_body(content_type: str | None, body: bytes, model: type[Model]) -> Model:
    """Return the body as an instance of `model`.

    Raises UnsupportedMediaType (415) unless the media type is JSON, BadRequest (400) for what is not UTF-8,
    not JSON (RFC 8259), or has a name twice in an object, which two parsers may read differently (§4),
    InvalidBody (422) for what the model refuses.
    """
    if not _JSON.fullmatch((content_type or "").partition(";")[0].strip()):
        raise UnsupportedMediaType("the body must be application/json")
    _check_syntax(body)
    try:
        return model.model_validate_json(body)  # JSON's own rules: an array may be a tuple, a string a date
    except ValidationError as error:
        raise InvalidBody(errors=_described(error)) from None  # the cause would show what was sent


def _check_syntax(body: bytes) -> None:
    try:
        json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON, or has a name twice") from None


def unreadable_body(error: BaseException | None, body: bytes, content_type: str | None) -> BadRequest | None:
    """Return BadRequest if `error` says that this very body is no text or no JSON, else None.

    It is for handlers that parse it without `parse_json_body`. Where the document that could not be parsed is
    another one, such as the response of an API, the request is not to blame.
    """
    if isinstance(error, UnicodeDecodeError) and error.object == body:
        return BadRequest("the body is not text")
    if not isinstance(
        error, json.JSONDecodeError
    ):  # too many digits, or nested too deeply: no document is named
        is_of_body = type(error) in (ValueError, RecursionError) and _fails_alike(body, error)
        return BadRequest("the body is not JSON that can be read") if is_of_body else None
    if not (body or content_type):
        return None
    readings = (body.decode(errors="replace"), body.decode(json.detect_encoding(body), errors="replace"))
    return BadRequest("the body is not JSON") if error.doc in readings else None


def _fails_alike(body: bytes, error: BaseException | None) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError) as again:
        return (type(again), str(again)) == (type(error), str(error))
    return False


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(members)
    if len(unique) < len(members):
        raise ValueError("a name is there twice")
    return unique


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _described(error: ValidationError) -> list[dict[str, str]]:
    """Return pointer and detail of each error, without the value: it may be a secret."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_ERRORS]
    return [
        {"pointer": _pointer(each["loc"]), "detail": _DETAILS.get(each["type"], each["msg"])}
        for each in found
    ]


def _pointer(location: Iterable[int | str]) -> str:
    """Return a JSON Pointer in its URI fragment form (RFC 6901 §6), as RFC 9457 §3 has it."""
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in location)
    return "#" + "".join(f"/{quote(part, safe='~')}" for part in escaped)
