"""What lies between the application and others: certificates, TLS in front of a plain server, a proxy."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = timedelta(days=1)


class Authority:
    """A private certificate authority; `file` is for SSL_CERT_FILE."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Authority of {folder.name}")])
        basic = x509.BasicConstraints(ca=True, path_length=0)
        builder = self._builder(self._name, self._key.public_key(), days=1)
        certificate = builder.add_extension(basic, critical=True).sign(self._key, hashes.SHA256())
        self.file = folder / "authority.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, days: int
    ) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number())
        until = datetime.now(UTC) + days * DAY
        return builder.not_valid_before(until - 3 * DAY).not_valid_after(until)

    def server_context(self, *hosts: str, days: int = 1) -> ssl.SSLContext:
        """The context of a server for these hosts; its certificate ends in so many days, and lasts three."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0])])
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = self._builder(name, key.public_key(), days=days).add_extension(names, critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        file = self._folder / f"{hosts[0]}.{days}.pem"
        private = key.private_bytes(encoding, form, serialization.NoEncryption())
        file.write_bytes(private + signed.public_bytes(encoding))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.file)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def serving(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Yield the port of a server that calls `serve` for each connection, and closes it then."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            tasks.discard(task)

    async with await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError, RuntimeError):
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()


async def _join(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, first: bytes = b""
) -> None:
    """Connect to a port of this machine, and carry bytes in both directions until both have ended."""
    there, back = await asyncio.open_connection("127.0.0.1", port)
    back.write(first)
    try:
        await asyncio.gather(_pump(reader, back), _pump(there, writer))
    finally:
        back.close()
        with suppress(OSError):
            await back.wait_closed()


@asynccontextmanager
async def tls_in_front_of(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Yield the port of a TLS server that carries everything to a plain one."""
    async with serving(lambda reader, writer: _join(reader, writer, port), context) as secure_port:
        yield secure_port


@dataclass
class ForwardProxy:
    """A proxy that knows hosts which DNS does not: `ports` by `host:port`.

    `requests` are the first lines that it has received, `passwords` the values of Proxy-Authorization. With
    `refuses` it answers everything by that status.
    """

    ports: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    passwords: list[str] = field(default_factory=list)
    refuses: str = ""
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").splitlines()
        self.requests.append(first)
        headers: Mapping[str, str] = dict(line.lower().split(": ", 1) for line in lines if line)
        self.passwords.append(headers.get("proxy-authorization", ""))
        method, target, _ = first.split(" ")
        if self.refuses:
            writer.write(
                f"HTTP/1.1 {self.refuses}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
            )
            writer.close()
        elif method == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await _join(reader, writer, self.ports[target])
        else:  # absolute form: one request on each connection
            authority, _, path = target.removeprefix("http://").partition("/")
            port = self.ports[authority if ":" in authority else f"{authority}:80"]
            own = head.replace(target.encode(), b"/" + path.encode(), 1)
            if "upgrade" not in headers:
                own = own[:-2] + b"Connection: close\r\n\r\n"
            await _join(reader, writer, port, own)


@asynccontextmanager
async def forward_proxy(ports: dict[str, int]) -> AsyncIterator[ForwardProxy]:
    proxy = ForwardProxy(ports)
    async with serving(proxy.serve) as port:
        proxy.url = f"http://127.0.0.1:{port}"
        yield proxy
