"""`python -m app`: serve, or run a command of the operator."""

import sys

from app.bff.cli import main
from app.main import routes
from app.settings import Settings

if __name__ == "__main__":
    sys.exit(main(Settings, routes))
