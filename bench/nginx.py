"""nginx, with settings for a measurement: those for users are in deploy/."""

from __future__ import annotations

import getpass
from pathlib import Path
from textwrap import indent

# Nobody waits for a log, a disk or a new connection.
_COMMON = """\
user {user};
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    types {{ application/json json; }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{inner}
}}
"""

_UPSTREAM = """\
open_file_cache max=10;
sendfile on;
server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {folder};
    default_type application/json;
    location = {path} {{ return 200 '{answer}'; }}
}}
"""

_PROXY = """\
upstream api {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000000; }}
proxy_http_version 1.1;
server {{
    listen 127.0.0.1:{port} backlog=4096;
    location /api/ {{
        proxy_pass http://api/;
        proxy_set_header Connection "";
        proxy_set_header Cookie "";
{asks}
    }}
{decision}
}}
"""

_ASKS = """\
auth_request /decision;
auth_request_set $authorization $upstream_http_authorization;
proxy_set_header Authorization $authorization;"""

SECRET = "a-secret-for-measurements-on-one-machine"

_DECISION = """\
location = /decision {{
    internal;
    proxy_pass http://bff/bff/forward-auth;
    proxy_pass_request_body off;
    proxy_pass_request_headers off;
    proxy_set_header Connection "";
    proxy_set_header Content-Length "";
    proxy_set_header Host $http_host;
    proxy_set_header Cookie $http_cookie;
    proxy_set_header Origin $http_origin;
    proxy_set_header X-CSRF $http_x_csrf;
    proxy_set_header Sec-Fetch-Site $http_sec_fetch_site;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Remote-Api /api;
    proxy_set_header X-Forward-Auth-Secret {secret};
    proxy_set_header X-Forwarded-Method $request_method;
    proxy_set_header X-Forwarded-Uri $request_uri;
{keeps}
}}"""

_BFF = "upstream bff {{ server 127.0.0.1:{bff}; keepalive 64; keepalive_requests 1000000000; }}\n"
_CACHE = "proxy_cache_path {folder}/decisions levels=1:2 keys_zone=decisions:1m max_size=16m;\n"

# What the answer depends on; without a lock, with which some wait for half a second.
_KEEPS = """\
proxy_cache decisions;
open_file_cache max=1000 inactive=10s;
open_file_cache_valid 10s;
proxy_cache_key "$cookie_bff $http_x_csrf $http_sec_fetch_site $http_origin $request_method /api";
proxy_cache_valid 204 5s;
proxy_ignore_headers Cache-Control Expires Vary;"""


def upstream_conf(folder: Path, port: int, *, path: str, answer: str) -> str:
    """The API that everybody forwards to: one answer from here, all others from files in `folder`."""
    return _conf(folder, _UPSTREAM.format(folder=folder, port=port, path=path, answer=answer))


def plain_conf(folder: Path, port: int, *, upstream: int) -> str:
    """A proxy, and nothing more."""
    return _conf(folder, _PROXY.format(port=port, upstream=upstream, asks="", decision=""))


def asking_conf(folder: Path, port: int, *, upstream: int, bff: int, keeps: bool) -> str:
    """A proxy that asks us about each request; one that `keeps` our answer asks again after 5 s."""
    decision = _DECISION.format(secret=SECRET, keeps=_indented(_KEEPS, 1) if keeps else "")
    asks, location = _indented(_ASKS, 2), _indented(decision, 1)
    proxy = _PROXY.format(port=port, upstream=upstream, asks=asks, decision=location)
    cache = _CACHE.format(folder=folder) if keeps else ""
    return _conf(folder, _BFF.format(bff=bff) + cache + proxy)


def _conf(folder: Path, inner: str) -> str:
    return _COMMON.format(user=getpass.getuser(), folder=folder, inner=_indented(inner, 1))


def _indented(text: str, steps: int) -> str:
    return indent(text, "    " * steps)
