"""Loggers of libraries write nothing that a browser or an API has sent; their own text stays."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure
from app.bff.paths import PROJECT
from app.bff.telemetry.libraries import without_data
from app.bff.telemetry.logs import configure_logging
from tests.bff.harness import Browser, RunningApp

SECRET = "recognisable"  # in a constant of its own: none of the code below contains it
LIBRARY = logging.getLogger("some.library")
log, warn, error = LIBRARY.info, LIBRARY.warning, LIBRARY.error


Written = Callable[[], str]


@pytest.fixture(params=[False, True], ids=["production", "development"])
def written(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Iterator[Written]:
    """What the application's logging has written."""
    root, paper = logging.getLogger(), io.StringIO()
    level, others = root.level, root.handlers[:]
    configure_logging(debug=request.param)
    [ours] = root.handlers
    assert isinstance(ours, logging.StreamHandler)
    ours.setStream(paper)
    yield lambda: paper.getvalue() + capsys.readouterr().err
    root.removeHandler(ours)
    root.setLevel(level)
    logging.captureWarnings(False)
    for each in others:
        root.addHandler(each)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def request_with(secret: str) -> HTTPServerRequest:
    return HTTPServerRequest("GET", f"/bff/callback?code={secret}", headers=HTTPHeaders({"Cookie": secret}))


LEAKS: list[Any] = [
    pytest.param(lambda secret: warn("bad header: %s", secret), "bad header: …", id="an argument"),
    pytest.param(lambda secret: warn("bad %r from %d", secret, 7), "bad … from 7", id="repr"),
    pytest.param(lambda secret: warn("%(a)s, %(n)5.1f", {"a": secret, "n": 1.5}), "…, 1.5", id="named"),
    pytest.param(lambda secret: warn(f"bad header: {secret}"), "…", id="an f-string"),
    pytest.param(lambda secret: warn("bad header: " + secret), "…", id="joined"),
    pytest.param(lambda secret: warn("bad: {}".format(secret)), "…", id="formatted before"),  # noqa: UP032
    pytest.param(lambda secret: warn(ValueError(secret)), "…", id="an exception as message"),
    pytest.param(lambda secret: log("Malformed: %s", ValueError(secret)), "ValueError", id="an exception"),
    pytest.param(lambda secret: error("in %r", partial(print, secret)), "in …", id="a callback"),
    pytest.param(lambda secret: error("in %r", request_with(secret)), "in …", id="a request"),
    pytest.param(lambda secret: error("in", extra={"cookie": secret}), "in", id="a field"),
    pytest.param(lambda secret: error("x", exc_info=raised(OSError(24, secret))), "EMFILE", id="exc_info"),
    pytest.param(
        lambda secret: error("x", exc_info=raised(ExceptionGroup(secret, [KeyError(secret)]))),
        "ExceptionGroup",
        id="a group",
    ),
    pytest.param(lambda secret: logging.warning("at the root: %s", secret), "at the root: …", id="root"),
    pytest.param(lambda secret: logging.getLogger("application").error(secret), "…", id="like ours"),
    pytest.param(
        lambda secret: warnings.warn(f"odd {secret}", RuntimeWarning, 1), "RuntimeWarning: …", id="warning"
    ),
]


@pytest.mark.parametrize(("logs", "left"), LEAKS)
def test_a_library_writes_no_data(logs: Callable[[str], None], left: str, written: Written):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs(SECRET)
    text = written()

    assert SECRET not in text
    assert left in text.replace("\\u2026", "…")


@pytest.mark.parametrize(
    ("args", "left"), [((SECRET, 1), "… of 1"), ((SECRET,), "%d of %d"), ((SECRET, 1, 2), "%d of %d")]
)
def test_arguments_that_do_not_fit_are_no_error(args: tuple[Any, ...], left: str):
    record = logging.makeLogRecord({"name": "some.library", "msg": "%d of %d", "args": args})

    assert without_data(record).getMessage() == left


def test_a_library_keeps_its_own_text_numbers_and_stack(written: Written):
    LIBRARY.warning("pool of %d connections is full, waiting %.1f s", 100, 2.5)
    LIBRARY.error("closing failed", exc_info=raised(ConnectionResetError(104, "peer")))
    text = written()

    assert "pool of 100 connections is full, waiting 2.5 s" in text
    assert "closing failed" in text
    assert "ConnectionResetError ECONNRESET" in text
    assert "in raised" in text


def test_a_library_may_name_a_file_of_the_project_and_no_other(written: Written):
    LIBRARY.info("%s modified; restarting server", __file__)
    LIBRARY.info("%s modified; restarting server", f"{__file__}{SECRET}")
    LIBRARY.info("%s modified; restarting server", os.__file__)

    assert f"{__file__} modified" in (text := written())
    assert SECRET not in text
    assert os.__file__ not in text


def test_a_warning_keeps_its_text_if_that_is_a_constant(written: Written):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("the old option goes away", RuntimeWarning, stacklevel=1)

    assert "test_library_logs.py" in (text := written())
    assert "RuntimeWarning: the old option goes away" in text


@pytest.mark.parametrize("logger", ["app", "app.bff.handlers.web", "app.clients.orders", "__main__"])
def test_our_own_loggers_write_what_they_are_given(logger: str, written: Written):
    logging.getLogger(logger).warning(
        "order %s", SECRET, extra={"path": "/orders"}, exc_info=raised(KeyError("17"))
    )
    text = written()

    assert f"order {SECRET}" in text
    assert "/orders" in text
    assert "KeyError: '17'" in text


