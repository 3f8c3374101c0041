"""`python -m app`: serve, or run a command (`python -m app --help`)."""

import sys

from app.bff import run
from app.main import ROUTES, lifespan
from app.settings import Settings

if __name__ == "__main__":
    sys.exit(run(Settings, ROUTES, lifespan))
