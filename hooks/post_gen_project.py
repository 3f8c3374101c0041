"""Finishes a project in its new folder. `cruft update` runs this too: offline, and harmless when repeated."""

import base64
import html
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# JSON, here in ASCII, never has three quotes in a row: no answer can break out of this literal.
ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")

COPIES = [Path(name) for name in ANSWERS["_copy_without_render"] if "*" not in name]
CACHES = ("__pycache__", "*.egg-info", ".pytest_cache", ".mypy_cache", ".ruff_cache", "node_modules")
# These test and measure the template; in a project they have nothing to do.
TEMPLATE_ONLY = [
    Path("tests/bff"),
    Path("scripts/bench.sh"),
    Path("scripts/faults.sh"),
    Path("scripts/soak.sh"),
]
# What a project with another front end than pages has instead of these, or beside them, lies in overlays/.
OVERLAYS = Path("overlays")
PAGES = ("templates/*.html", "static/js", "app/handlers/pages.py", "tests/test_pages.py")
MOVED = {"static/css": "frontend/src", "static/images": "frontend/public"}
NO_LINKS = """\
The template came without its links, and what they stand for cannot be found: {}.
Get the template again
  - with links:     git clone -c core.symlinks=true ...
  - as an archive:  cookiecutter <template>.zip
  - or give cookiecutter the absolute path of the checkout."""


def replace_link_texts():
    """Copy what a link stands for, where zip or git could not make it and left `../app` in a file."""
    missing = [path for path in COPIES if is_link_text(path) or not path.exists()]
    # An absolute _repo_dir stays as it is; a relative one is meant from where cookiecutter was started.
    source = Path(ANSWERS.get("_output_dir", ""), ANSWERS.get("_repo_dir", ""))
    if missing and not (source / "cookiecutter.json").is_file():
        sys.exit(NO_LINKS.format(", ".join(map(str, missing))))
    for path in missing:
        path.unlink(missing_ok=True)
        original = source / path
        (shutil.copytree if original.is_dir() else shutil.copy)(original, path)


def is_link_text(path):
    """Whether this is the text that stands in a link, instead of what the link leads to."""
    return path.is_file() and path.stat().st_size < 100 and path.read_bytes().startswith(b"../")


def remove_template_only_files():
    """Remove the caches of a working checkout, and what the template alone needs."""
    for pattern in CACHES:
        in_folders = [found for path in COPIES for found in path.rglob(pattern)]
        for found in [*Path().glob(pattern), *in_folders]:
            shutil.rmtree(found, ignore_errors=True)
    for path in TEMPLATE_ONLY:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def choose_frontend():
    """Put the chosen front end in the place of the pages; they share a stylesheet and images."""
    if ANSWERS["frontend"] != "pages":
        for path in [found for pattern in PAGES for found in Path().glob(pattern)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(OVERLAYS / ANSWERS["frontend"], ".", dirs_exist_ok=True)
        for source, target in MOVED.items():
            shutil.copytree(source, target, dirs_exist_ok=True)
            shutil.rmtree(source)
        shutil.copy("static/favicon.ico", "frontend/public")  # of the development server
        index = Path("frontend/index.html")
        text = index.read_text(encoding="utf-8").replace("My BFF", html.escape(ANSWERS["project_name"]))
        index.write_text(text, encoding="utf-8", newline="\n")
    shutil.rmtree(OVERLAYS)


def name_the_cookie():
    """nginx recognizes a session by its cookie, whose name is the project's."""
    conf = Path("deploy/nginx.conf")
    text = conf.read_text(encoding="utf-8")
    named = text.replace("default __Host-bff;", f"default __Host-{ANSWERS['project_slug'][:64]};")
    conf.write_text(named, encoding="utf-8", newline="\n")


def refuse_the_name_of_a_requirement():
    """pip cannot install a project that requires another one of the same name."""
    for requirements in Path("requirements").glob("*.txt"):
        names = re.findall(r"^[A-Za-z0-9._-]+", requirements.read_text(encoding="utf-8"), re.MULTILINE)
        if Path.cwd().name.replace("_", "-") in names:
            sys.exit(f"Choose another project_slug: {Path.cwd().name} is a package in {requirements}")


def make_scripts_executable():
    """A zip archive loses the run bits."""
    for script in Path("scripts").glob("*.sh"):
        script.chmod(0o755)


def make_env():
    """Write .env, for its owner alone, with a key that no other project has. An existing one stays."""
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    example = Path(".env.example").read_text(encoding="utf-8")
    try:
        descriptor = os.open(".env", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with open(descriptor, "w", encoding="utf-8", newline="\n") as env:
        env.write(example.replace("# BFF_ENCRYPTION_KEYS=", f"BFF_ENCRYPTION_KEYS={key}"))


def make_git_repository():
    """Unless there is no git, or the project stands inside a repository already."""
    git = shutil.which("git")
    if git and subprocess.run([git, "rev-parse", "--git-dir"], capture_output=True, check=False).returncode:
        subprocess.run([git, "init", "--quiet"], check=False)


def is_update():
    """Whether this is `cruft update` or `cruft diff`: they compare projects made in a temporary folder."""
    parent = Path.cwd().parent
    return parent.name.startswith("tmp") and parent.parent == Path(tempfile.gettempdir()).resolve()


def print_next_steps():
    """Print the way to a signed-in page; on stderr, because `cruft diff` writes a patch to stdout."""
    steps = [f"cd {Path.cwd().name}"]
    if ANSWERS["issuer"] != "development provider":
        steps += ["(fill in BFF_CLIENT_ID and BFF_CLIENT_SECRET in .env)"]
    steps += ["scripts/dev.sh     starts the application", "scripts/test.sh    checks and tests it"]
    steps += ["docs/bff/README.md is the manual, and begins with a tutorial"]
    print("\n  ".join(["\nThe project is made. Next:\n", *steps]), file=sys.stderr)


replace_link_texts()
refuse_the_name_of_a_requirement()
remove_template_only_files()
choose_frontend()
name_the_cookie()
make_scripts_executable()
make_env()
make_git_repository()
if not is_update():
    print_next_steps()
