"""Refuses answers that no working project can be made of, and names all of them at once."""

import ipaddress
import json
import keyword
import re
import sys
import unicodedata
from urllib.parse import urlsplit

# JSON, here in ASCII, never has three quotes in a row: no answer can break out of this literal.
ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")
# What was given, before cookiecutter rendered it as a template. cruft does not hand it on.
GIVEN = json.loads(r"""{{ _cookiecutter | default({}) | tojson }}""")

ONE_LINE = ("project_name", "description", "author", "issuer")
DEVELOPMENT_PROVIDER = "development provider"

# This file is a template too: the order inside [] keeps it free of template syntax.
TEMPLATE_SYNTAX = re.compile(r"\{[#%{]")
SLUG = re.compile(r"[a-z]([a-z0-9_-]*[a-z0-9])?")
# Only characters that mean nothing special in .env or to a shell. No query, no fragment: OpenID Connect
# Discovery 1.0, section 3.
ISSUER = re.compile(
    r"https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
    r"(/[A-Za-z0-9._~%+,=:@/-]*)?"
)


def text_mistakes(question):
    """Every text is one visible line, and means the same when it is rendered again (`cruft update` does)."""
    answer = str(ANSWERS[question] or "")
    if not answer.strip():
        yield f"{question} is empty"
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in answer):
        yield f"{question} has a line break or another control character: {answer!a}"
    for text in (answer, str(GIVEN.get(question, ""))):
        if TEMPLATE_SYNTAX.search(text):
            yield f"{question} has two characters in a row that begin a template expression: {text!a}"


def slug_mistakes(slug):
    """The slug becomes a folder and the name of a distribution."""
    if not SLUG.fullmatch(slug):
        yield (
            f"project_slug {slug!a} must begin with a lowercase letter, go on with lowercase letters, "
            "digits, - and _, and end with a letter or digit"
        )
    if keyword.iskeyword(slug) or slug in sys.stdlib_module_names or slug in ("app", "tests"):
        yield f"project_slug {slug!a} is the name of something in Python or in the project itself"


def issuer_mistakes(issuer):
    """An issuer is an https URL; http is good enough on the same machine."""
    if issuer == DEVELOPMENT_PROVIDER:
        return
    if not is_plain_url(issuer):
        yield f"issuer must be a URL like https://example.com/path, or {DEVELOPMENT_PROVIDER}: {issuer!a}"
    elif issuer.startswith("http:") and not is_loopback(urlsplit(issuer).hostname):
        yield f"issuer must begin with https:// (http:// is for this machine alone): {issuer!a}"


def is_plain_url(url):
    """Whether this is an http(s) URL that can stand in .env as it is."""
    try:
        return ISSUER.fullmatch(url) is not None and urlsplit(url).port != 0
    except ValueError:
        return False


def is_loopback(host):
    """Whether what is sent to this host stays on this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def main():
    """Exit with 1 and the list of mistakes, if there are any."""
    mistakes = [mistake for question in ONE_LINE for mistake in text_mistakes(question)]
    mistakes += slug_mistakes(str(ANSWERS["project_slug"]))
    mistakes += issuer_mistakes(str(ANSWERS["issuer"]))
    if mistakes:
        sys.exit("\n  - ".join(["No project was made, because", *dict.fromkeys(mistakes)]))


main()
