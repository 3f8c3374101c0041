"""What pyproject.toml cannot say: a wheel holds inside `app` what a checkout has beside it."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# app/bff/paths.py finds them in both places.
BESIDE = ("pyproject.toml", "templates", "static", "frontend/dist")


class BuildApplication(build_py):
    """Starts from an empty folder, so that a file deleted since the last build is not in the wheel."""

    def run(self):
        if self.editable_mode:
            return
        package = Path(self.build_lib, "app")
        shutil.rmtree(package, ignore_errors=True)
        super().run()
        for file in files_beside():
            target = package / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)

    def get_source_files(self):
        """What a source distribution holds, out of which a wheel can be built as well."""
        return [*super().get_source_files(), *map(str, files_beside())]


def files_beside():
    found = [file for name in BESIDE for file in (Path(name), *Path(name).rglob("*"))]
    return [file for file in found if file.is_file() and not file.name.startswith(".")]


setup(cmdclass={"build_py": BuildApplication})
