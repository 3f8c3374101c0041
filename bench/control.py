"""The control: what forwarding costs in Tornado and aiohttp, without a session and without checks."""

from __future__ import annotations

import asyncio
import sys

import aiohttp
from tornado.web import Application, RequestHandler

from app.bff.cli import fastest_loop

# Between two machines only (RFC 9110 §7.6.1), or for Tornado and aiohttp to write.
_NOT_PASSED_ON = {"Host", "Connection", "Transfer-Encoding", "Content-Length", "Server", "Date"}


class Forward(RequestHandler):
    def initialize(self, http: aiohttp.ClientSession) -> None:
        self.http = http

    async def get(self, path: str) -> None:
        headers = {name: value for name, value in self.request.headers.items() if name not in _NOT_PASSED_ON}
        async with self.http.get(path, headers=headers) as response:
            self.set_status(response.status)
            for name, value in response.headers.items():
                if name not in _NOT_PASSED_ON:
                    self.set_header(name, value)
            self.finish(await response.read())


async def serve(port: int, upstream: str) -> None:
    async with aiohttp.ClientSession(upstream, auto_decompress=False) as http:
        Application([(r"/api/(.*)", Forward, {"http": http})]).listen(port, "127.0.0.1")
        await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        runner.run(serve(int(sys.argv[1]), sys.argv[2]))
