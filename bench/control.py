"""The control: what forwarding costs in Tornado and aiohttp, without a session and without checks."""

from __future__ import annotations

import asyncio
import sys

import aiohttp
from tornado.web import Application, RequestHandler

from app.__main__ import fastest_loop


class Forward(RequestHandler):
    def initialize(self, http: aiohttp.ClientSession) -> None:
        self.http = http

    async def get(self, path: str) -> None:
        async with self.http.get(path) as response:
            self.set_header("Content-Type", response.content_type)
            self.finish(await response.read())


async def serve(port: int, upstream: str) -> None:
    async with aiohttp.ClientSession(upstream) as http:
        Application([(r"/api/(.*)", Forward, {"http": http})]).listen(port, "127.0.0.1")
        await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        runner.run(serve(int(sys.argv[1]), sys.argv[2]))
