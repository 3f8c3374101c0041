"""A project is the same wherever its template comes from, and can be updated from it later."""

import os

import pytest

WITHOUT_LINKS = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.symlinks", "GIT_CONFIG_VALUE_0": "false"}


@pytest.fixture
def expected(project, files):
    """What every project with the default answers consists of; only the secrets differ."""
    return {name: content for name, content in files(project).items() if name != ".env"}


def test_a_git_url_gives_the_same_project_as_a_folder(generate, template, files, expected):
    assert files(generate(f"git+file://{template}")).items() >= expected.items()


def test_a_zip_archive_gives_the_same_project_as_a_folder(generate, template, git, tmp_path, files, expected):
    archive = tmp_path / "tornado-bff.zip"
    git("archive", "--prefix=tornado-bff/", f"--output={archive}", "HEAD", cwd=template)

    unpacked = generate(archive)

    assert files(unpacked).items() >= expected.items()
    assert all(os.access(script, os.X_OK) for script in unpacked.glob("scripts/*.sh"))


def test_a_checkout_without_links_gives_the_same_project(template, tool, git, tmp_path, files, expected):
    git("clone", "--quiet", "--config=core.symlinks=false", str(template), "no-links", cwd=tmp_path)

    result = tool("cookiecutter", "no-links", "--no-input")

    assert result.returncode == 0, result.stderr
    assert files(tmp_path / "my-bff").items() >= expected.items()


def test_links_that_dropped_out_of_the_template_are_made_good(own_template, generate, files, expected):
    for link in own_template.glob("{{*}}/*"):
        if link.is_symlink():
            link.unlink()

    assert files(generate(own_template)).items() >= expected.items()


def test_without_links_and_originals_the_message_says_what_to_do(template, tool, tmp_path):
    result = tool("cruft", "create", "--no-input", template, env=WITHOUT_LINKS)

    assert result.returncode != 0
    assert "git clone -c core.symlinks=true" in result.stderr
    assert not (tmp_path / "my-bff").exists()


def test_cruft_makes_the_same_project_and_later_sees_no_difference_in_it(
    template, tool, git, commit, tmp_path, files, expected
):
    tool("cruft", "create", "--no-input", template)
    mine = tmp_path / "my-bff"
    assert files(mine).items() >= expected.items()
    assert files(mine).keys() - expected.keys() == {".env", ".cruft.json"}

    commit(mine)
    git("remote", "add", "origin", "https://git.example.com/my-bff.git", cwd=mine)
    difference = tool("cruft", "diff", "--exit-code", cwd=mine)

    assert (difference.returncode, difference.stdout) == (0, "")


def test_cruft_merges_a_fix_into_a_file_that_the_user_has_changed(own_template, tool, git, commit, tmp_path):
    lines = [f"line {number}\n" for number in range(20)]
    (own_template / "deploy" / "greeting.txt").write_text("".join(lines))
    commit(own_template)
    created = tool("cruft", "create", "--no-input", own_template)
    mine = tmp_path / "my-bff"
    secrets = (mine / ".env").read_bytes()
    (mine / "deploy" / "greeting.txt").write_text("".join(["the user's line\n", *lines[1:]]))
    commit(mine)

    (own_template / "deploy" / "greeting.txt").write_text("".join([*lines[:-1], "the fix\n"]))
    commit(own_template)
    result = tool("cruft", "update", "--skip-apply-ask", cwd=mine)

    assert result.returncode == 0, result.stderr
    assert ["The project is made" in each.stderr for each in (created, result)] == [True, False]
    merged = (mine / "deploy" / "greeting.txt").read_text()
    assert merged == "".join(["the user's line\n", *lines[1:-1], "the fix\n"])
    assert (mine / ".env").read_bytes() == secrets
    changed = git("status", "--porcelain", cwd=mine).split()[1::2]
    assert sorted(changed) == [".cruft.json", "deploy/greeting.txt"]
