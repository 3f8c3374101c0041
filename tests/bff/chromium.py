"""The Chromium that tests drive. `python -m tests.bff.chromium` says which, or fails when there is none."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
HINT = "there is no Chromium: run scripts/test.sh, which installs one, or name one in CHROMIUM"


def find_chromium(playwright: Any) -> Path:
    """The one in CHROMIUM, else one on PATH, else Playwright's own; FileNotFoundError if there is none."""
    on_path = next((path for name in NAMES if (path := shutil.which(name))), None)
    found = Path(os.environ.get("CHROMIUM") or on_path or playwright.chromium.executable_path)
    if not found.is_file():
        raise FileNotFoundError(HINT)
    return found


if __name__ == "__main__":
    try:
        with sync_playwright() as playwright:
            print(find_chromium(playwright))
    except FileNotFoundError as error:
        sys.exit(str(error))
