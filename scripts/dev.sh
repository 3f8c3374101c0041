#!/usr/bin/env bash
# Runs the application with all that it needs: a development provider, a session store, autoreload.
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/setup.sh
exec .venv/bin/python -m app.bff.dev
