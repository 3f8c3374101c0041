"""Cross-origin rules: who sent a request, our own page, another site, or a person with a link."""

from __future__ import annotations

import pytest

from app.bff.web.cross_origin import (
    api_refusal,
    arrives_without_strict_cookies,
    csrf_refusal,
    is_navigation,
    is_prefetch,
    is_sent_from_elsewhere,
    login_refusal,
    socket_refusal,
)

OURS = {"Host": "app.example", "X-CSRF": "1"}
LINK_ELSEWHERE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site"}


@pytest.mark.parametrize(
    "added",
    [
        pytest.param({}, id="the header alone, from an old browser or a program"),
        pytest.param({"Sec-Fetch-Site": "same-origin"}, id="our page"),
        pytest.param({"Sec-Fetch-Site": "none"}, id="a person"),
        pytest.param({"Origin": "https://app.example"}, id="our origin"),
        pytest.param({"Origin": "https://APP.example"}, id="our origin in capitals"),
    ],
)
def test_what_our_own_pages_send_is_accepted(added):
    assert csrf_refusal({**OURS, **added}) is None


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Host": "app.example"}, id="without the header"),
        pytest.param({**OURS, "X-CSRF": "0"}, id="with another value"),
        pytest.param({**OURS, "X-CSRF": "1, 1"}, id="with the header twice"),
        pytest.param({**OURS, "X-CSRF": ""}, id="with an empty header"),
        pytest.param({**OURS, "Sec-Fetch-Site": "cross-site"}, id="by another site"),
        pytest.param({**OURS, "Sec-Fetch-Site": "same-site"}, id="by a sibling site"),
        pytest.param({**OURS, "Sec-Fetch-Site": "surprise"}, id="by something new"),
        pytest.param({**OURS, "Origin": "https://evil.example"}, id="by another origin"),
        pytest.param({**OURS, "Origin": "https://app.example:444"}, id="from another port"),
        pytest.param({**OURS, "Origin": "https://app.example.evil.example"}, id="by a longer name"),
        pytest.param({**OURS, "Origin": "null"}, id="by a sandboxed frame"),
        pytest.param({"X-CSRF": "1", "Origin": "https://app.example"}, id="without a host"),
    ],
)
def test_a_request_is_refused_when_it_was_sent(headers):
    assert csrf_refusal(headers)


# Remote APIs


BY_OUR_PAGE = {"Host": "app.example", "Sec-Fetch-Site": "same-origin"}
READS = ["audio", "document", "empty", "image", "track", "video"]
RUNS = [
    *("script", "style", "font", "worker", "sharedworker", "serviceworker", "audioworklet", "paintworklet"),
    *(
        "xslt",
        "json",
        "manifest",
        "iframe",
        "frame",
        "fencedframe",
        "embed",
        "object",
        "report",
        "nonsense",
        "",
    ),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("added", [{}, *({"Sec-Fetch-Dest": each} for each in READS)], ids=["unsaid", *READS])
def test_what_our_page_shows_or_saves_needs_no_header_where_the_settings_say_so(method, added):
    assert api_refusal(method, BY_OUR_PAGE | added, csrf="same-origin") is None
    assert api_refusal(method, BY_OUR_PAGE | added | {"X-CSRF": "1"}, csrf="same-origin") is None
    assert api_refusal(method, BY_OUR_PAGE | added | {"X-CSRF": "1"}, csrf="header") is None
    assert api_refusal(method, BY_OUR_PAGE | added, csrf="header")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", "QUERY"])
def test_every_other_method_needs_the_header(method):
    assert api_refusal(method, BY_OUR_PAGE, csrf="same-origin")
    assert api_refusal(method, BY_OUR_PAGE | {"X-CSRF": "1"}, csrf="same-origin") is None


@pytest.mark.parametrize("destination", RUNS)
def test_no_code_and_no_frame_comes_from_an_api(destination):
    assert api_refusal("GET", BY_OUR_PAGE | {"Sec-Fetch-Dest": destination}, csrf="same-origin")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="a browser without Fetch Metadata"),
        pytest.param({"Origin": "https://app.example"}, id="one that says its origin"),
        pytest.param({"Sec-Fetch-Site": "none"}, id="a person who types"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, id="a sibling host"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, id="another site"),
        pytest.param({"Sec-Fetch-Site": "same-origin, cross-site"}, id="two answers"),
        pytest.param({"Sec-Fetch-Site": "Same-Origin"}, id="something new"),
        pytest.param({"Sec-Fetch-Site": "cross-site", "X-CSRF": "1"}, id="another site with the header"),
        pytest.param(BY_OUR_PAGE | {"Sec-Purpose": "prefetch"}, id="a prefetch"),
        pytest.param(BY_OUR_PAGE | {"Sec-Purpose": "prefetch;prerender"}, id="a prerender"),
    ],
)
def test_a_read_is_refused_to(headers):
    assert api_refusal("GET", {"Host": "app.example"} | headers, csrf="same-origin")


