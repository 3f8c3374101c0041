"""A project with the React front end: what it consists of, and that its own checks accept it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from shutil import copy

import pytest

from tests.bff.subprocesses import ROOT

TSC = ROOT / ".venv/react/frontend/node_modules/.bin/tsc"
STRICT = ["--strict", "--noEmit", "--target", "es2023", "--module", "esnext", "--moduleResolution", "bundler"]
LIBRARIES = ["--lib", "es2023,dom,dom.iterable"]
PACKAGE = ("bff.js", "bff.d.ts", "spa.js", "spa.d.ts")
NODE = re.compile(r"\b(?:npm|Node|React)\b|frontend/")

# What an application writes that uses the package: a line with "error" is one that the types must refuse.
USES = """
import { api, jsonOf, login, logout, on, user, type ProblemError, type StandardClaims } from "./bff.js";
import { session } from "./spa.js";

interface Order { id: number }

const me = await user();
const name: string | undefined = me?.name;
const seconds: number | undefined = me?.["bff:session_expires_in"];
const other: unknown = me?.["https://example.com/tenant"];

const mine = await user<{ roles: string[] }>({ slide: false });
const roles: string[] = mine?.roles ?? [];
mine?.rolls; // error
mine?.roles.toFixed(); // error
const both = await user<StandardClaims & { roles: string[] }>();
both?.email?.length;

const orders: Order[] = await jsonOf(await api.fetch<Order[]>("/orders", { method: "POST" }));
const order: Order = await (await api.fetch<Order>("/orders/1")).clone().json();
const wrong: string = await jsonOf(await api.fetch<Order>("/orders/1")); // error
api.fetch(1); // error
await jsonOf(await fetch("/orders"));

on("ending", ({ detail }) => detail.expires_in.toFixed());
on("changed", () => user());
const stop: () => void = on("ended", ({ detail }) => detail.reason === "expired");
on("ending", ({ detail }) => detail.reason); // error
on("started", () => {}); // error

login("/orders", { prompt: "login", max_age: 60 });
logout("/bye").catch(({ code, request_id }: ProblemError) => code === request_id);
const unsubscribe: () => void = session.subscribe(() => session.get().user?.sub);
"""


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int]]:
    """What the compiler complains of: the file and the line."""
    folder = tmp_path_factory.mktemp("package")
    same = []
    for name in PACKAGE:
        copy(ROOT / "static/bff" / name, folder)
    for name in ("bff", "spa"):
        copy(ROOT / f"static/bff/{name}.js", folder / f"{name}_code.js")  # beside no .d.ts
        same += [
            f'import * as {name} from "./{name}.js";',
            f'import * as {name}Code from "./{name}_code.js";',
        ]
        same += [f"export const {name}Typed: typeof {name} = {name}Code;"]
    (folder / "same.ts").write_text("\n".join(same))
    (folder / "uses.ts").write_text(USES)
    command = [str(TSC), *STRICT, *LIBRARIES, "--allowJs", "same.ts", "uses.ts"]
    said = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True).stdout
    return [(file, int(line)) for file, line in re.findall(r"(?m)^([\w.]+)\((\d+),", said)]


def test_the_types_fit_what_an_application_writes_and_refuse_mistakes(complaints: list[tuple[str, int]]):
    refused = {line for file, line in complaints if file == "uses.ts"}

    assert refused == {number for number, line in enumerate(USES.splitlines(), 1) if "// error" in line}


def test_the_types_are_those_of_the_code(complaints: list[tuple[str, int]]):
    assert [line for file, line in complaints if file != "uses.ts"] == []


def test_a_project_with_pages_has_no_trace_of_npm(project: Path, files):
    names = files(project)

    found = {name for name in names if re.search(r"package|\.tsx?$|^frontend|^overlays|npm", name)}
    assert found == {"static/bff/bff.d.ts", "static/bff/spa.d.ts"}
    assert NODE.findall((project / "README.md").read_text()) == []


def test_a_project_with_react_has_no_pages_and_says_what_it_needs(react_project: Path, files):
    names = files(react_project)

    pages = r"^templates/(?!bff/)|^static/(css|js|images)/|handlers/pages|^overlays"
    assert [name for name in names if re.search(pages, name)] == []
    assert "Node.js" in (react_project / "README.md").read_text()


def test_the_title_is_the_name_of_the_project(generate):
    project = generate(frontend="react", project_slug="my-bff", project_name='Zoë\'s <b> & "co"')

    index = (project / "frontend/index.html").read_text(encoding="utf-8")
    assert "<title>Zoë&#x27;s &lt;b&gt; &amp; &quot;co&quot;</title>" in index


def test_the_lock_file_has_hashes_and_no_url_and_every_version_is_exact(react_project: Path):
    frontend = react_project / "frontend"
    lock = (frontend / "package-lock.json").read_text()
    package = json.loads((frontend / "package.json").read_text())
    locked = json.loads(lock)["packages"]

    assert "://" not in lock
    assert {
        name for name, entry in locked.items() if "node_modules/" in name and "integrity" not in entry
    } == {"node_modules/tornado-bff"}
    versions = {**package["dependencies"], **package["devDependencies"]}
    assert versions.pop("tornado-bff") == "file:../static/bff"
    assert {name: locked[f"node_modules/{name}"]["version"] for name in versions} == versions


def test_npm_packs_the_package_with_its_types(react_project: Path):
    command = ["npm", "pack", "--dry-run", "--json"]
    packed = subprocess.run(command, cwd=react_project / "static/bff", check=True, capture_output=True)

    [found] = json.loads(packed.stdout)
    assert {file["path"] for file in found["files"]} == {*PACKAGE, "package.json"}


def test_its_own_linter_types_tests_and_build_accept_the_front_end(react_project: Path):
    for file in (ROOT / "tests/bff/react").iterdir():  # tests of the engine, which a project has not
        copy(file, react_project / "frontend/src/bff")
    command = [sys.executable, "-m", "app.bff.dev.frontend"]
    result = subprocess.run(command, cwd=react_project, check=False, capture_output=True, text=True)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 passed" in re.sub(r"\x1b\[\d+m", "", result.stdout)  # files of tests
    assets = react_project / "frontend/dist/assets"
    assert {path.name.split(".", 1)[1] for path in assets.glob("index-*.js*")} == {"js", "js.br", "js.gz"}


def test_its_own_python_is_linted_typed_and_tested(react_project: Path):
    for arguments in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"], ["pytest", "-q"]):
        command = [sys.executable, "-m", *arguments]
        result = subprocess.run(command, cwd=react_project, check=False, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