def test_an_exception_that_is_its_own_cause_ends(written: Written):
    error = raised(ValueError(SECRET))
    error.__cause__ = error
    LIBRARY.error("failed", exc_info=error)

    assert SECRET not in (text := written())
    assert "ValueError" in text


async def test_a_task_that_failed_unseen_is_named_without_its_message(written: Written):
    async def fails() -> None:
        raise LookupError(SECRET)

    task = asyncio.create_task(fails(), name=SECRET)
    await asyncio.wait([task])
    del task

    assert "Task exception was never retrieved" in (text := written())
    assert "LookupError" in text
    assert SECRET not in text


# What goes round the loggers: Python's own hooks, and logging's report of a record that cannot be written

ROUND_THE_LOGGERS = """
import asyncio, logging, sys, threading, warnings
from app.bff.telemetry.logs import configure_logging
from app.bff.telemetry.uncaught import log_uncaught_exceptions

SECRET = sys.argv[1]

class Unlucky:
    def __del__(self):
        raise ValueError(SECRET)
    def __repr__(self):
        return SECRET
    def __str__(self):
        raise LookupError(SECRET)

def fail():
    raise OSError(SECRET)

async def serve():
    asyncio.get_running_loop().call_soon(fail)
    asyncio.get_running_loop().call_exception_handler({"message": SECRET, "request": SECRET})
    await asyncio.sleep(0)

configure_logging(debug=sys.argv[2] == "development")
log_uncaught_exceptions()
warnings.warn(SECRET)
threading.Thread(target=fail, name=SECRET).start()
asyncio.run(serve())
logging.getLogger("app").warning("%s", Unlucky())
Unlucky()
raise KeyError(SECRET)
"""


@pytest.mark.parametrize("mode", ["production", "development"])
def test_what_python_itself_would_print_has_no_data_either(mode: str):
    script = [sys.executable, "-c", ROUND_THE_LOGGERS, SECRET, mode]
    ended = subprocess.run(script, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    assert SECRET not in ended.stderr + ended.stdout
    for left in (
        "UserWarning",
        "OSError",
        "Exception in callback",
        "ValueError",
        "KeyError",
        "cannot be written",
    ):
        assert left in ended.stderr, left


# With raw sockets: what a browser can send to Tornado's own parser.

GET, POST = b"GET / HTTP/1.1\r\n", b"POST /bff/backchannel HTTP/1.1\r\n"
HEAD = b"Host: localhost\r\nCookie: bff=recognisable\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 28\r\n\r\n"
MULTIPART = b"Content-Type: multipart/form-data; boundary=recognisable\r\nContent-Length: 14\r\n\r\n"
CONTROLS = (0x00, 0x01, 0x07, 0x0B, 0x0C, 0x1B, 0x1F, 0x7F)
MALFORMED = {
    **{
        f"control {code:02x}": GET + b"Host: x\r\nCookie: bff=recognisable%c\r\n\r\n" % code
        for code in CONTROLS
    },
    "no colon": GET + HEAD + b"no colon, recognisable\r\n\r\n",
    "a name with spaces": GET + HEAD + b"bad name recognisable: x\r\n\r\n",
    "a continuation first": GET + b" recognisable: continued\r\n\r\n",
    "a bad host": GET + b"Host: recognisable/\x01\r\n\r\n",
    "two hosts": GET + HEAD + b"Host: recognisable\r\n\r\n",
    "a bad version": b"GET /?code=recognisable HTTP/recognisable\r\n" + HEAD + b"\r\n",
    "a bad first line": b"GET recognisable\r\n" + HEAD + b"\r\n",
    "TLS": b"\x16\x03\x01recognisable\r\n\r\n",
    "a bad length": POST + HEAD + b"Content-Length: recognisable\r\n\r\n",
    "two lengths": POST + HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a bad transfer encoding": POST + HEAD + b"Transfer-Encoding: recognisable\r\n\r\n",
    "a bad chunk": POST + HEAD + b"Transfer-Encoding: chunked\r\n\r\nrecognisable\r\n",
    "a bad form": POST + HEAD + MULTIPART + b"recognisable\r\n",
    "bytes that are no UTF-8": POST + HEAD + FORM + b"logout_token=%ff&recognisable",
    "too long": GET + HEAD + b"X: " + b"recognisable" * 9000 + b"\r\n\r\n",
}


async def send(app: RunningApp, request: bytes) -> None:
    """Send it, and wait until the server has closed the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(app.base_url.rpartition(":")[2]))
    writer.write(request)
    writer.write_eof()
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), 5)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    await asyncio.sleep(0)  # lines are written at the end of the loop's turn


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_request_is_not_written(name: str, app: RunningApp, written: Written):
    await send(app, MALFORMED[name])

    assert SECRET not in written()


async def test_a_malformed_request_still_leaves_a_line(app: RunningApp, written: Written):
    await send(app, MALFORMED["control 01"])

    assert "HTTPInputError" in written()


async def test_an_api_whose_cookies_are_malformed_is_not_written(
    browser: Browser, api: DemoApi, written: Written
):
    await browser.login()
    api.fails["echo"] = Failure(200, b"{}", {"Set-Cookie": f"a/b c={SECRET}; Path=/"})
    await browser.fetch("/api/echo")

    assert SECRET not in written()
