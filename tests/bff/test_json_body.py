"""`self.json_body(Model)`: what is accepted, what is refused and how, and that no value is shown."""

from __future__ import annotations

import json
from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field
from tornado.escape import json_decode

from app.bff import ApiHandler, BaseHandler
from app.bff.errors import AppError, InvalidBody
from app.bff.web.json_body import parse_json_body
from tests.bff.harness import Browser, RunningApp


class Line(BaseModel):
    model_config = ConfigDict(strict=True)

    article: str = Field(max_length=20)
    quantity: int = Field(gt=0)


class Card(BaseModel):
    kind: Literal["card"]


class Invoice(BaseModel):
    kind: Literal["invoice"]


class Order(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    lines: tuple[Line, ...]
    due: date | None = None
    key: UUID | None = None
    notes: dict[str, int] = {}
    payment: Annotated[Card | Invoice | None, Field(discriminator="kind")] = None


ORDER = b'{"lines": [{"article": "Tulips", "quantity": 3}], "due": "2026-11-28"}'


def refusal(body: bytes, content_type: str | None = "application/json") -> AppError:
    with pytest.raises(AppError) as caught:
        parse_json_body(content_type, body, Order)
    return caught.value


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        " application/json ",
        "application/merge-patch+json",
        "application/vnd.example.order-1+json; v=2",
    ],
)
def test_json_is_read_that_is_sent_as(content_type: str):
    order = parse_json_body(content_type, ORDER, Order)

    assert order == Order(lines=(Line(article="Tulips", quantity=3),), due=date(2026, 11, 28))


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/xjson",
        "application/+json",
        "application/json, text/plain",
        "text/plain; a=application/json",
    ],
)
def test_415_for_a_body_that_is_sent_as(content_type: str | None):
    error = refusal(ORDER, content_type)

    assert (error.status, error.code) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"lines=3", id="a form"),
        pytest.param(b'{"lines": []', id="cut off"),
        pytest.param(b'{"lines": [],}', id="a comma too many"),
        pytest.param(b"{'lines': []}", id="single quotes"),
        pytest.param(b'{"lines": []} {}', id="two values"),
        pytest.param(b'{"lines": [], "notes": {"a": NaN}}', id="not a number"),
        pytest.param(b'{"lines": [], "notes": {"a": Infinity}}', id="infinity"),
        pytest.param(b'{"lines": [], "lines": []}', id="a name twice"),
        pytest.param(b'{"lines": [], "notes": {"a": 1, "\\u0061": 1}}', id="a name twice, spelt differently"),
        pytest.param('{"lines": [], "due": "Zoë"}'.encode("latin-1"), id="latin-1"),
        pytest.param('{"lines": []}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'\xef\xbb\xbf{"lines": []}', id="a byte order mark"),
        pytest.param(b'{"lines": [], "due": "\xed\xa0\x80"}', id="half of a surrogate pair"),
        pytest.param(b"[" * 100_000, id="nested very deep"),
        pytest.param(b'{"notes": {"a": ' + b"9" * 5000 + b"}}", id="a number of 5000 digits"),
    ],
)
def test_400_for_a_body_that_is(body: bytes):
    error = refusal(body)

    assert (error.status, error.code) == (400, "bad_request")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ('{"due": null}', "#/lines"),
        ('{"lines": {}}', "#/lines"),
        ('{"lines": [], "due": "tomorrow"}', "#/due"),
        ('{"lines": [{"article": "Tulips", "quantity": 0}]}', "#/lines/0/quantity"),
        ('{"lines": [{"article": "Tulips", "quantity": "3"}]}', "#/lines/0/quantity"),
        ('{"lines": [], "more": 1}', "#/more"),
        ('{"lines": [], "notes": {"a/b~c ü": "x"}}', "#/notes/a~1b~0c%20%C3%BC"),
        ("[]", "#"),
        ("null", "#"),
    ],
)
def test_422_says_where_for(body: str, pointer: str):
    error = refusal(body.encode())

    assert isinstance(error, InvalidBody)
    assert (error.status, error.code) == (422, "invalid_body")
    assert [each["pointer"] for each in error.errors] == [pointer]
    assert all(each["detail"] for each in error.errors)


@pytest.mark.parametrize(
    "body",
    [
        '{"lines": "SECRET"}',
        '{"lines": [{"article": "SECRET and more than twenty characters", "quantity": 1}]}',
        '{"lines": [{"article": "Tulips", "quantity": "SECRET"}]}',
        '{"lines": [], "due": "SECRET"}',
        '{"lines": [], "key": "SECRET"}',
        '{"lines": [], "payment": {"kind": "SECRET"}}',
        '{"lines": [], "payment": "SECRET"}',
        '{"lines": [], "more": "SECRET"}',
        '"SECRET"',
    ],
)
def test_422_shows_nothing_of_what_was_sent_in(body: str):
    error = refusal(body.encode())

    assert isinstance(error, InvalidBody)
    assert "SECRET" not in f"{error!r} {error.errors} {error.__cause__}"
    assert "found" not in error.errors[0]["detail"]  # nor a part of it


