"""BFF_CSP: what may be added to our Content-Security-Policy, and that nothing is taken away."""

from __future__ import annotations

import pytest

from app.bff.settings.csp import csp_additions
from app.bff.web.csp import is_allowed, parsed, widened

PAGE = "default-src 'none'; script-src 'nonce-n'; style-src 'self'; img-src 'self'; base-uri 'none'"
APP = "default-src 'none'; script-src 'self' 'sha256-aaaa='; style-src 'self' 'sha256-bbbb='"
HASH = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"


@pytest.mark.parametrize(
    ("directive", "source"),
    [
        ("font-src", "'self'"),
        ("font-src", "https://fonts.gstatic.com"),
        ("img-src", "data:"),
        ("img-src", "*"),
        ("IMG-SRC", "https://*.tile.example.com"),
        ("connect-src", "wss://live.example.com"),
        ("connect-src", "https:"),
        ("style-src", "'unsafe-inline'"),
        ("style-src", "https://fonts.googleapis.com/css2"),
        ("script-src", "https://cdn.example.com"),
        ("script-src", "cdn.example.com:8443"),
        ("script-src", "https://cdn.example.com/app/"),
        ("script-src", "http://localhost:5173"),
        ("script-src", HASH),
        ("script-src", "'wasm-unsafe-eval'"),
        ("script-src-attr", "'unsafe-hashes'"),
        ("worker-src", "blob:"),
        ("base-uri", "'self'"),
        ("report-uri", "/csp"),
        ("require-trusted-types-for", "'script'"),
        ("unsafe-script-src", "'unsafe-eval'"),
        ("unsafe-script-src", "'unsafe-inline'"),
        ("unsafe-script-src", "*"),
        ("unsafe-base-uri", "https:"),
    ],
)
def test_can_be_added(directive: str, source: str):
    assert csp_additions({directive: [source]}) == {directive.lower().removeprefix("unsafe-"): (source,)}


@pytest.mark.parametrize("directive", ["script-src", "script-src-elem", "script-src-attr", "default-src"])
@pytest.mark.parametrize(
    "source",
    [
        *("'unsafe-inline'", "'UNSAFE-INLINE'", "'unsafe-eval'", "'strict-dynamic'", "'nonce-abc'"),
        *("*", "https:", "http:", "data:", "blob:", "filesystem:", "HTTPS:", "https://*", "https://*:443"),
        *("*.com", "*.example.com", "https://*.example.com", "http://cdn.example.com", "*:*"),
    ],
)
def test_nothing_that_would_let_scripts_in_is_added_unless_its_name_says_so(directive: str, source: str):
    with pytest.raises(ValueError, match=f"write unsafe-{directive}"):
        csp_additions({directive: [source]})
    assert csp_additions({f"unsafe-{directive}": [source]}) == {directive: (source,)}


@pytest.mark.parametrize(
    ("directive", "source"),
    [
        ("object-src", "data:"),
        ("object-src", "*"),
        ("base-uri", "*"),
        ("base-uri", "https:"),
        ("worker-src", "data:"),
        ("child-src", "*"),
    ],
)
def test_nor_where_documents_and_workers_come_from(directive: str, source: str):
    with pytest.raises(ValueError, match="would let any script in"):
        csp_additions({directive: [source]})


@pytest.mark.parametrize(
    ("directive", "source", "why"),
    [
        ("img-source", "data:", "no directive"),
        ("frame-ancestors", "https://portal.example.com", "framed_by_same_site"),
        ("sandbox", "allow-scripts", "no directive"),
        ("unsafe-frame-ancestors", "*", "framed_by_same_site"),
        ("img-src", "self", "in single quotes: 'self'"),
        ("img-src", '"self"', "in single quotes: 'self'"),
        ("script-src", "unsafe-inline", "in single quotes"),
        ("script-src", "sha256-abc=", "in single quotes"),
        ("img-src", "'none'", "can be added only"),
        ("img-src", "none", "can be added only"),
        ("img-src", "data:; script-src *", "not one source"),
        ("img-src", "data:, script-src *", "not one source"),
        ("img-src", "a.example b.example", "not one source"),
        ("img-src", "a.example\nSet-Cookie:x", "not one source"),
        ("img-src", "", "not one source"),
        ("unsafe-script-src", "*; report-uri /x", "not one source"),
        ("img-src", "'unknown'", "is no source"),
        ("img-src", "https://", "is no source"),
    ],
)
def test_a_mistake_is_refused(directive: str, source: str, why: str):
    with pytest.raises(ValueError, match=why):
        csp_additions({directive: [source]})


def test_a_directive_without_sources_is_refused_but_for_one_that_has_none():
    with pytest.raises(ValueError, match="no sources"):
        csp_additions({"img-src": []})
    assert csp_additions({"upgrade-insecure-requests": []}) == {"upgrade-insecure-requests": ()}


@pytest.mark.parametrize(
    ("policy", "added", "directive", "sources"),
    [
        (PAGE, {"img-src": ["data:"]}, "img-src", ["'self'", "data:"]),
        (PAGE, {"font-src": ["'self'"]}, "font-src", ["'self'"]),
        (PAGE, {"base-uri": ["'self'"]}, "base-uri", ["'self'"]),
        (PAGE, {"style-src-elem": ["https://a.example"]}, "style-src-elem", ["'self'", "https://a.example"]),
        (
            PAGE,
            {"script-src-elem": ["https://a.example"]},
            "script-src-elem",
            ["'nonce-n'", "https://a.example"],
        ),
        (PAGE, {"worker-src": ["blob:"]}, "worker-src", ["'nonce-n'", "blob:"]),
        (PAGE, {"default-src": ["'self'"], "font-src": ["data:"]}, "font-src", ["'self'", "data:"]),
        (PAGE, {"script-src": ["'unsafe-inline'"]}, "script-src", ["'self'", "'unsafe-inline'"]),
        (APP, {"style-src": ["'unsafe-inline'"]}, "style-src", ["'self'", "'unsafe-inline'"]),
        (APP, {"script-src": ["'self'"]}, "script-src", ["'self'", "'sha256-aaaa='"]),
    ],
)
def test_what_is_added_takes_nothing_away(policy, added, directive, sources):
    result = parsed(widened(policy, added))

    assert result[directive] == sources
    assert set(parsed(policy)) <= set(result)


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ("https://cdn.example.com", True),
        ("cdn.example.com", True),
        ("HTTPS://CDN.example.com", True),
        ("https:", True),
        ("*.example.com", True),
        ("https://*.example.com", True),
        ("*", True),
        ("https://cdn.example.com/app/", True),
        ("https://cdn.example.com/app/x.js", True),
        ("https://cdn.example.com:*", True),
        ("http://cdn.example.com", False),
        ("https://other.example.com", False),
        ("example.com", False),
        ("*.cdn.example.com", False),
        ("https://cdn.example.com/other/", False),
        ("https://cdn.example.com/app", False),
        ("https://cdn.example.com:8443", False),
        ("'self'", False),
        ("http:", False),
    ],
)
def test_whether_a_policy_allows_what_is_loaded_from_elsewhere(allowed: str, expected: bool):
    for directive in ("img-src", "default-src"):
        assert is_allowed({directive: [allowed]}, "img-src", "https://cdn.example.com/app/x.js") is expected
