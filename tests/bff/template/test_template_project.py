"""What is in a generated project: the root of the repository, apart from a few rendered files."""

import base64
import os
import re
import tomllib

import pytest
from dotenv import dotenv_values

TEMPLATE_ONLY = (
    "screenshot.png",
    "cookiecutter.json",
    "hooks/",
    "{{cookiecutter.project_slug}}/",
    "tests/bff/",
    "bench/",
    "overlays/",
    "scripts/bench.sh",
    "scripts/faults.sh",
    "scripts/soak.sh",
    ".ci/",
    "SECURITY.md",
)
WORKFLOW = ".github/workflows/test.yml"
# For a repository of its own; the template's has a CI of its own and is not deployed.
PROJECT_ONLY = {
    ".devcontainer/devcontainer.json",
    ".dockerignore",
    ".editorconfig",
    ".github/dependabot.yml",
    ".pre-commit-config.yaml",
    "Dockerfile",
    "compose.yaml",
    WORKFLOW,
}
RENDERED = {".env.example", "LICENSE", "README.md", "pyproject.toml", "deploy/nginx.conf"}


def project_facts(pyproject):
    """Take out of a pyproject.toml what differs between two projects, and hand it over."""
    facts = {key: pyproject["project"].pop(key) for key in ("name", "description", "authors", "license")}
    return facts | {"bff": pyproject["tool"].pop("bff"), "cruft": pyproject["tool"].pop("cruft", None)}


def test_generated_files_equal_the_root_except_for_the_rendered_ones(project, template, files):
    root = {name: text for name, text in files(template).items() if not name.startswith(TEMPLATE_ONLY)}
    generated = files(project)

    assert generated.keys() - {".env"} == root.keys() | PROJECT_ONLY
    assert {name for name in root if generated[name] != root[name]} <= RENDERED


def test_the_workflow_tests_audits_and_lists_what_is_deployed_with_actions_that_cannot_change(project):
    workflow = (project / WORKFLOW).read_text(encoding="utf-8")

    for command in ("scripts/test.sh", "pip-audit", "cyclonedx-py"):
        assert f"{command}\n" in workflow or f"{command} " in workflow
    actions = re.findall(r"uses: (\S+)", workflow)
    assert actions
    assert [action for action in actions if not re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action)] == []
    assert "permissions:\n  contents: read\n" in workflow


def test_no_template_syntax_survives(project, files):
    syntax = (b"{{ cookiecutter", b"{{cookiecutter", b"cookiecutter.")

    assert [name for name, text in files(project).items() if any(part in text for part in syntax)] == []


def test_pyproject_differs_from_the_root_in_nothing_but_the_facts_of_the_project(generate, template):
    ours = tomllib.loads((generate(author="Zoë") / "pyproject.toml").read_text(encoding="utf-8"))
    roots = tomllib.loads((template / "pyproject.toml").read_text(encoding="utf-8"))

    facts = project_facts(ours)
    project_facts(roots)

    assert ours == roots
    assert [facts["name"], facts["authors"], facts["bff"]] == [
        "my-bff",
        [{"name": "Zoë"}],
        {"name": "My BFF", "cookie_name": "my-bff"},
    ]


@pytest.mark.parametrize("slug", ["my-bff", "shop_2", 70 * "x"])
def test_the_cookie_has_the_name_of_the_project_in_its_settings_and_in_nginx(generate, template, slug):
    project = generate(project_slug=slug)
    facts = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["bff"]
    roots, own = ((folder / "deploy/nginx.conf").read_text() for folder in (template, project))

    assert facts["cookie_name"] == slug[:64]
    assert roots.count("__Host-bff;") == 1
    assert own == roots.replace("__Host-bff;", f"__Host-{slug[:64]};")


