"""`python -m tests.bff.application`: the same as `python -m app`, with this application's pages."""

import sys

from app.bff import run
from tests.bff.application.main import ROUTES
from tests.bff.application.settings import Settings

if __name__ == "__main__":
    sys.exit(run(Settings, ROUTES))
