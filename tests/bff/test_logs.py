"""Logs: constant text, data in fields, the request's id on every line, and library loggers at WARNING."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from select import PIPE_BUF
from typing import Any

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.sessions.session import session_ref
from app.bff.telemetry.logs import (
    BatchingStreamHandler,
    JsonFormatter,
    RequestRecord,
    TextFormatter,
    configure_logging,
    request_id,
    session_log_id,
)
from tests.bff.harness import Browser, Clock, running_app

LIBRARIES = ["authlib", "httpx2", "httpcore2", "asyncio", "pymongo"]


def a_record(text: str = "session refreshed", **extra: Any) -> logging.LogRecord:
    record = logging.makeLogRecord(
        {"name": "app.bff.tokens.user", "levelno": 20, "levelname": "INFO", "msg": text}
    )
    vars(record).update(extra)
    return record


def as_json(record: logging.LogRecord) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(JsonFormatter().format(record))
    return line


@contextmanager
def during_request(name: str) -> Iterator[None]:
    token = request_id.set(name)
    try:
        yield
    finally:
        request_id.reset(token)


@contextmanager
def configured(*, debug: bool) -> Iterator[None]:
    """The application's logging, and afterwards pytest's again."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, {name: logging.getLogger(name).level for name in LIBRARIES}
    root.handlers.clear()
    try:
        configure_logging(debug=debug)
        yield
    finally:
        root.handlers[:], root.level = before[0], before[1]
        for name, level in before[2].items():
            logging.getLogger(name).setLevel(level)


def test_a_line_is_json_with_text_and_fields_apart():
    line = as_json(a_record(session="abcd1234", expires_in_seconds=3600))

    assert {name: line[name] for name in line if name != "time"} == {
        "level": "info",
        "logger": "app.bff.tokens.user",
        "message": "session refreshed",
        "session": "abcd1234",
        "expires_in_seconds": 3600,
    }


def test_the_time_says_its_offset():
    assert as_json(a_record())["time"][-5] in "+-"


def test_during_a_request_every_line_has_its_id():
    with during_request("r-1"):
        assert as_json(a_record())["request_id"] == "r-1"
    assert "request_id" not in as_json(a_record())


def test_a_line_is_one_line_whatever_is_in_it():
    assert "\n" not in JsonFormatter().format(a_record("two\nlines", path="/\r\nforged"))


def test_an_exception_comes_with_its_traceback():
    try:
        raise LookupError("gone")
    except LookupError:
        record = a_record(exc_info=sys.exc_info())

    assert as_json(record)["exception"].endswith("LookupError: gone")


def test_a_field_that_is_no_json_is_written_as_text():
    assert as_json(a_record(reason=LookupError("gone")))["reason"] == "gone"


def test_in_the_text_format_the_fields_follow_the_message():
    line = TextFormatter().format(a_record(session="abcd1234", status=200))

    assert line.endswith("INFO    app.bff.tokens.user: session refreshed session=abcd1234 status=200")


def test_the_text_format_leaves_out_the_request_id():
    with during_request("r-1"):
        assert "r-1" not in TextFormatter().format(a_record())


def test_a_session_is_followed_through_the_log_by_too_little_to_find_it_with():
    ref = session_ref("the-cookie")

    assert ref.startswith(session_log_id(ref))
    assert len(session_log_id(ref)) == 8


def test_in_production_lines_are_json(capsys: pytest.CaptureFixture[str]):
    with configured(debug=False):
        logging.getLogger("app").info("listening", extra={"port": 8888})

    assert json.loads(capsys.readouterr().err)["port"] == 8888


def test_in_development_lines_are_words(capsys: pytest.CaptureFixture[str]):
    with configured(debug=True):
        logging.getLogger("app").info("listening", extra={"port": 8888})

    assert capsys.readouterr().err.endswith("app: listening port=8888\n")


@pytest.mark.parametrize("debug", [True, False], ids=["development", "production"])
@pytest.mark.parametrize(
    "library", ["authlib.oauth2.client", "httpx2", "httpcore2.http11", "pymongo.command"]
)
def test_libraries_that_would_log_verifiers_and_urls_only_warn(
    library: str, debug: bool, capsys: pytest.CaptureFixture[str]
):
    with configured(debug=debug):
        logging.getLogger(library).debug("verifier recognisable")
        logging.getLogger(library).info("GET https://provider.example/?code=recognisable")
        logging.getLogger(library).warning("something is wrong")

    shown = capsys.readouterr().err
    assert "something is wrong" in shown
    assert "recognisable" not in shown


