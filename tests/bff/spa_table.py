"""Requests for a single-page app, and what the application and nginx answer them alike."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).parent / "spa/build"
NAVIGATION = {
    "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Site": "none",
}
FETCH = {
    "Accept": "*/*",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Site": "same-origin",
}
IMMUTABLE, NO_CACHE = "public, max-age=31536000, immutable", "no-cache"
HTML, PROBLEM, JS = "text/html; charset=utf-8", "application/problem+json", "text/javascript; charset=utf-8"
CSS, TEXT = "text/css; charset=utf-8", "text/plain; charset=utf-8"
SCRIPT, NUMBERS, LATER = "/assets/index-BfN3kZ9x.js", "/assets/numbers.txt", "Fri, 01 Jan 2100 00:00:00 GMT"


def copy_of_build(folder: Path) -> Path:
    """Return a copy of the build, and what no repository keeps: compressed files, dangerous neighbours."""
    build = folder / "build"
    shutil.copytree(SOURCE, build)
    for name in ("index.html", "assets/index-BfN3kZ9x.js", "assets/numbers.txt"):
        (build / f"{name}.gz").write_bytes(gzip.compress((build / name).read_bytes(), mtime=0))
    (build / ".env").write_text("SECRET=1\n")
    (build / ".git").mkdir()
    (build / ".git/config").write_text("[core]\n")
    (build / "OLD.HTM").write_text("<script>old()</script>")
    (folder / "outside.txt").write_text("outside\n")
    (build / "outside.txt").symlink_to(folder / "outside.txt")
    (build / "out").symlink_to(folder)
    (build / "numbers.txt").symlink_to("assets/numbers.txt")
    (folder / "buildings").mkdir()
    (folder / "buildings/plan.txt").write_text("outside\n")
    return build


@dataclass(frozen=True)
class Row:
    """`sends` is added to the request; `gets` are headers of the answer, None for one that is not there."""

    path: str
    status: int
    body: str = ""  # the file that it is made of
    method: str = "GET"
    sends: Mapping[str, str] = field(default_factory=dict)
    gets: Mapping[str, str | None] = field(default_factory=dict)
    nginx: int = 0  # the status of nginx, where it refuses the request before it looks

    @property
    def name(self) -> str:
        sent = [f"{name}: {value}"[:60] for name, value in self.sends.items() if name not in NAVIGATION]
        mode = self.sends.get("Sec-Fetch-Mode", "plain")
        return " ".join([self.method, self.path, mode, *sent])


def navigation(path: str, status: int, body: str = "", **gets: str | None) -> Row:
    return Row(path, status, body, sends=NAVIGATION, gets=_headers(gets))


def fetched(path: str, status: int, body: str = "", **gets: str | None) -> Row:
    return Row(path, status, body, sends=FETCH, gets=_headers(gets))


def sent(path: str, sends: Mapping[str, str], status: int, body: str = "", **gets: str | None) -> Row:
    return Row(path, status, body, sends={**FETCH, **sends}, gets=_headers(gets))


def _headers(given: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name.replace("_", "-"): value for name, value in given.items()}


GZIP, LIKE_CHROMIUM = {"Accept-Encoding": "gzip"}, {"Accept-Encoding": "gzip, deflate, br, zstd"}
INDEX = {"Content_Type": HTML, "Cache_Control": NO_CACHE}
MISSING = {"Content_Type": PROBLEM, "Cache_Control": "no-store"}
ROWS = [
    # The app, for every navigation that nothing else claims.
    navigation("/", 200, "index.html", **INDEX),
    navigation("/?utm_source=mail", 200, "index.html", **INDEX),
    navigation("/index.html", 200, "index.html", **INDEX),
    navigation("/items/5", 200, "index.html", **INDEX),
    navigation("/items/5/", 200, "index.html", **INDEX),
    navigation("/items/5?sort=date", 200, "index.html", **INDEX),
    navigation("/versions/1.2", 200, "index.html", **INDEX),
    navigation("/caf%C3%A9", 200, "index.html", **INDEX),
    navigation("/assets", 200, "index.html", **INDEX),
    navigation("/assets/", 200, "index.html", **INDEX),
    navigation("/docs/", 200, "docs/index.html", **INDEX),
    navigation("/about.html", 200, "about.html", **INDEX),
    navigation("/OLD.HTM", 200, "OLD.HTM", **INDEX),
    Row("/items/5", 200, "index.html", sends={"Accept": "text/html"}, gets=_headers(INDEX)),
    Row("/items/5", 200, sends=NAVIGATION, method="HEAD", gets=_headers(INDEX)),
    sent("/items/5", {**NAVIGATION, "Sec-Fetch-Dest": "iframe"}, 200, "index.html", **INDEX),
    fetched("/", 200, "index.html", **INDEX),
    fetched("/index.html", 200, "index.html", **INDEX),
    Row("/", 200, "index.html", sends={"Accept": "*/*"}, gets=_headers(INDEX)),
    # Never the app: data, files that are not there, what leads elsewhere.
    fetched("/items/5", 404, **MISSING),
    fetched("/data/orders", 404, **MISSING),
    sent("/items/5", {"Accept": "text/html"}, 404, **MISSING),
    sent("/items/5", {**NAVIGATION, "Sec-Fetch-Dest": "object"}, 404),
    Row("/items/5", 404, sends={"Accept": "*/*"}, gets=_headers(MISSING)),
    Row("/items/5", 404, sends={"Accept": "text/html", "X-CSRF": "1"}, gets=_headers(MISSING)),
    Row("/items/5", 404, sends=FETCH, method="POST", gets=_headers(MISSING)),
    navigation("/assets/index-00000000.js", 404),
    fetched("/assets/index-00000000.js", 404, **MISSING),
    navigation("/missing.png", 404),
    navigation("/items/report.pdf", 404),
    navigation("/missing.html", 404),
    navigation("/.env", 404),
    fetched("/.env", 404, **MISSING),
    fetched("/%2eenv", 404, **MISSING),
    fetched("/.git/config", 404, **MISSING),
    navigation("/.git/config", 404),
    fetched("/assets/.hidden.js", 404, **MISSING),
    fetched("/outside.txt", 404, **MISSING),
    fetched("/out/outside.txt", 404, **MISSING),
    Row("/../outside.txt", 404, sends=FETCH, nginx=400),
    Row("/%2e%2e/outside.txt", 404, sends=FETCH, nginx=400),
    Row("/..%2foutside.txt", 404, sends=FETCH, nginx=400),
    Row("/assets/..%2f..%2foutside.txt", 404, sends=FETCH, nginx=400),
    fetched("/..%5coutside.txt", 404),
    Row("/assets/%2e%2e/%2e%2e/outside.txt", 404, sends=FETCH, nginx=400),
    Row("/../buildings/plan.txt", 404, sends=FETCH, nginx=400),
    Row("/.%2e/buildings/plan.txt", 404, sends=FETCH, nginx=400),
    fetched("//outside.txt", 404),
    Row("/%00.js", 404, sends=FETCH, nginx=400),
    Row("/assets/numbers.txt%00.js", 404, sends=FETCH, nginx=400),
    fetched("/" + "a" * 300 + ".js", 404),
    fetched("/.well-known/missing", 404, **MISSING),
    navigation("/.well-known/missing", 404),
    # Files, with the type that `nosniff` needs; those with a hash of their content for good.
    fetched("/.well-known/assetlinks.json", 200, ".well-known/assetlinks.json", Cache_Control=NO_CACHE),
    fetched(SCRIPT, 200, SCRIPT[1:], Content_Type=JS, Cache_Control=IMMUTABLE, Accept_Ranges="bytes"),
    fetched("/assets/greeting-DiwrgTda.js", 200, Content_Type=JS, Cache_Control=IMMUTABLE),
    fetched("/assets/orders-4K6QJ3XZ.js", 200, Content_Type=JS, Cache_Control=IMMUTABLE),
    fetched("/assets/index-D-x_9aB2.css", 200, Content_Type=CSS, Cache_Control=IMMUTABLE),
    fetched(f"{SCRIPT}.map", 200, Content_Type="application/json", Cache_Control=IMMUTABLE),
    fetched("/assets/square-4sK3E3Wk.woff2", 200, Content_Type="font/woff2", Cache_Control=IMMUTABLE),
    fetched("/worker.mjs", 200, "worker.mjs", Content_Type=JS, Cache_Control=NO_CACHE),
    fetched("/site.webmanifest", 200, Content_Type="application/manifest+json", Cache_Control=NO_CACHE),
    fetched("/media/empty.wasm", 200, Content_Type="application/wasm", Cache_Control=NO_CACHE),
    fetched("/media/logo.svg", 200, Content_Type="image/svg+xml; charset=utf-8", Cache_Control=NO_CACHE),
    fetched("/robots.txt", 200, "robots.txt", Content_Type=TEXT, Cache_Control=NO_CACHE),
    fetched("/favicon.ico", 200, "favicon.ico", Content_Type="image/x-icon", Cache_Control=NO_CACHE),
    fetched("/numbers.txt", 200, "assets/numbers.txt"),
    navigation("/media/logo.svg", 200, "media/logo.svg"),
    Row(SCRIPT, 200, sends=FETCH, method="HEAD", gets={"Content-Length": "635", "Cache-Control": IMMUTABLE}),
    Row(SCRIPT, 405, sends=FETCH, method="POST", gets={"Allow": "GET, HEAD", "Content-Type": PROBLEM}),
    Row(SCRIPT, 405, sends=FETCH, method="DELETE", gets={"Allow": "GET, HEAD", "Content-Type": PROBLEM}),
    # Compressed files beside them.
    sent(SCRIPT, GZIP, 200, f"{SCRIPT[1:]}.gz", Content_Encoding="gzip", Content_Type=JS),
    sent(SCRIPT, {"Accept-Encoding": "gzip, deflate"}, 200, Content_Encoding="gzip", Vary="Accept-Encoding"),
    sent(SCRIPT, {"Accept-Encoding": "br"}, 200, f"{SCRIPT[1:]}.br", Content_Encoding="br", Content_Type=JS),
    sent(SCRIPT, LIKE_CHROMIUM, 200, Content_Encoding="br", Cache_Control=IMMUTABLE),
    sent(SCRIPT, {"Accept-Encoding": "br;q=0, gzip"}, 200, Content_Encoding="gzip"),
    sent(SCRIPT, {"Accept-Encoding": "br;q=0.0, gzip;q=0"}, 200, SCRIPT[1:], Content_Encoding=None),
    sent(SCRIPT, {}, 200, SCRIPT[1:], Content_Encoding=None, Vary="Accept-Encoding"),
    sent(SCRIPT, {"Accept-Encoding": "deflate, zstd"}, 200, SCRIPT[1:], Content_Encoding=None),
    sent("/worker.mjs", {"Accept-Encoding": "gzip, br"}, 200, "worker.mjs", Content_Encoding=None),
    sent("/", {"Accept-Encoding": "gzip"}, 200, "index.html.gz", Content_Encoding="gzip", **INDEX),
    # Conditions and ranges; "{etag}" and "{modified}" are those of the file, without an encoding.
    sent(NUMBERS, {"If-None-Match": "{etag}"}, 304, Cache_Control=NO_CACHE, Content_Length=None),
    sent(NUMBERS, {"If-None-Match": 'W/"x", W/{etag}'}, 304),
    sent(NUMBERS, {"If-None-Match": "*"}, 304),
    sent(NUMBERS, {"If-None-Match": '"another"'}, 200, NUMBERS[1:]),
    sent(NUMBERS, {"If-None-Match": '"another"', "If-Modified-Since": "{modified}"}, 200),
    sent(NUMBERS, {"If-Modified-Since": "{modified}"}, 304),
    sent(NUMBERS, {"If-Modified-Since": LATER}, 304),
    sent(NUMBERS, {"If-Modified-Since": "yesterday"}, 200),
    sent(NUMBERS, {"If-Match": '"another"'}, 412),
    sent(NUMBERS, {"If-Match": "{etag}"}, 200),
    sent(NUMBERS, {"If-Unmodified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}, 412),
    sent(SCRIPT, {"If-None-Match": "{etag}", "Accept-Encoding": "gzip"}, 200, Content_Encoding="gzip"),
    sent("/", {"If-None-Match": "{etag}"}, 304, Cache_Control=NO_CACHE),
    Row("/items/5", 304, sends={**NAVIGATION, "If-None-Match": "{etag}"}),
    sent(NUMBERS, {"Range": "bytes=0-1"}, 206, Content_Range="bytes 0-1/1492", Content_Length="2"),
    sent(NUMBERS, {"Range": "bytes=1490-"}, 206, Content_Range="bytes 1490-1491/1492"),
    sent(NUMBERS, {"Range": "bytes=-2"}, 206, Content_Range="bytes 1490-1491/1492"),
    sent(NUMBERS, {"Range": "bytes=1000-9999"}, 206, Content_Range="bytes 1000-1491/1492"),
    sent(NUMBERS, {"Range": "bytes=1492-"}, 416, Content_Range="bytes */1492"),
    sent(NUMBERS, {"Range": "lines=1-2"}, 200, NUMBERS[1:]),
    sent(NUMBERS, {"Range": "bytes=0-1", "If-Range": "{etag}"}, 206),
    sent(NUMBERS, {"Range": "bytes=0-1", "If-Range": "{modified}"}, 206),
    sent(NUMBERS, {"Range": "bytes=0-1", "If-Range": '"another"'}, 200, NUMBERS[1:]),
    sent(NUMBERS, {"Range": "bytes=0-1", "If-None-Match": "{etag}"}, 304),
    # Routes come first.
    navigation("/account", 302),
    navigation("/healthz", 200),
    fetched("/bff/user", 403),
    fetched("/bff/nothing", 404, **MISSING),
    navigation("/bff/nothing", 404),
    fetched("/static/css/app.css", 200),
    fetched("/static/missing.css", 404),
    fetched(f"/static/{2040 * 'x/'}a.js", 404),  # longer than any path of the file system
]  # fmt: skip
