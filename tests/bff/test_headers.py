"""Response headers: what every answer of ours tells the browser to allow."""

from __future__ import annotations

import pytest

from app.bff.web.headers import SECURITY_HEADERS, security_headers


def policy(**changed: object) -> dict[str, str]:
    """The directives of our Content-Security-Policy."""
    header = security_headers(**{"nonce": "n0nce", "https": True, **changed})["Content-Security-Policy"]
    return dict(directive.split(" ", 1) for directive in header.split("; "))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin-allow-popups"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Cache-Control", "no-store"),
    ],
)
@pytest.mark.parametrize("https", [True, False], ids=["https", "http"])
def test_every_answer_says(name, value, https):
    assert security_headers(nonce="n", https=https)[name] == value


def test_what_is_not_named_is_not_allowed():
    assert policy()["default-src"] == "'none'"


def test_only_a_script_with_the_nonce_runs():
    assert policy(nonce="abc")["script-src"] == "'nonce-abc'"


def test_nothing_inline_and_nothing_evaluated_is_allowed():
    assert "unsafe" not in security_headers(nonce="n", https=True)["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("directive", "value"),
    [
        ("frame-ancestors", "'none'"),
        ("base-uri", "'none'"),
        ("form-action", "'self'"),
        ("connect-src", "'self'"),
    ],
)
def test_a_page_of_ours_is_neither_framed_nor_rebased_and_talks_to_us_only(directive, value):
    assert policy()[directive] == value


def test_without_a_provider_a_page_has_no_frames():
    assert "frame-src" not in policy()


@pytest.mark.parametrize(
    ("login_page", "origin"),
    [
        ("https://provider.example", "https://provider.example"),
        ("https://provider.example:8443/realms/one/", "https://provider.example:8443"),
    ],
)
def test_a_frame_on_a_page_shows_us_or_the_provider(login_page, origin):
    assert policy(login_page=login_page)["frame-src"] == f"'self' {origin}"


def test_a_page_in_a_frame_of_ours_may_not_be_framed_by_another_site():
    headers = security_headers(nonce="n", https=True, framed_by_same_site=True)

    assert headers["X-Frame-Options"] == "SAMEORIGIN"
    assert policy(framed_by_same_site=True)["frame-ancestors"] == "'self'"


def test_a_popup_that_stays_connected_to_its_opener_has_all_other_headers():
    headers = security_headers(nonce="n", https=True)
    del headers["Cross-Origin-Opener-Policy"]

    assert security_headers(nonce="n", https=True, keeps_opener=True) == headers


def test_on_https_the_browser_remembers_to_come_by_https_for_two_years():
    assert security_headers(nonce="n", https=True)["Strict-Transport-Security"] == "max-age=63072000"


def test_on_http_there_is_no_hsts():
    assert "Strict-Transport-Security" not in security_headers(nonce="n", https=False)


def test_one_answer_does_not_change_the_next():
    security_headers(nonce="n", https=True)["X-Frame-Options"] = "changed"

    assert security_headers(nonce="n", https=True)["X-Frame-Options"] == "DENY"


def test_an_api_may_set_none_of_these_but_cache_control():
    ours = {name.lower() for name in security_headers(nonce="n", https=True)}

    assert ours - {"cache-control"} == SECURITY_HEADERS