# The line that every request writes


def test_the_line_of_a_request_looks_as_if_logging_had_made_it():
    fields = {"method": "GET", "path": "/api", "status": 200}

    quick = as_json(RequestRecord("app.bff.tokens.user", "session refreshed", fields))

    assert quick | {"time": 0} == as_json(a_record(**fields)) | {"time": 0}
    assert (
        TextFormatter()
        .format(RequestRecord("app.x", "answered", fields))
        .endswith("INFO    app.x: answered method=GET path=/api status=200")
    )


def test_the_line_of_a_request_is_understood_by_formatters_of_others():
    record = RequestRecord("app.x", "answered", {"status": 200})

    line = logging.Formatter("%(levelname)s %(name)s %(message)s %(status)s %(process)s").format(record)

    assert line == "INFO app.x answered 200 None"


class Paper(io.StringIO):
    """Remembers what was written at once."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        return super().write(text)


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def writer(paper: Paper) -> BatchingStreamHandler:
    handler = BatchingStreamHandler()
    handler.setStream(paper)
    return handler


async def test_what_one_turn_of_the_loop_logs_is_written_at_once(writer: BatchingStreamHandler, paper: Paper):
    writer.handle(a_record("first"))
    writer.handle(a_record("second"))
    assert paper.writes == []

    await asyncio.sleep(0)
    writer.handle(a_record("third"))
    await asyncio.sleep(0)

    assert paper.writes == ["first\nsecond\n", "third\n"]


async def test_a_warning_is_written_immediately_and_after_what_came_before(
    writer: BatchingStreamHandler, paper: Paper
):
    writer.handle(a_record("first"))
    writer.handle(a_record("second", levelno=logging.WARNING))

    assert paper.writes == ["first\nsecond\n"]


async def test_no_more_is_written_at_once_than_a_pipe_takes_in_one_piece(
    writer: BatchingStreamHandler, paper: Paper
):
    for _ in range(10):
        writer.handle(a_record("x" * 1000))
    await asyncio.sleep(0)

    assert [len(text) for text in paper.writes] == [4004, 4004, 2002]
    assert max(map(len, paper.writes)) <= PIPE_BUF


async def test_what_is_not_written_when_the_loop_ends_is_written_by_loggings_own_end(
    writer: BatchingStreamHandler, paper: Paper
):
    writer.handle(a_record("last"))
    writer.flush()

    assert paper.getvalue() == "last\n"


async def test_writing_to_a_log_without_a_reader_raises_nothing(writer: BatchingStreamHandler, paper: Paper):
    paper.close()

    writer.handle(a_record("unread", levelno=logging.WARNING))  # raises nothing


async def test_a_line_that_cannot_be_made_takes_no_other_with_it(
    writer: BatchingStreamHandler, paper: Paper, capsys: pytest.CaptureFixture[str]
):
    writer.handle(a_record("%d", args=("no number",)))
    writer.handle(a_record("good", levelno=logging.WARNING))

    assert paper.writes == ["good\n"]
    assert "the log record cannot be written" in (reported := capsys.readouterr().err)
    assert "no number" not in reported


# One request, one id


class Lines(logging.Handler):
    """What the log has written, read back."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.ids.append(as_json(record)["request_id"])


async def test_every_line_names_its_own_request_also_of_one_refused_at_the_door(browser: Browser):
    lines, ours = Lines(), logging.getLogger("app.bff")
    ours.addHandler(lines)
    ours.setLevel(logging.INFO)
    refused = await browser.fetch("/bff/user", csrf=False)
    anonymous = await browser.fetch("/bff/user")  # over the same connection
    ours.removeHandler(lines)

    ids = [response.headers["X-Request-Id"] for response in (refused, anonymous)]
    assert lines.ids == [ids[0], ids[0], ids[1], ids[1]]  # "request refused", "request answered"


@pytest.mark.parametrize("path", ["/bff/user", "/api/echo"])
async def test_whose_proxy_logs_requests_need_no_line_of_ours_and_still_hear_of_failures(
    path: str, provider: Provider, api: DemoApi, clock: Clock, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "app.bff.handlers")
    async with running_app(provider, api, clock=clock, log_requests=False) as app:
        browser = Browser(app)
        await browser.fetch(path, csrf=False)
        await browser.http.aclose()

    assert [record.message for record in caplog.records if record.name.startswith("app.bff.handlers")] == [
        "request refused"
    ]
