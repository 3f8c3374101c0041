"""The demo goes in the steps that app/clients/demo.py names, and the tests that stay are green."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

STEP = re.compile(r"(?ms)^(\d)\. (.*?);$")


def without_lines(file: Path, words: list[str]) -> None:
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not any(word in line for word in words)))


def follow(project: Path, steps: dict[str, str]) -> None:
    files = re.findall(r"[\w/]+\.\w+", steps["1"])
    for name in ["app/clients/demo.py", *files]:
        (project / name).unlink()
    for step in ("2", "3"):
        words = ["todos"] if step == "2" else ["apiClient", "DEMO_API_URL", "import os"]
        assert all(word in steps[step] for word in words)
        for name in re.findall(r"[\w/]+\.\w+", steps[step]):
            without_lines(project / name, words)


def test_the_demo_is_deleted_in_the_steps_that_its_client_names(generate):
    project = generate()
    steps = dict(STEP.findall((project / "app/clients/demo.py").read_text()))

    follow(project, steps)

    for command in ("ruff check --fix .", "ruff format .", "mypy", "pytest -q -p no:cacheprovider"):
        run = (sys.executable, "-m", *command.split())
        done = subprocess.run(run, cwd=project, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
