"""Where an API leads to: what lies below its base URL has a path of ours, and the rest is left as it is."""

from __future__ import annotations

import json
import subprocess
from urllib.parse import quote, urljoin, urlsplit

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from app.bff.proxy.locations import Forwarded, forwarded_headers, mapped, mapped_headers
from app.bff.settings.apis import RemoteApiSettings
from tests.bff.harness import Browser, Clock, last_request_headers, new_browser, running_app
from tests.bff.subprocesses import ROOT

API = RemoteApiSettings(path="/api", client="private")
ADMIN = RemoteApiSettings(path="/api/admin", client="private")
BASE = "http://private:8080/v1/"


def seen_at(
    reference: str, *, base: str = BASE, url: str = "orders/7?x=1", api: RemoteApiSettings = API
) -> str:
    return mapped(reference, Forwarded(base + url, base, api, [api, ADMIN]))


BELOW = {
    "an absolute URL": ("http://private:8080/v1/x", "/api/x"),
    "with query and fragment": ("http://private:8080/v1/x?y=../z#top", "/api/x?y=../z#top"),
    "the base URL": ("http://private:8080/v1/", "/api/"),
    "the base URL without its slash": ("http://private:8080/v1", "/api"),
    "the base URL with a query": ("http://private:8080/v1?a", "/api?a"),
    "scheme and host in capitals": ("HTTP://PRIVATE:8080/v1/x", "/api/x"),
    "a user": ("http://me:secret@private:8080/v1/x", "/api/x"),
    "no scheme": ("//private:8080/v1/x", "/api/x"),
    "a path alone": ("/v1/x", "/api/x"),
    "a relative path": ("8", "/api/orders/8"),
    "a relative path with a colon": ("./a:b", "/api/orders/a:b"),
    "a relative path upwards": ("../x", "/api/x"),
    "up and down again": ("../../v1/x", "/api/x"),
    "dot segments": ("http://private:8080/v1/a/./b/../c", "/api/a/c"),
    "dots at the end": ("/v1/a/b/..", "/api/a/"),
    "a query alone": ("?page=2", "/api/orders/7?page=2"),
    "a fragment alone": ("#top", "/api/orders/7?x=1#top"),
    "empty segments": ("/v1/a//b/", "/api/a//b/"),
    "an encoded slash": ("/v1/a%2Fb", "/api/a%2Fb"),
    "an encoded letter of the base URL": ("/%761/x%41", "/api/x%41"),
    "other letters": ("/v1/stra\xc3\x9fe", "/api/stra%C3%9Fe"),
    "a space": ("/v1/a b", "/api/a%20b"),
    "our own path once more": ("/v1/api/x", "/api/api/x"),
    "a URL as a segment": ("/v1/http://evil.example/", "/api/http://evil.example/"),
    "a host as an empty segment": ("/v1//evil.example/", "/api//evil.example/"),
}
ELSEWHERE = {
    "another host": "https://evil.example/v1/x",
    "another scheme": "https://private:8080/v1/x",
    "another port": "http://private:8081/v1/x",
    "no port": "http://private/v1/x",
    "a host that begins alike": "http://private:8080.evil.example/v1/x",
    "a host after a user": "http://private:8080@evil.example/v1/x",
    "a host after a backslash": "http://private:8080\\@evil.example/v1/x",
    "a backslash instead of the path": "http://private:8080\\v1\\x",
    "another host without a scheme": "//evil.example/v1/x",
    "no host": "http:///v1/x",
    "a port that is none": "http://private:80x/v1/x",
    "an address that is none": "http://[private/v1/x",
    "a path that begins alike": "http://private:8080/v1x",
    "a path alone that begins alike": "/v1x/y",
    "another path": "/login",
    "the path in capitals": "/V1/x",
    "a slash of the path encoded": "/v1%2Fx",
    "out of the base URL": "/v1/../secrets",
    "out of it, relatively": "../../secrets",
    "out of it, encoded": "/v1/%2e%2e/secrets",
    "out of it, with a backslash": "/v1/..\\secrets",
    "an entry below ours": "/v1/admin/x",
    "an entry below ours in capitals": "/v1/ADMIN",
    "another scheme without a host": "javascript:alert(1)",
    "our scheme without a host": "http:x",
    "a mail address": "mailto:me@private:8080",
    "nothing": "",
}


