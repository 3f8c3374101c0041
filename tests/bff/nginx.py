"""Debian's nginx in front of the application, with deploy/nginx.conf as it ships, but for its marked places.

`python -m tests.bff.nginx` says which nginx that is, or fails when there is none.
"""

from __future__ import annotations

import asyncio
import getpass
import re
import secrets
import shutil
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Client, Provider
from tests.bff.harness import CLIENT_ID, CLIENT_SECRET, Browser, Clock, RunningApp, running_app
from tests.bff.subprocesses import ROOT, free_ports, is_listening, terminate, wait_until

HINT = "there is no nginx with its module for JavaScript: run scripts/test.sh, which fetches Debian's"
MODULE = Path("usr/lib/nginx/modules/ngx_http_js_module.so")
BINARIES = (Path("/usr/sbin/nginx"), ROOT / ".venv/nginx/usr/sbin/nginx")
MEMORY = Path("/dev/shm")  # noqa: S108 (where nginx makes a folder of its own)
SECRET = secrets.token_hex(32)  # that nginx sends with its questions
MARKED = re.compile(r"# (EDIT|HERE)\b")
KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def find_nginx() -> Path:
    """The one that is installed, else the one that tests/bff/setup.sh has unpacked."""
    found = next(filter(has_module, BINARIES), None)
    if found is None:
        raise FileNotFoundError(HINT)
    return found


def has_module(binary: Path) -> bool:
    return binary.is_file() and (binary.parents[2] / MODULE).is_file()


@dataclass(frozen=True)
class Site:
    """The application behind nginx."""

    app: RunningApp
    url: str
    http_url: str  # which does nothing but lead to the other
    folder: Path
    decisions: Path  # where nginx keeps what the application has decided
    trust: ssl.SSLContext

    @property
    def logs(self) -> str:
        return "".join((self.folder / name).read_text() for name in ("access.log", "error.log"))

    @asynccontextmanager
    async def browser(self, *, address: str = "127.0.0.1") -> AsyncIterator[Browser]:
        browser = Browser(self.app)
        await browser.http.aclose()
        connects = httpx2.AsyncHTTPTransport(verify=self.trust, local_address=address)
        browser.http = httpx2.AsyncClient(base_url=self.url, timeout=20, transport=connects)
        async with browser.http:
            yield browser


def written(text: str, places: Mapping[str, str]) -> str:
    """What an operator makes of the file: in the marked lines, and in no others, this instead of that."""
    lines = text.splitlines()
    for that, this in places.items():
        meant = [number for number, line in enumerate(lines) if MARKED.search(line) and that in line]
        assert meant, f"{that} stands in no marked line"
        for number in meant:
            lines[number] = lines[number].replace(that, this)
    return "\n".join(lines)


def write_certificate(folder: Path, name: str = "tls") -> Path:
    """Make a certificate that has signed itself, and beside it its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    us = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(us, us, key.public_key(), x509.random_serial_number())
    lasting = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    signed = lasting.add_extension(names, critical=False).sign(key, hashes.SHA256())
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
    (folder / f"{name}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return folder / f"{name}.pem"


@asynccontextmanager
async def running_site(
    provider: Provider,
    api: DemoApi,
    folder: Path,
    *,
    clock: Clock,
    places: Mapping[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[Site]:
    """The application behind nginx, which carries `/orders` itself; `/slow` is the same API through us."""
    port, certificate = free_ports(2), write_certificate(folder)
    url, decisions = f"https://localhost:{port}", MEMORY / f"bff-nginx-{secrets.token_hex(8)}"
    remote = [
        {"path": path, "client": "apiClient", "methods": ["GET", "POST"]} for path in ("/orders", "/slow")
    ]
    chosen = {
        "base_url": url,
        "trusted_proxies": ["127.0.0.1"],
        "forward_auth_secret": SECRET,
        "remote_apis": remote,
        **settings,
    }
    async with running_app(provider, api, clock=clock, **chosen) as app:
        callbacks = (f"{url}/bff/callback",), (f"{url}/bff/logout/callback",)
        provider.clients[CLIENT_ID] = Client(CLIENT_ID, CLIENT_SECRET, *callbacks)
        usual = {
            "www-data": getpass.getuser(),
            "/run/nginx.pid": f"{folder}/nginx.pid",
            "/var/log/nginx": str(folder),
            f"{MEMORY}/bff-nginx": str(decisions),
            "127.0.0.1:8888": app.base_url.replace("http://localhost", "127.0.0.1"),
            "/reports": "/slow",
            "listen 443": f"listen 127.0.0.1:{port}",
            "[::]:443": f"127.0.0.2:{port}",
            "listen 80": f"listen 127.0.0.1:{port + 1}",
            "[::]:80": f"127.0.0.2:{port + 1}",
            "bff.example.com": "localhost",
            "/etc/ssl/bff/fullchain.pem": str(certificate),
            "/etc/ssl/bff/privkey.pem": str(certificate.with_suffix(".key")),
            "https://orders/v1": "http://orders/api",
            "api.example.com:443": f"127.0.0.1:{api.port}",
            "api.example.com": f"127.0.0.1:{api.port}",
            '"BFF_FORWARD_AUTH_SECRET"': f'"{SECRET}"',
            "/srv/bff/static/": f"{app.services.settings.project_folder}/static/",
        }
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trust.load_verify_locations(certificate)
        try:
            async with running_nginx(folder, {**usual, **(places or {})}, port):
                yield Site(app, url, f"http://localhost:{port + 1}", folder, decisions, trust)
        finally:
            shutil.rmtree(decisions, ignore_errors=True)


ORDINARY = """\
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    include mime.types;
    access_log off;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {there};
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
}}
"""


@asynccontextmanager
async def ordinary_proxy(folder: Path, port: int, there: str) -> AsyncIterator[str]:
    """What most people write in front of an application: `proxy_pass`, and nothing of ours."""
    there = there.replace("localhost", "127.0.0.1")
    async with running_conf(folder, ORDINARY.format(folder=folder, port=port, there=there), port):
        yield f"http://localhost:{port}"


@asynccontextmanager
async def running_nginx(folder: Path, places: Mapping[str, str], port: int) -> AsyncIterator[None]:
    """nginx with the files of `deploy`, in which the marked places are replaced."""
    for file in (ROOT / "deploy").glob("bff-*"):
        shutil.copy(file, folder)
    places = {"modules/ngx_http_js_module.so": str(find_nginx().parents[2] / MODULE), **places}
    async with running_conf(folder, written((ROOT / "deploy/nginx.conf").read_text(), places), port):
        yield


@asynccontextmanager
async def running_conf(folder: Path, text: str, port: int) -> AsyncIterator[None]:
    """nginx with this text as its configuration."""
    binary = find_nginx()
    (folder / "nginx.conf").write_text(text)
    # Where nginx lays bodies down is compiled into it. This file of Debian's is included in `http`.
    debians = (binary.parents[2] / "etc/nginx/mime.types").read_text()
    ours = [f"{kind}_temp_path {folder}/{kind};" for kind in KINDS]
    (folder / "mime.types").write_text("\n".join([debians, *ours]))
    process = await asyncio.create_subprocess_exec(
        *(binary, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log", "-g", "daemon off;"),
        start_new_session=True,
    )
    try:
        await wait_until(lambda: asyncio.sleep(0, process.returncode is not None or is_listening(port)))
        assert process.returncode is None, (folder / "error.log").read_text()
        yield
    finally:
        await terminate(process)


if __name__ == "__main__":
    try:
        print(find_nginx())
    except FileNotFoundError as error:
        sys.exit(str(error))
