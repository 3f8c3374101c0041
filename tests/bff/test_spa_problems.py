"""What the Content-Security-Policy of a build is made of, and what in the build it would block."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from app.bff.doctor.spa import SpaProbe, check_spa, probe_spa
from app.bff.settings.csp import csp_additions
from app.bff.spa.document import hash_of, read_document
from app.bff.spa.folder import Build
from app.bff.spa.problems import Problem, problems_of
from app.bff.spa.routing import log_problems
from app.bff.web.csp import parsed
from tests.bff.harness import make_settings
from tests.bff.spa_table import copy_of_build
from tests.bff.subprocesses import app_settings, running_process

EMPTY = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
FILES = {"main.js", "assets/app.js", "style.css"}


def scripts(html: str) -> list[str]:
    return parsed(read_document(html).policy(None))["script-src"][1:]


def styles(html: str) -> list[str]:
    return parsed(read_document(html).policy(None))["style-src"][1:]


@pytest.mark.parametrize(
    ("html", "texts"),
    [
        ("<script>a()</script>", ["a()"]),
        ("<SCRIPT TYPE=Module>a()</SCRIPT>", ["a()"]),
        ("<script type=text/javascript>a()</script>", ["a()"]),
        ("<script type=importmap>{}</script>", ["{}"]),
        ("<script type=speculationrules>{}</script>", ["{}"]),
        ("<script nomodule>a()</script><script>b()</script>", ["a()", "b()"]),
        ("<script>\n  a('<b>&amp;</b>')\n</script>", ["\n  a('<b>&amp;</b>')\n"]),
        ("<script>a()\r\nb()\rc()</script>", ["a()\nb()\nc()"]),
        ("<script>é</script>", ["é"]),
        ("<script></script>", [""]),
        ("<body><script>a()</script></body>", ["a()"]),
        ("<script src=/a.js>ignored()</script>", []),
        ("<script type=application/json>{}</script>", []),
        ("<script type=text/template><b></b></script>", []),
        ("<!-- <script>a()</script> -->", []),
        ("<p>script</p>", []),
    ],
)
def test_exactly_the_inline_scripts_may_run(html: str, texts: list[str]):
    assert scripts(html) == [hash_of(text) for text in texts]


def test_exactly_the_inline_styles_count():
    html = "<style>a{}</style><style media=print>\nb{}</style><noscript><style>c{}</style></noscript>"

    assert styles(html) == [hash_of("a{}"), hash_of("\nb{}"), hash_of("c{}")]


def test_a_hash_is_written_as_browsers_compute_it():
    assert hash_of("") == EMPTY


@pytest.mark.parametrize(
    ("html", "base"), [("<base href=/>", "'self'"), ("<p>", "'none'"), ("<base target=_top>", "'none'")]
)
def test_a_base_is_allowed_where_the_document_has_one(html: str, base: str):
    assert parsed(read_document(html).policy(None))["base-uri"] == [base]


def test_a_silent_login_may_navigate_through_the_login_page():
    policy = parsed(read_document("").policy("https://login.example.com/authorize"))

    assert policy["frame-src"] == ["'self'", "https://login.example.com"]


def found(html: str = "", added: dict[str, Any] | None = None, **texts: str) -> list[Problem]:
    files = {"index.html": html, **{name.replace("_", "."): text for name, text in texts.items()}}
    return problems_of(files, FILES | set(files), csp_additions(added or {}))


def hashed(text: str) -> list[str]:
    return ["'unsafe-hashes'", hash_of(text)]


CDN = "https://cdn.example.com"
HANDLER = "this.media='all'"
PROBLEMS: list[tuple[dict[str, str], str, dict[str, list[str]]]] = [
    ({"html": '<body onload="go()">'}, "event handler onload", {"script-src-attr": hashed("go()")}),
    ({"html": f'<link onload="{HANDLER}">'}, "onload", {"script-src-attr": hashed(HANDLER)}),
    ({"html": '<p style="color: red">'}, "style=", {"style-src-attr": hashed("color: red")}),
    ({"html": "<a href='java\nscript:go()'>"}, "the URL", {"unsafe-script-src": ["'unsafe-inline'"]}),
    ({"html": f"<script src={CDN}/a.js></script>"}, "<script>", {"script-src": [CDN]}),
    ({"html": "<script src=//cdn.example.com/a.js></script>"}, "<script>", {"script-src": [CDN]}),
    ({"html": "<script src=http://a.example/a.js></script>"}, "<script>", {"unsafe-script-src": ["http://a.example"]}),
    ({"html": "<link rel=stylesheet href=https://a.example/x.css>"}, "<link>", {"style-src": ["https://a.example"]}),
    ({"html": "<link rel=modulepreload href=https://a.example/x.js>"}, "<link>", {"script-src": ["https://a.example"]}),
    ({"html": "<link rel=preload as=font href=https://a.example/x.woff2>"}, "<link>", {"font-src": ["https://a.example"]}),
    ({"html": "<link rel=icon href=https://a.example/x.ico>"}, "<link>", {"img-src": ["https://a.example"]}),
    ({"html": "<img src=https://a.example:8443/x.png>"}, "<img>", {"img-src": ["https://a.example:8443"]}),
    ({"html": "<img srcset='/a.png 1x, https://a.example/b.png 2x'>"}, "<img>", {"img-src": ["https://a.example"]}),
    ({"html": "<iframe src=https://a.example/>"}, "<iframe>", {"frame-src": ["https://a.example"]}),
    ({"html": "<form action=https://a.example/>"}, "<form>", {"form-action": ["https://a.example"]}),
    ({"html": "<object data=https://a.example/>"}, "<object>", {"object-src": ["https://a.example"]}),
    ({"html": "<base href=https://a.example/>"}, "<base", {"base-uri": ["https://a.example"]}),
    ({"html": "<script>eval('1')</script>"}, "eval(", {"unsafe-script-src": ["'unsafe-eval'"]}),
    ({"main_js": "x=new Function('return 1')"}, "new Function(", {"unsafe-script-src": ["'unsafe-eval'"]}),
    ({"main_js": "(0, eval)(x)"}, "(0, eval)(", {"unsafe-script-src": ["'unsafe-eval'"]}),
    ({"main_js": "import'data:text/javascript,1'"}, "data: URL", {"unsafe-script-src": ["data:"]}),
    ({"main_js": "new Worker(URL.createObjectURL(b))"}, "worker", {"worker-src": ["blob:"]}),
    ({"main_js": "s.setAttribute('ng-app-id','ng')"}, "Angular inserts", {"style-src": ["'unsafe-inline'"]}),
    ({"main_js": "`Couldn't find a style target.`"}, "style-loader", {"style-src": ["'unsafe-inline'"]}),
    ({"style_css": "@font-face{src:url(https://a.example/x.woff2)}"}, "https://a", {"font-src": ["https://a.example"]}),
    ({"style_css": "a{background:url('//a.example/x.png')}"}, "//a", {"img-src": ["https://a.example"]}),
    ({"style_css": "@import url(https://a.example/x.css);"}, "https://a", {"style-src": ["https://a.example"]}),
    ({"style_css": "@import 'https://a.example/x.css';"}, "https://a", {"style-src": ["https://a.example"]}),
    ({"x_wasm": ""}, "WebAssembly", {"script-src": ["'wasm-unsafe-eval'"]}),
]  # fmt: skip


@pytest.mark.parametrize(("files", "what", "setting"), PROBLEMS, ids=lambda value: str(value)[:60])
def test_what_the_policy_blocks_is_named_with_the_setting_that_allows_it(files, what, setting):
    [problem] = found(**files)

    assert what in problem.what
    assert json.dumps(setting) in problem.advice
    assert found(**files, added=setting) == []


@pytest.mark.parametrize(
    "files",
    [
        {"html": "<script src=/main.js></script><link rel=stylesheet href=/style.css>"},
        {"html": "<base href=/><script src=main.js></script>"},
        {"html": "<script src=/static/bff/bff.js></script><link rel=preconnect href=https://a.example>"},
        {"html": "<img src=data:image/png;base64,x><a href=https://a.example>x</a><p data-on='x'>"},
        {"html": "<noscript><img src=https://a.example/pixel></noscript><!-- <p onclick=x> -->"},
        {
            "main_js": "medieval(x); a.eval(x); Function('return this')(); function evaluate(){}; 'http://www.w3.org'"
        },
        {"main_js": "new Worker(new URL('./w.js', import.meta.url)); import('./x.js')"},
        {"style_css": "a{background:url(/x.png)} @font-face{src:url(data:font/woff2,x)} @import './b.css';"},
    ],
    ids=str,
)
def test_what_works_is_not_named(files: dict[str, str]):
    assert found(**files) == []


@pytest.mark.parametrize("url", ["main.js", "./main.js", "assets/app.js", "/app/main.js", "/gone.js"])
def test_a_script_that_a_deep_link_would_not_find_is_named(url: str):
    [problem] = found(f"<script type=module src={url}></script>")

    assert url in problem.what
    assert "be `/`" in problem.advice


def test_google_fonts_need_two_origins_and_critical_css_of_angular_a_switch():
    [fonts] = found("<link rel=stylesheet href='https://fonts.googleapis.com/css2?family=Roboto'>")
    [critical] = found(f'<link rel=stylesheet href=/style.css media=print onload="{HANDLER}">')

    assert '"font-src": ["https://fonts.gstatic.com"]' in fonts.advice
    assert "inlineCritical" in critical.advice


def test_the_log_says_at_the_start_what_will_not_work(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "index.html").write_text("<body onload=go()>")

    log_problems(make_settings(spa=str(tmp_path)))

    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.WARNING, "build does not work as it is")
    assert vars(record)["file"] == "index.html"
    assert "BFF_CSP" in vars(record)["advice"]


async def test_so_does_that_of_the_process(tmp_path: Path):
    (tmp_path / "build").mkdir()
    (tmp_path / "build/index.html").write_text("<body onload=go()>")
    settings = app_settings(BFF_SPA="build")

    async with running_process("tests.bff.application", tmp_path, **settings) as app:
        await app.says("build does not work as it is")


def test_doctor_says_it_too(tmp_path: Path):
    settings = make_settings(spa=str(copy_of_build(tmp_path)))
    probe = probe_spa(settings)
    levels = [finding.level for finding in check_spa(probe, settings)]

    assert probe is not None
    assert [problem.what for problem in probe.problems] == ["WebAssembly"]
    assert levels == ["warning", "info"]


@pytest.mark.parametrize(
    ("probe", "changed", "levels"),
    [
        (None, {}, []),
        (SpaProbe(3, 0, []), {}, ["ok"]),
        (SpaProbe(3, 1, []), {}, ["ok", "info"]),
        (None, {"spa": "http://localhost:5173", "debug": True}, ["info"]),
        (None, {"csp": '{"unsafe-script-src": ["\'unsafe-inline\'"]}'}, ["warning"]),
    ],
)
def test_doctor_finds(probe: SpaProbe | None, changed: dict[str, Any], levels: list[str]):
    assert [finding.level for finding in check_spa(probe, make_settings(**changed))] == levels


def test_the_files_of_a_build_are_those_that_may_be_sent(tmp_path: Path):
    names = Build(copy_of_build(tmp_path)).names()

    assert {"index.html", "assets/index-BfN3kZ9x.js", ".well-known/assetlinks.json", "numbers.txt"} <= set(
        names
    )
    assert not [name for name in names if name.startswith((".env", ".git")) or "outside" in name]