@pytest.mark.parametrize(
    ("base_url", "origin"),
    [
        ("https://app.example", "https://app.example"),
        ("https://app.example:8443", "https://app.example:8443"),
        ("https://app.example:443", "https://app.example"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:8888", "http://[::1]:8888"),
    ],
)
def test_our_own_page_may_open_a_websocket(base_url, origin):
    assert socket_refusal({"Origin": origin}, base_url) is None


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "",
        "null",
        "http://app.example",
        "https://app.example:8443",
        "https://other.app.example",
        "https://app.example.evil.example",
        "https://evil.example",
        "https://app.example,https://evil.example",
        "https://APP.example",
        "HTTPS://app.example",
        "https://app.example:443",
        "https://app.example:8443, https://app.example",
        "https://app.example/",
        "https://app.example.",
        "https://user@app.example",
        "https://app.example https://evil.example",
        " https://app.example",
        "//app.example",
        "app.example",
        "file://",
        "https://app.example\xa0",
    ],
)
def test_a_websocket_is_refused_to_a_page_of(origin):
    assert socket_refusal({} if origin is None else {"Origin": origin}, "https://app.example")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Sec-Fetch-Mode": "navigate"}, id="a browser says so"),
        pytest.param({"Accept": "text/html,*/*;q=0.8"}, id="an old browser wants a page"),
    ],
)
def test_a_person_who_waits_for_a_page_navigates(headers):
    assert is_navigation(headers)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="nothing is said"),
        pytest.param({"Sec-Fetch-Mode": "cors"}, id="fetch"),
        pytest.param({"Sec-Fetch-Mode": "cors", "Accept": "text/html"}, id="fetch for a piece of HTML"),
        pytest.param({"Accept": "application/json"}, id="an old browser's script wants JSON"),
        pytest.param({"Accept": "text/html", "X-CSRF": "1"}, id="an old browser's script wants HTML"),
    ],
)
def test_a_script_that_waits_for_an_answer_does_not_navigate(headers):
    assert not is_navigation(headers)


def test_a_link_on_another_site_arrives_without_strict_cookies():
    assert arrives_without_strict_cookies("GET", LINK_ELSEWHERE)
    assert arrives_without_strict_cookies("HEAD", LINK_ELSEWHERE)


@pytest.mark.parametrize(
    ("method", "changed"),
    [
        pytest.param("GET", {"Sec-Fetch-Site": "same-origin"}, id="our own page started it"),
        pytest.param("GET", {"Sec-Fetch-Site": "same-site"}, id="a sibling site started it"),
        pytest.param("GET", {"Sec-Fetch-Site": "none"}, id="a person typed it"),
        pytest.param("POST", {}, id="a form, which must not be sent twice"),
        pytest.param("GET", {"Sec-Fetch-Mode": "cors"}, id="a script started it"),
        pytest.param("GET", {"Sec-Fetch-Dest": "iframe"}, id="it is for a frame"),
        pytest.param("GET", {"Sec-Fetch-Site": ""}, id="an old browser says nothing"),
    ],
)
def test_a_request_arrives_with_all_its_cookies_or_must_not_be_repeated_when(method, changed):
    assert not arrives_without_strict_cookies(method, {**LINK_ELSEWHERE, **changed})