@pytest.mark.parametrize(("reference", "path"), BELOW.values(), ids=BELOW)
def test_what_lies_below_the_base_url_has_a_path_of_ours(reference: str, path: str):
    assert seen_at(reference) == path


@pytest.mark.parametrize("reference", BELOW.values(), ids=BELOW)
def test_a_mapped_path_never_leads_to_another_host(reference: tuple[str, str]):
    assert (
        urlsplit(urljoin("https://bff.example.com/api/x", seen_at(reference[0]))).netloc == "bff.example.com"
    )


@pytest.mark.parametrize("reference", ELSEWHERE.values(), ids=ELSEWHERE)
def test_what_leads_elsewhere_stays_as_it_is(reference: str):
    assert seen_at(reference) == reference


BASES = {
    "no path": ("http://private", "/7", "http://private/x", "/api/x"),
    "no path, nor there": ("http://private", "/7", "http://private", "/api/"),
    "the root": ("http://private/", "7", "/x", "/api/x"),
    "the default port said": ("http://private/", "7", "http://private:80/x", "/api/x"),
    "the default port not said": ("https://private:443/", "7", "https://private/x", "/api/x"),
    "the default port of the scheme": ("https://private/", "7", "//private:443/x", "/api/x"),
    "an IPv6 address": ("http://[::1]:80/", "7", "http://[::1]/x", "/api/x"),
    "a base URL without a slash": ("http://private/todos", "", "/todos", "/api"),
    "below one without a slash": ("http://private/todos", "", "/todos/5", "/api/5"),
    "its next page": ("http://private/todos", "", "?page=2", "/api?page=2"),
    "what begins with it": ("http://private/todos", "", "/todos5", "/todos5"),
    "a base URL that is encoded": ("http://private/caf%C3%A9", "/", "/caf\xc3\xa9/x", "/api/x"),
    "encoded in other letters": ("http://private/caf%c3%a9", "/", "/caf%C3%A9/x", "/api/x"),
}


@pytest.mark.parametrize(("base", "url", "reference", "path"), BASES.values(), ids=BASES)
def test_a_base_url_is_compared_as_urls_are(base: str, url: str, reference: str, path: str):
    assert seen_at(reference, base=base, url=url) == path


TOLD = API.model_copy(update={"forwarded": True})


MEANT = [
    ("/api/x", "/api/x"),
    ("/api", "/api"),
    ("/apis", "/api/apis"),
    ("/x", "/api/x"),
    ("https://bff.example.com/api/x", "https://bff.example.com/api/x"),
    ("http://private:8080/x", "/api/x"),
    ("http://private:8080/api/x", "/api/api/x"),
]


@pytest.mark.parametrize(("reference", "path"), MEANT)
def test_an_api_that_is_told_where_it_is_seen_from_may_name_our_path(reference: str, path: str):
    assert seen_at(reference, base="http://private:8080/", api=TOLD) == path


def test_the_headers_with_urls_are_mapped_and_no_others():
    link = '</v1/x?page=2>; rel="next"; title="</v1/x>", <https://elsewhere/v1/x>;rel=up,<8> ; rel=last'
    headers = [
        ("location", "/v1/x"),
        ("Content-Location", "/v1/x"),
        ("Link", link),
        ("Link", "</v1/y"),
        ("ETag", "/v1/x"),
    ]

    assert mapped_headers(headers, Forwarded(f"{BASE}orders/7", BASE, API, [API])) == [
        ("location", "/api/x"),
        ("Content-Location", "/api/x"),
        (
            "Link",
            '</api/x?page=2>; rel="next"; title="</v1/x>", <https://elsewhere/v1/x>;rel=up,'
            "</api/orders/8> ; rel=last",
        ),
        ("Link", "</v1/y"),
        ("ETag", "/v1/x"),
    ]


