"""Who takes part: groups of contenders, started and ready to be measured."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from app.bff.dev.mongod import Mongod, find_mongod
from bench.load import Contender, Group
from bench.machine import Places
from bench.nginx import SECRET, asking_conf, plain_conf, upstream_conf
from bench.questions import SESSIONS, SMALL
from bench.servers import Server, application, application_settings, control, nginx
from bench.sessions import Draw
from tests.bff.subprocesses import free_ports

DRIVERS = {"b": "motor", "c": "pymongo"}
BODIES = {SMALL: 160, "10 KB": 10_000, "1 MB": 1_000_000}
RULED = {
    "path": "/api",
    "client": "apiClient",
    "require": {"groups": "staff"},
    "write": {"groups": "admins"},
}
LARGER = [body for body in BODIES if body != SMALL]


@dataclass(frozen=True)
class Ground:
    """What all contenders share: a folder in memory, an API, a database server, a key."""

    folder: Path
    upstream: Server
    mongod: Mongod
    key: str
    places: Places

    def store(self, database: str) -> str:
        return f"{self.mongod.uri}/{database}"

    def ours(self, *, database: str = "small", driver: str = "motor", **changed: str) -> Server:
        settings = application_settings(store=self.store(database), key=self.key, upstream=self.upstream.url)
        return application(self.folder, self.places.measured, settings, BFF_MONGODB_DRIVER=driver, **changed)

    def proxy(self, cores: Sequence[int], conf: Callable[..., str], **details: int | bool) -> Server:
        port = free_ports()
        folder = self.folder / f"proxy-{port}"
        folder.mkdir()
        text = conf(folder, port, upstream=self.upstream.port, **details)
        return nginx(text, folder, port, cores)


@contextmanager
def ground(places: Places) -> Iterator[Ground]:
    """What is not measured, this process and wrk too, runs on `places.others`: children inherit it."""
    binary = find_mongod()
    assert binary, "there is no mongod: put one on PATH"
    os.sched_setaffinity(0, places.others)
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        data = Path(running.enter_context(tempfile.TemporaryDirectory()))
        mongod = running.enter_context(Mongod(binary, data))
        upstream = running.enter_context(_upstream(folder, places))
        key = base64.b64encode(os.urandom(32)).decode()
        yield Ground(folder, upstream, mongod, key, places)


def _upstream(folder: Path, places: Places) -> Server:
    for name in LARGER:
        (folder / _file(name)).write_text(_json(BODIES[name]))
    port = free_ports()
    conf = upstream_conf(folder, port, path=f"/{_file(SMALL)}", answer=_json(BODIES[SMALL]))
    return nginx(conf, folder, port, places.others)


def _json(size: int) -> str:
    return '{"id": 1, "title": "' + "x" * (size - 22) + '"}'


def _file(body: str) -> str:
    return body.replace(" ", "-") + ".json"


def api_path(body: str) -> str:
    """Where every contender has this body."""
    return f"/api/{_file(body)}"


@contextmanager
def forwarders(ground: Ground) -> Iterator[list[Group]]:
    """One process of each kind; small answers, and larger ones. Where nginx only asks, it is not measured."""
    measured, others = ground.places.measured, ground.places.others
    with ExitStack() as running:
        start = running.enter_context
        python = [_forwarder("a", start(control(ground.folder, measured, upstream=ground.upstream.url)))]
        python += [_forwarder(name, start(ground.ours(driver=driver))) for name, driver in DRIVERS.items()]
        ruled = start(ground.ours(driver="pymongo", BFF_REMOTE_APIS=json.dumps([RULED])))
        logging = start(ground.ours(driver="pymongo", BFF_LOG_REQUESTS="true"))
        asked = start(ground.ours(driver="pymongo", BFF_FORWARD_AUTH_SECRET=SECRET))
        asking = start(ground.proxy(others, asking_conf, bff=asked.port, keeps=False))
        keeping = start(ground.proxy(measured, asking_conf, bff=asked.port, keeps=True))
        small = [
            *python,
            _forwarder("c rule", ruled),
            _forwarder("c logs", logging),
            _forwarder("d uncached", asking, asked),
            _forwarder("d cached", keeping, keeping, asked),
            _forwarder("e", start(ground.proxy(measured, plain_conf))),
        ]
        yield [_group(SMALL, small), *(_group(name, python) for name in LARGER)]


def _forwarder(name: str, door: Server, *measured: Server) -> Contender:
    """What is asked at `door`; that is also what is measured, if nothing else is named."""
    return Contender(name, door.url, measured or (door,))


def _group(body: str, contenders: Iterable[Contender]) -> Group:
    return Group(body, [replace(each, url=each.url + api_path(body)) for each in contenders])


@contextmanager
def stores(ground: Ground, *, small: int, large: int) -> Iterator[Group]:
    """The same application on a small store and on a large one; an even session is due to be written."""
    with ExitStack() as running:
        on_small = running.enter_context(ground.ours())
        on_large = running.enter_context(ground.ours(database="large"))
        yield Group(
            SESSIONS,
            [
                _ours("b small", on_small, Draw(small, at_random=True)),
                _ours("b large", on_large, Draw(large // 2, first=1, step=2, at_random=True)),
                _ours("b large, due", on_large, Draw(large // 2, first=2, step=2, at_random=True)),
            ],
        )


def _ours(name: str, server: Server, draw: Draw, cores: int = 1) -> Contender:
    return Contender(name, server.url + api_path(SMALL), [server], draw, cores)


@contextmanager
def crews(ground: Ground) -> Iterator[Group]:
    """One process and two."""
    with ExitStack() as running:
        contenders = [
            _ours(f"{name} × {count}", running.enter_context(server), Draw(64), count)
            for name, driver in DRIVERS.items()
            for count in (1, 2)
            for server in [ground.ours(driver=driver, BFF_PROCESSES=str(count))]
        ]
        yield Group("processes", contenders)
