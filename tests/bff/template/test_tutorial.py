"""Follows docs/bff/tutorial.md: writes its files, applies its edits, runs its commands, reads their output.

A comment before a block says what the block is: `file: PATH` is written, `edit: PATH` is applied to that
file, `background: TEXT` is started and prints TEXT, `replaced …` is not run. A `text` block lists lines that
the command before it prints.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from signal import SIGTERM
from typing import NamedTuple

from app.bff.testing import Browser
from tests.bff.subprocesses import PATIENCE_SECONDS, ROOT, free_ports, wait_until
from tests.bff.template.conftest import configuration
from tests.bff.template.owner import edit

TUTORIAL = (ROOT / "docs/bff/tutorial.md").read_text()
BLOCK = re.compile(r"(?:^<!-- (\w+):? ?([^\n]*?) ?-->\n)?^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Step(NamedTuple):
    kind: str
    value: str
    text: str


def steps(chapter: str) -> Iterator[Step]:
    for kind, value, language, text in BLOCK.findall(chapter):
        yield Step(kind or language, value, text)


def patched(before: str, difference: str) -> str:
    """Apply a difference without line numbers: all but its `+` lines become all but its `-` lines."""
    lines = difference.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] != "+")
    assert before.count(old) == 1, f"not once in the file: {old}"
    return before.replace(old, "".join(line[1:] for line in lines if line[0] != "-"))


class Reader:
    """Does what the tutorial says, on ports of its own, in this repository's virtual environment."""

    def __init__(self, folder: Path, template: Path, running: AsyncExitStack) -> None:
        self.folder = folder
        self._running = running
        self._command = self._printed = ""
        self._edited: list[Path] = []
        port, self._deployed = free_ports(3), free_ports()
        self.url = f"http://localhost:{port}"
        self._others = {
            "8888": str(port),
            "8895": str(free_ports()),
            "https://login.example.com": f"http://127.0.0.1:{port + 1}",
            "https://bookshop.example.com": f"http://localhost:{self._deployed}",
            "mongodb://127.0.0.1:27017/bookshop": "memory:",
        }
        self._environment = environment_of(folder, template) | {"BFF_PORT": str(port)}

    async def follow(self, step: Step) -> None:
        text = self._here(step.text)
        match step.kind:
            case "file":
                (self.folder / step.value).write_text(text)
            case "edit":
                edit(self.folder / step.value, lambda before: patched(before, text))
                self._edited.append(self.folder / step.value)
            case "background":
                await self._running.enter_async_context(self._started(text, until=step.value))
            case "sh":
                await self._run(text)
            case "text":
                await self._see(text)
            case other:
                assert other == "replaced"

    def deploy(self) -> None:
        """From here on the commands are for the server, which has a port of its own."""
        self._others["8888"] = self._environment["BFF_PORT"] = str(self._deployed)

    def _here(self, text: str) -> str:
        for shown, other in self._others.items():
            text = text.replace(shown, other)
        return text

    async def _run(self, command: str) -> None:
        self._command = command
        code, self._printed = await self._bash(command)
        assert code == 0 or command.startswith("curl"), self._printed
        if moved := re.search(r"^cd (\S+)$", command, re.MULTILINE):
            self.folder /= moved[1]
            borrow_virtual_environment(self.folder)

    async def _see(self, text: str) -> None:
        """The application may still be about to reload, so `curl` looks again."""
        expected = [line.strip() for line in text.splitlines()]
        looks = itertools.count(1)

        async def is_printed() -> bool:
            if not all(line in self._printed for line in expected):
                assert self._command.startswith("curl"), self._printed
                if next(looks) % 50 == 0:  # Tornado has missed the edit
                    self._edited[-1].touch()
                _, self._printed = await self._bash(self._command)
            return all(line in self._printed for line in expected)

        try:
            await wait_until(is_printed)
        except TimeoutError:
            raise AssertionError(f"{self._command}{self._printed}") from None

    async def _bash(self, command: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", command),
            cwd=self.folder,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await process.communicate()
        return process.returncode, printed.decode()

    @asynccontextmanager
    async def _started(self, command: str, *, until: str) -> AsyncIterator[None]:
        log = self.folder.with_name(f"{command.split()[-1].replace('/', '-')}.log")
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *("bash", "-c", f"exec {command}"),
                cwd=self.folder,
                env=self._environment,
                stdout=output,
                stderr=output,
            )

        async def has_printed() -> bool:
            assert process.returncode is None, log.read_text()
            return until in log.read_text()

        try:
            await wait_until(has_printed)
            yield
        finally:
            if process.returncode is None:
                process.send_signal(SIGTERM)
            await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)


def environment_of(folder: Path, template: Path) -> dict[str, str]:
    git = folder / "gitconfig"
    git.write_text("[user]\nname = Test\nemail = test@example.org\n[commit]\ngpgsign = false\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("BFF_", "GIT_"))}
    return clean | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "GIT_CONFIG_GLOBAL": str(git),
        "TEMPLATE": str(template),
        "COOKIECUTTER_CONFIG": str(configuration(folder)),
        # The development provider knows the client that the tutorial registers at a real one.
        "BFF_CLIENT_ID": "bookshop",
        "BFF_CLIENT_SECRET": "what-the-provider-gave-you",
    }


def borrow_virtual_environment(project: Path) -> None:
    """To install one takes minutes: scripts/setup.sh finds this repository's, and that it is up to date."""
    own, borrowed = project / ".venv", Path(sys.prefix)
    own.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (own / name).symlink_to(borrowed / name)
    (own / ".installed").touch()


async def test_the_tutorial_works_as_it_is_shown(template: Path, tmp_path: Path):
    async with AsyncExitStack() as running:
        reader = Reader(tmp_path, template, running)
        for chapter in TUTORIAL.split("\n## ")[1:]:
            if chapter.startswith("5."):
                reader.deploy()
            for step in steps(chapter):
                await reader.follow(step)
            if chapter.startswith("3."):
                async with Browser(reader.url) as alice:
                    await alice.login("alice")
                    assert "Emma" in (await alice.get("/books")).text