def test_a_thousand_mistakes_are_not_all_listed():
    error = refusal(b'{"lines": [' + b",".join([b"0"] * 1000) + b"]}")

    assert isinstance(error, InvalidBody)
    assert len(error.errors) == 20


# In a handler


class Orders(ApiHandler):
    def post(self) -> None:
        order = self.json_body(Order)
        self.finish_json([line.article for line in order.lines])


@pytest.fixture
async def app(app: RunningApp) -> RunningApp:
    app.tornado.add_handlers(".*", [("/orders", Orders)])
    return app


async def posted(browser: Browser, body: bytes, content_type: str = "application/json") -> Any:
    return await browser.fetch("/orders", "POST", content=body, headers={"Content-Type": content_type})


async def test_a_handler_gets_an_instance_of_the_model(browser: Browser):
    assert (await posted(browser, ORDER)).json() == ["Tulips"]


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (ORDER, "text/plain", 415, "unsupported_media_type"),
        (b"{", "application/json", 400, "bad_request"),
        (b"{}", "application/json", 422, "invalid_body"),
    ],
)
async def test_a_body_that_is_refused_is_answered_with_a_problem_document(
    browser: Browser, body: bytes, content_type: str, status: int, code: str
):
    response = await posted(browser, body, content_type)

    assert response.headers["Content-Type"] == "application/problem+json"
    assert (response.status_code, response.json()["status"], response.json()["code"]) == (
        status,
        status,
        code,
    )


async def test_the_document_of_a_422_lists_the_errors(browser: Browser, caplog: pytest.LogCaptureFixture):
    response = await posted(browser, b'{"lines": [], "due": "SECRET"}')

    [error] = response.json()["errors"]
    assert error["pointer"] == "#/due"
    assert "valid date" in error["detail"]
    assert "SECRET" not in response.text + caplog.text


# A handler that parses the body without `json_body`


class ParsesItself(ApiHandler):
    def post(self) -> None:
        self.finish_json(json.loads(self.request.body))


class ParsesText(BaseHandler):
    def post(self) -> None:
        self.write(json_decode(self.request.body.decode()))


class ParsesSomethingElse(ApiHandler):
    """Such as the answer of an API, which is not JSON."""

    def post(self) -> None:
        self.finish_json(int(5_000 * "1") if self.request.body.isdigit() else json.loads("<html>"))

    def get(self) -> None:
        self.finish_json(json.loads(""))

    def put(self) -> None:
        self.finish_json(b"\xff".decode())


@pytest.fixture
async def parsing(app: RunningApp, browser: Browser) -> Browser:
    routes = [("/itself", ParsesItself), ("/text", ParsesText), ("/else", ParsesSomethingElse)]
    app.tornado.add_handlers(".*", routes)
    return browser


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{", id="cut off"),
        pytest.param(b"", id="empty"),
        pytest.param(b"SECRET", id="text"),
        pytest.param(b"a=1&b=2", id="a form"),
        pytest.param(b'{"a": 1} {"b": 2}', id="two documents"),
        pytest.param(b'{"a": "\xff"}', id="not UTF-8"),
        pytest.param("{é".encode(), id="beyond ASCII"),
        pytest.param(b"\xef\xbb\xbf{", id="after a byte order mark"),
        pytest.param("{".encode("utf-16"), id="UTF-16"),
        pytest.param(5_000 * b"1", id="more digits than Python reads"),
        pytest.param(60_000 * b"[", id="nested too deeply"),
    ],
)
@pytest.mark.parametrize("path", ["/itself", "/text"])
async def test_a_body_that_is_no_json_is_400_however_it_is_parsed(
    path: str, body: bytes, parsing: Browser, caplog: pytest.LogCaptureFixture
):
    sent = {"Content-Type": "application/json"}
    response = await parsing.fetch(path, "POST", content=body, headers=sent)

    assert (response.status_code, response.json()["code"]) == (400, "bad_request")
    assert "SECRET" not in response.text + caplog.text


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("POST", b"{}"),
        ("POST", b"{"),
        ("POST", b""),
        ("POST", b"1"),
        ("POST", 4_999 * b"1"),
        ("PUT", b"{}"),
        ("PUT", b"\xfe"),
        ("GET", b""),
    ],
)
async def test_what_is_not_the_body_is_no_mistake_of_the_request(method: str, body: bytes, parsing: Browser):
    response = await parsing.fetch("/else", method, content=body)

    assert response.status_code == 500
