"""Whatever is answered, there is a working project or a clear refusal, never something in between."""

import tomllib

import pytest
from cookiecutter.exceptions import FailedHookException
from dotenv import dotenv_values
from jinja2 import TemplateSyntaxError

HUMAN = [
    "O'Brien",
    'the "best"',
    "Zoë",
    "a\\b",
    "ends with \\",
    '"""',
    "'''",
    "🦀 & <co>",
    "50 % {off}",
    "\\u0041 $HOME",
]


@pytest.mark.parametrize("text", HUMAN)
def test_what_people_write_arrives_letter_by_letter(text, generate):
    project = generate(project_slug="my-bff", project_name=text, description=text, author=text)

    pyproject = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    assert pyproject["project"]["authors"] == [{"name": text}]
    assert pyproject["project"]["description"] == text
    assert pyproject["tool"]["bff"]["name"] == text
    assert (project / "README.md").read_text(encoding="utf-8").startswith(f"# {text}\n\n{text}\n")
    assert f"(c) {text}\n" in (project / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("two\nlines", id="a newline"),
        pytest.param("a\x7fb", id="a control character that JSON allows and TOML does not"),
        pytest.param("a\u2028b", id="a line separator"),
        pytest.param("a\ud83db", id="half an emoji"),
        pytest.param(" ", id="nothing"),
        pytest.param("{{ 7*7 }}", id="an expression that cookiecutter would calculate"),
        pytest.param("a{# b #}", id="a comment that cookiecutter would drop"),
        pytest.param("{% raw %}", id="an expression without an end"),
        pytest.param("{% raw %}{{{% endraw %}", id="an expression behind an expression"),
    ],
)
def test_a_text_is_refused_when_it_is(text, generate, tmp_path, capfd):
    questions = ["project_name", "description", "author", "issuer"]

    with pytest.raises(FailedHookException):
        generate(project_slug="my-bff", **dict.fromkeys(questions, text))

    refusal = capfd.readouterr().err
    assert [question for question in questions if f"  - {question} " not in refusal] == []
    assert not (tmp_path / "projects" / "my-bff").exists()


def test_half_an_expression_stops_cookiecutter_before_anything_is_made(generate, tmp_path):
    with pytest.raises(TemplateSyntaxError):
        generate(author="{{")

    assert not (tmp_path / "projects").exists()


def test_a_typed_expression_is_refused_because_the_next_update_would_calculate_it(template, tool, tmp_path):
    result = tool("cookiecutter", template, input="\n\n\n{{ 7*7 }}\n\n\n\n\n")

    assert result.returncode != 0
    assert "  - author " in result.stderr
    assert not (tmp_path / "my-bff").exists()


@pytest.mark.parametrize(
    "slug",
    [
        "My-BFF",
        "2nd",
        "my bff",
        "my.bff",
        "bff-",
        "-bff",
        "zoë",
        "it's",
        "class",
        "json",
        "app",
        "tests",
        "tornado",
    ],
)
def test_a_slug_is_refused_when_it_is(slug, generate, tmp_path, capfd):
    with pytest.raises(FailedHookException):
        generate(project_slug=slug)

    assert "project_slug" in capfd.readouterr().err
    assert not (tmp_path / "projects" / slug).exists()


@pytest.mark.parametrize(
    ("name", "slug"), [("My BFF", "my-bff"), ("Zoë's 2nd App_", "zoe-s-2nd-app"), ("日本", "ri-ben")]
)
def test_the_slug_follows_from_the_name(name, slug, generate):
    assert generate(project_name=name).name == slug


@pytest.mark.parametrize(
    "issuer",
    [
        "login.example.com",
        "http://login.example.com",
        "http://127.0.0.1.example.com",
        "https://",
        "https://user:password@login.example.com",
        "https://login.example.com:99999",
        "https://login.example.com/?tenant=1",
        "https://login.example.com/#top",
        "https://login.example.com/'\"",
        "https://login.example.com/$HOME",
    ],
)
def test_an_issuer_is_refused_when_it_is(issuer, generate, capfd):
    with pytest.raises(FailedHookException):
        generate(issuer=issuer)

    assert "  - issuer must " in capfd.readouterr().err


@pytest.mark.parametrize(
    "issuer",
    [
        "https://login.example.com",
        "https://login.example.com:8443/realms/My%20Realm/v2.0/",
        "http://[::1]:8081/realms/a",
    ],
)
def test_a_real_issuer_stands_in_env(issuer, generate):
    project = generate(issuer=issuer, mongodb_driver="pymongo")

    expected = {"BFF_ISSUER": issuer, "BFF_MONGODB_DRIVER": "pymongo"}
    assert dotenv_values(project / ".env.example") == expected
    assert dotenv_values(project / ".env").items() > expected.items()


def test_all_mistakes_are_named_at_once(generate, capfd):
    with pytest.raises(FailedHookException):
        generate(project_slug="2 Nd", author="two\nlines", issuer="nowhere")

    mistakes = [line.split()[1] for line in capfd.readouterr().err.splitlines() if line.startswith("  - ")]
    assert mistakes == ["author", "project_slug", "issuer"]
