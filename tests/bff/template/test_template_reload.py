"""In development, a change shows at the next reload of the page: a real process, on a copy of the project."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.bff.subprocesses import ROOT, AppProcess, running_process, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name in ("app", "templates", "static"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dev(project: Path) -> AsyncIterator[AppProcess]:
    in_memory = {"BFF_SESSION_STORE": "memory:"}
    async with running_process("app.bff.dev", project, root=project, ports=3, **in_memory) as dev:
        await dev.says("Stop with Ctrl-C")
        yield dev


async def text_of(dev: AppProcess, url: str) -> str:
    response = await dev.get(url)
    return response.text if response else ""


async def url_in_page(dev: AppProcess, file: str) -> str:
    """The URL that the home page has for a static file; the browser keeps what it got there for good."""
    found = re.search(rf'"(/static/{re.escape(file)}\?v=\w+)"', await text_of(dev, "/"))
    assert found
    return found[1]


def change(file: Path, old: str, new: str) -> Callable[[], None]:
    """Replace a text in a file; return what gives the file another time of modification."""
    before = file.read_text()
    assert old in before
    file.write_text(before.replace(old, new, 1))
    return file.touch


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("css/app.css", ":root {", ":root { --changed: 1;", id="a stylesheet"),
        pytest.param("bff/session.js", "import ", "/* changed */ import ", id="a script of the page"),
    ],
)
async def test_a_static_file_has_another_url_as_soon_as_it_changes(
    dev: AppProcess, project: Path, file: str, old: str, new: str
):
    before = await url_in_page(dev, file)

    change(project / "static" / file, old, new)

    after = await url_in_page(dev, file)
    assert after != before
    assert new in await text_of(dev, after)


async def test_a_script_that_another_one_imports_is_revalidated_each_time(dev: AppProcess, project: Path):
    before = await dev.answers("/static/bff/bff.js")

    change(project / "static/bff/bff.js", "/**", "/* changed *//**")

    assert before.headers["Cache-Control"] == "no-cache"
    assert "changed" in await text_of(dev, "/static/bff/bff.js")


@pytest.mark.parametrize(
    ("template", "old"),
    [
        pytest.param("home.html", "{% block main %}", id="of the page"),
        pytest.param("base.html", '<main id="main" tabindex="-1">', id="that the page extends"),
    ],
)
async def test_a_template_shows_at_once(dev: AppProcess, project: Path, template: str, old: str):
    change(project / "templates" / template, old, f"{old} Changed {template}")

    assert f"Changed {template}" in await text_of(dev, "/")


async def test_python_shows_as_soon_as_the_application_has_restarted(dev: AppProcess, project: Path):
    touch = change(project / "app/handlers/pages.py", '"home.html"', '"home.html", app_name="Renamed"')

    await dev.says("pages.py modified", meanwhile=touch)  # the state that autoreload sees first is no change
    await dev.answers("/", text="Renamed")


async def test_after_a_syntax_error_the_next_change_starts_it_again(dev: AppProcess, project: Path):
    pages = project / "app/handlers/pages.py"
    mistake = change(pages, "class Home", "clas Home")
    await dev.says("It starts again when a file", meanwhile=mistake)

    mended = change(pages, "clas Home", "class Home")

    async def is_back() -> bool:
        response = await dev.get("/")
        if response is None:
            mended()  # again: a change before the watch begins does not count
        return response is not None and response.status_code == 200

    await wait_until(is_back)