def test_no_dependency_list_stands_in_pyproject(project):
    pyproject = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))

    assert not {"dependencies", "optional-dependencies"} & pyproject["project"].keys()
    lists = pyproject["tool"]["setuptools"]["dynamic"]["dependencies"]["file"]
    assert lists == ["requirements/bff.txt", "requirements/app.txt"]
    assert all((project / name).is_file() for name in lists)


def test_the_readme_is_short_and_leads_to_the_manual(generate):
    project = generate(project_name="Bookshop")
    readme = (project / "README.md").read_text(encoding="utf-8")

    assert readme.startswith("# Bookshop\n")
    assert len(readme.splitlines()) <= 12
    assert re.findall(r"\]\((.+?)\)", readme) == ["docs/bff/README.md"]


@pytest.mark.parametrize(
    ("choice", "in_pyproject", "first_line"),
    [
        ("MIT", "MIT", "MIT License"),
        ("BSD-3-Clause", "BSD-3-Clause", "BSD 3-Clause License"),
        ("Proprietary", "LicenseRef-Proprietary", "Copyright (c) Zoë. All rights reserved."),
    ],
)
def test_the_license_is_the_chosen_one(choice, in_pyproject, first_line, generate):
    project = generate(license=choice, author="Zoë")

    text = (project / "LICENSE").read_text(encoding="utf-8")
    assert text.splitlines()[0] == first_line
    assert text.endswith(".\n")
    assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["license"] == in_pyproject


def test_the_root_s_license_and_env_example_are_those_of_a_project(generate, template):
    project = generate(author="The Tornado BFF authors")

    assert (project / "LICENSE").read_text() == (template / "LICENSE").read_text()
    assert (project / ".env.example").read_text() == (template / ".env.example").read_text()


def test_env_has_a_key_of_32_bytes_and_only_its_owner_reads_it(project):
    env = project / ".env"

    assert len(base64.b64decode(dotenv_values(env)["BFF_ENCRYPTION_KEYS"], validate=True)) == 32
    assert env.stat().st_mode & 0o777 == 0o600


def test_two_projects_have_different_keys(project, generate):
    one, other = dotenv_values(project / ".env"), dotenv_values(generate() / ".env")

    assert one["BFF_ENCRYPTION_KEYS"] != other["BFF_ENCRYPTION_KEYS"]


def test_generating_again_keeps_env_and_gives_the_same_project(generate, files):
    once = files(generate())

    assert files(generate(overwrite_if_exists=True)) == once


def test_a_project_is_a_git_repository_in_which_env_is_ignored(generate, commit, git):
    project = generate()

    commit(project)

    assert ".env" not in git("ls-files", cwd=project).splitlines()
    assert ".env.example" in git("ls-files", cwd=project).splitlines()
    assert git("check-ignore", ".env", cwd=project) == ".env\n"


def test_a_project_inside_a_repository_gets_none_of_its_own(generate, git, tmp_path):
    git("init", "--quiet", cwd=tmp_path)

    assert not (generate() / ".git").exists()


def test_scripts_can_be_executed(project):
    scripts = sorted((project / "scripts").glob("*.sh"))

    assert {"dev.sh", "setup.sh", "test.sh"} <= {script.name for script in scripts}
    assert all(os.access(script, os.X_OK) for script in scripts)


def test_caches_in_a_working_checkout_stay_where_they_are(own_template, generate, files):
    (rendered,) = own_template.glob("{{*}}")
    for cache in ("app/__pycache__", "tests/.pytest_cache", "scripts/x.egg-info", rendered / ".ruff_cache"):
        (own_template / cache).mkdir(parents=True)
        (own_template / cache / "leftover").write_bytes(b"no text: \x89")

    assert not [name for name in files(generate(own_template)) if "leftover" in name]


def test_the_next_steps_are_printed(generate, capfd):
    generate(issuer="https://login.example.com")

    printed = capfd.readouterr().err
    assert all(
        step in printed for step in ("cd my-bff", "BFF_CLIENT_ID", "scripts/dev.sh", "scripts/test.sh")
    )
