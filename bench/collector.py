"""Takes what is sent by OTLP/HTTP and drops it, at no cost that matters: `python -m bench.collector PORT`."""

from __future__ import annotations

import asyncio
import re
import sys

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_TAKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            length = _LENGTH.search(await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(_TAKEN)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main(port: int) -> None:
    async with await asyncio.start_server(take, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
