"""The rules about files of a build: which names have a hash, which paths name one, which encoding is sent."""

from __future__ import annotations

import pytest

from app.bff.spa.files import best_encoding, content_type, has_content_hash, names_a_file, relative_path


@pytest.mark.parametrize(
    "path",
    [
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
    ],
)
def test_has_a_content_hash(path: str):
    assert has_content_hash(path)


@pytest.mark.parametrize(
    "path",
    [
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
    ],
)
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


@pytest.mark.parametrize(
    ("accept", "available", "expected"),
    [
        ("", "br gzip", ""),
        ("gzip", "br gzip", "gzip"),
        ("gzip, deflate, br, zstd", "br gzip", "br"),
        ("gzip, deflate, br, zstd", "gzip", "gzip"),
        ("gzip, deflate, br, zstd", "", ""),
        ("BR;Q=0.9, gzip;q=0.8", "br gzip", "br"),
        ("br;q=0.8, gzip;q=0.9", "br gzip", "gzip"),
        ("br;q=0, gzip;q=0.000", "br gzip", ""),
        ("*", "br gzip", "br"),
        ("*;q=0", "br gzip", ""),
        ("br;q=0, *", "br gzip", "gzip"),
        ("identity, gzip;q=0.5", "gzip", ""),
        ("gzip;q=0.5", "gzip", "gzip"),
        ("identity;q=0, gzip;q=0.1", "gzip", "gzip"),
        ("x-gzip", "gzip", "gzip"),
        ("gzip;q=nonsense, br;q=2", "br gzip", ""),
    ],
)
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
