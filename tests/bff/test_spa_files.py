"""The rules about files of a build: which names have a hash, which paths name one, which encoding is sent."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any
from urllib.parse import quote

import pytest

from app.bff.spa.document import Document
from app.bff.spa.files import (
    CONTENT_TYPES,
    best_encoding,
    cache_control,
    content_type,
    has_content_hash,
    names_a_file,
    relative_path,
)
from app.bff.web.headers import security_headers
from tests.bff.subprocesses import ROOT

HASHED = [
    # Vite, Rollup
    *("assets/index-BfN3kZ9x.js", "assets/index-DiwrgTda.css", "assets/index-D-x_9aB2.js"),
    *("assets/logo-4sK3E3Wk.svg", "assets/HomePage-_Kx92LmQ.js", "assets/polyfills-legacy-BfN3kZ9x.js"),
    *(
        "assets/index-BfN3kZ9x.js.map",
        "assets/inter-latin-400-normal-C38fXH4l.woff2",
        "index-Dq8vWj-R.js",
    ),
    # webpack: 8, 16, 20 and 32 digits, of a chunk, alone
    *("main.3f2a9c1d.js", "static/js/787.28cb0dcd.chunk.js", "static/css/main.e6c13ad2.css"),
    *(
        "runtime.0a1b2c3d4e5f6a7b.js",
        "main.0a1b2c3d4e5f6a7b8c9d.js",
        "main-es2015.1a2b3c4d5e6f7a8b9c0d.js",
    ),
    *("static/media/logo.6ce24c58023cc2f8fd88fe9d219db6c6.svg", "6ce24c58023cc2f8fd88.png"),
    *("js/chunk-vendors.1a2b3c4d.js", "static/js/main.28cb0dcd.js.map", "main.28cb0dcd.js.LICENSE.txt"),
    *("main.3f2a9c1d.min.js", "app_3f2a9c1d.css", "workbox-3f2a9c1d.js"),
    # esbuild, Angular
    *("main-4K6QJ3XZ.js", "chunk-7JGGRYJ2.js", "styles-5INURTSO.css", "polyfills-FFHMD2TL.js"),
    *("main-XQJYZABC.js", "media/roboto-4K6QJ3XZ.woff2"),
    # SvelteKit, Nuxt, Astro
    *("_app/immutable/chunks/BfN3kZ9x.js", "_app/immutable/entry/start.DQx2Rr3B.js", "_nuxt/BfN3kZ9x.js"),
    *("_nuxt/entry.DiwrgTda.css", "_astro/page.BfN3kZ9x.css"),
]


@pytest.mark.parametrize("path", HASHED)
def test_has_a_content_hash(path: str):
    assert has_content_hash(path)


NOT_HASHED = [
    *("index.html", "assets/index-BfN3kZ9x.html", "main.js", "sw.js", "service-worker.js", "favicon.ico"),
    *(
        "robots.txt",
        "site.webmanifest",
        "manifest.json",
        "assets/logo.svg",
        "ngsw-worker.js",
        "ngsw.json",
    ),
    # words of eight letters
    *("my-homepage.js", "logo-DarkMode.svg", "logo-darkMode.svg", "user-Settings.js", "my-app-home.js"),
    *(
        "view-overview.css",
        "font-awesome5.css",
        "page-UserList.js",
        "form-TEMPLATE.pdf",
        "chunk-vendors.js",
    ),
    # dates, versions, sizes, numbers
    *("report-20240131.pdf", "report.20240131.pdf", "photo-1024x768.jpg", "icon-512x512.png"),
    *("jquery-3.7.1.min.js", "app.1700000000.js", "lib-v1-beta2.js", "inter-v13-latin-regular.woff2"),
    *(
        "data-12345678.json",
        "12345678.js",
        "deadbeef.js",
        "facade.js",
        "3f2a9c1d.js",
        "android-chrome-192x192.png",
    ),
    *("BfN3kZ9x.js", "index-BfN3kZ9.js", "index-BfN3kZ9xy.js", "indexBfN3kZ9x.js", "index-BfN3kZ9x"),
]


@pytest.mark.parametrize("path", NOT_HASHED)
def test_has_no_content_hash_that_could_be_relied_on(path: str):
    assert not has_content_hash(path)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", ""),
        ("/a/b.js", "a/b.js"),
        ("/docs/", "docs/"),
        ("/caf%C3%A9.svg", "café.svg"),
        ("/a%20b.js", "a b.js"),
        ("/%2525.js", "%25.js"),
        ("/.well-known/security.txt", ".well-known/security.txt"),
    ],
)
def test_a_path_names_a_file(path: str, name: str):
    assert relative_path(path) == name


@pytest.mark.parametrize(
    "path",
    [
        *(
            "",
            "a",
            "*",
            "/.",
            "/..",
            "/../a",
            "/a/../b",
            "/a/./b",
            "/.env",
            "/a/.env",
            "/%2eenv",
            "/%2e%2e/a",
        ),
        *("/.well-known/.env", "/a/.well-known/b", "//a", "/a//b", "/a%2fb", "/..%2fa", "/a%5cb", "/..\\a"),
        *("/%00", "/a%0a", "/%7f", "/%ff", "/%c0%ae%c0%ae/a", "/" + "a" * 256, "/" + "a/" * 2100),
    ],
)
def test_a_path_names_nothing_in_the_folder(path: str):
    assert relative_path(path) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        *(("a.js", True), ("x/logo.png", True), ("a.woff2", True), ("a.7z", True), ("a.html", True)),
        *((".well-known/x", True), ("a", False), ("orders/5", False), ("v/1.2", False), ("v/1.2.3", False)),
        *(("a.", False), ("a.b.c", True), ("a/b.d/c", False), ("", False), ("a.averylongextension", False)),
    ],
)
def test_a_path_with_an_extension_is_that_of_a_file(path: str, expected: bool):
    assert names_a_file(path) is expected


BOTH = "br gzip"
ENCODED = [
    ("", BOTH, ""),
    ("gzip", BOTH, "gzip"),
    ("gzip, deflate, br, zstd", BOTH, "br"),
    ("gzip, deflate, br, zstd", "gzip", "gzip"),
    ("gzip, deflate, br, zstd", "", ""),
    ("BR;Q=0.9, gzip;q=0.8", BOTH, "br"),
    ("br;q=0.8, gzip;q=0.9", BOTH, "gzip"),
    ("br;q=0, gzip;q=0.000", BOTH, ""),
    ("*", BOTH, "br"),
    ("*;q=0", BOTH, ""),
    ("br;q=0, *", BOTH, "gzip"),
    ("identity, gzip;q=0.5", "gzip", ""),
    ("gzip;q=0.5", "gzip", "gzip"),
    ("identity;q=0, gzip;q=0.1", "gzip", "gzip"),
    ("x-gzip", "gzip", "gzip"),
    ("gzip;q=nonsense, br;q=2", BOTH, ""),
]


@pytest.mark.parametrize(("accept", "available", "expected"), ENCODED)
def test_the_encoding_that_a_browser_likes_best_is_sent(accept: str, available: str, expected: str):
    assert best_encoding(accept, available.split()) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.MJS", "text/javascript; charset=utf-8"),
        ("a.wasm", "application/wasm"),
        ("a.webmanifest", "application/manifest+json"),
        ("a.js.map", "application/json"),
        ("a.woff2", "font/woff2"),
        ("a.unknown", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_a_file_has_the_type_of_its_name(path: str, expected: str):
    assert content_type(path) == expected


# nginx sends files by the same rules, in JavaScript.


def nginx_says(function: str, arguments: list[str]) -> list[Any]:
    module = f"data:text/javascript,{quote((ROOT / 'deploy/bff-spa.js').read_text())}"
    code = f"const module = (await import({json.dumps(module)})).default;"
    code += f"console.log(JSON.stringify(JSON.parse(process.argv[1]).map(module.{function})))"
    node = ["node", "--input-type=module", "-e", code]
    result = subprocess.run([*node, json.dumps(arguments)], capture_output=True, text=True, check=True)
    return list(json.loads(result.stdout))


def test_nginx_caches_the_same_files_for_good_and_gives_them_the_same_types():
    paths = [*HASHED, *NOT_HASHED, *(f"x.{extension}" for extension in CONTENT_TYPES), "x.unknown"]
    own = [path for path in paths if not path.endswith((".html", ".htm"))]  # HTML is the application's

    assert nginx_says("cache_control", own) == [cache_control(path) for path in own]
    assert nginx_says("content_type", own) == [content_type(path) for path in own]


def test_nginx_likes_the_same_encodings():
    suffixes = [
        {"br": ".br", "gzip": ".gz", "": None}[best] for _, available, best in ENCODED if available == BOTH
    ]
    accepts = [accept for accept, available, _ in ENCODED if available == BOTH]

    assert [liked[0] if liked else None for liked in nginx_says("accepted", accepts)] == suffixes


def test_files_of_nginx_have_the_policy_of_a_build():
    text = (ROOT / "deploy/bff-spa.conf").read_text()
    headers = dict(re.findall(r'add_header (\S+) "?(.*?)"? always;', text))
    ours = security_headers(nonce=None, https=True) | {"Content-Security-Policy": Document().policy(None)}
    del ours["Cache-Control"]

    assert headers == ours