@pytest.mark.parametrize(
    "rest", ["</v1/x>", 20_000 * '\\"', 20_000 * '"\\'], ids=["a target", "quotes", "escapes"]
)
def test_what_follows_a_quote_that_nothing_closes_stays_as_it_is_and_takes_no_time(rest: str):
    link = f'</v1/x>; title="{rest}'
    [(_, mapped)] = mapped_headers([("Link", link)], Forwarded(f"{BASE}orders/7", BASE, API, [API]))

    assert mapped == link.replace("/v1/", "/api/", 1)


# nginx maps them by the same rules, in JavaScript.


def nginx_says(cases: list[tuple[str, str, str, str, bool]]) -> list[str]:
    module = f"data:text/javascript,{quote((ROOT / 'deploy/bff-headers.js').read_text())}"
    code = f"const {{mapped}} = (await import({json.dumps(module)})).default;"
    code += "console.log(JSON.stringify(JSON.parse(process.argv[1]).map(each => mapped(...each))))"
    node = ["node", "--input-type=module", "-e", code, json.dumps(cases)]
    return list(json.loads(subprocess.run(node, capture_output=True, text=True, check=True).stdout))


def test_nginx_maps_the_same_references_in_the_same_way():
    all_below = [(BASE + "orders/7?x=1", BASE, *case) for case in BELOW.values()]
    all_below += [(base + url, base, reference, path) for base, url, reference, path in BASES.values()]
    all_below = [case for case in all_below if case[2].isascii()]  # it leaves other bytes as they are
    cases = [(reference, url, base, "/api", False) for url, base, reference, _ in all_below]
    elsewhere = [each for each in ELSEWHERE.values() if "admin" not in each.lower()]  # nginx knows no others
    told = [
        (reference, "http://private:8080/7", "http://private:8080/", "/api", True) for reference, _ in MEANT
    ]

    assert nginx_says(cases) == [path.replace("%20", " ") for *_, path in all_below]
    assert nginx_says([(each, BASE + "orders/7", BASE, "/api", False) for each in elsewhere]) == elsewhere
    assert nginx_says(told) == [path for _, path in MEANT]


# On the wire


@pytest.mark.parametrize("status", [201, 301, 302, 303, 307, 308])
async def test_a_private_address_stays_private(status: int, api: DemoApi, browser: Browser):
    await browser.login()
    api.fails["echo"] = Failure(status, b"{}", {"Location": f"{api.base_url}todos/1?x"})
    response = await browser.fetch("/api/echo", "POST")

    assert (response.status_code, response.headers["Location"]) == (status, "/api/todos/1?x")
    assert api.counts.total() == 1


ANYTHING = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "gopher", "X-Forwarded-Prefix": "/evil"}


async def test_an_api_is_told_where_it_is_seen_from_if_the_settings_say_so(
    provider: Provider, api: DemoApi, clock: Clock
):
    remote = [
        {"path": f"/{name}", "client": "apiClient", "forwarded": name == "told"} for name in ("told", "not")
    ]
    heard = {}
    async with (
        running_app(provider, api, clock=clock, remote_apis=remote) as app,
        new_browser(app) as browser,
    ):
        await browser.login()
        for name in ("told", "not"):
            await browser.fetch(f"/{name}/echo", headers=ANYTHING)
            heard[name] = {k: v for k, v in last_request_headers(api).items() if k.startswith("x-forwarded")}

    assert heard == {
        "told": {
            "x-forwarded-host": app.base_url.removeprefix("http://"),
            "x-forwarded-proto": "http",
            "x-forwarded-prefix": "/told",
        },
        "not": {},
    }


def test_headers_of_the_client_have_precedence():
    told = forwarded_headers("https://bff.example.com", "/api", fixed={"x-forwarded-prefix"})

    assert told == [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "bff.example.com")]