@pytest.mark.parametrize("purpose", ["prefetch", "prefetch;prerender"])
def test_a_browser_that_only_guesses_is_noticed(purpose):
    assert is_prefetch({"Sec-Purpose": purpose})


def test_a_browser_that_does_not_guess_is_no_prefetch():
    assert not is_prefetch({})


@pytest.mark.parametrize(("destination", "in_frames"), [("iframe", True), ("frame", True), ("object", False)])
def test_in_a_frame_it_counts_only_where_the_frame_may_be_ours(destination, in_frames):
    framed = {**LINK_ELSEWHERE, "Sec-Fetch-Dest": destination}

    assert arrives_without_strict_cookies("GET", framed, in_a_frame_too=True) is in_frames
    assert not arrives_without_strict_cookies("GET", framed)
    assert not arrives_without_strict_cookies("POST", framed, in_a_frame_too=True)


NAVIGATE = {"Sec-Fetch-Mode": "navigate"}


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="a browser without Fetch Metadata"),
        pytest.param({**NAVIGATE, "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}, id="a person"),
        pytest.param(
            {**NAVIGATE, "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "same-origin"}, id="our page"
        ),
        pytest.param(LINK_ELSEWHERE, id="a link of another site"),
        pytest.param(
            {**NAVIGATE, "Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "same-origin"}, id="our frame"
        ),
        pytest.param(
            {**NAVIGATE, "Sec-Fetch-Dest": "frame", "Sec-Fetch-Site": "same-origin"}, id="our frameset"
        ),
    ],
)
def test_a_login_is_started_by(headers):
    assert login_refusal(headers) is None


@pytest.mark.parametrize("mode", ["no-cors", "cors", "same-origin", "websocket", "", "Navigate", "surprise"])
@pytest.mark.parametrize("site", ["same-origin", "same-site", "cross-site", "none"])
def test_a_login_is_not_started_by_what_is_no_navigation(mode, site):
    assert login_refusal({"Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": site})
    assert login_refusal({"Sec-Fetch-Mode": mode, "Sec-Fetch-Site": site})


@pytest.mark.parametrize(
    "destination",
    [
        "image",
        "script",
        "style",
        "empty",
        "embed",
        "object",
        "fencedframe",
        "audio",
        "video",
        "font",
        "report",
    ],
)
@pytest.mark.parametrize("headers", [NAVIGATE, {}, {**NAVIGATE, "Sec-Fetch-Site": "same-origin"}])
def test_a_login_is_not_started_for(destination, headers):
    assert login_refusal({**headers, "Sec-Fetch-Dest": destination})


@pytest.mark.parametrize("destination", ["iframe", "frame"])
@pytest.mark.parametrize("site", ["same-site", "cross-site", "none", "", None])
def test_a_login_in_a_frame_is_started_by_our_own_page_only(destination, site):
    said = {} if site is None else {"Sec-Fetch-Site": site}

    assert login_refusal({**NAVIGATE, "Sec-Fetch-Dest": destination, **said})


@pytest.mark.parametrize(
    ("site", "is_from_elsewhere"),
    [
        (None, False),
        ("none", False),
        ("same-origin", False),
        ("same-site", True),
        ("cross-site", True),
        ("", True),
        ("surprise", True),
        ("same-origin, none", True),
        ("Same-Origin", True),
    ],
)
def test_another_origin_has_started_what_is_not_said_to_be_ours(site, is_from_elsewhere):
    assert is_sent_from_elsewhere({} if site is None else {"Sec-Fetch-Site": site}) is is_from_elsewhere
