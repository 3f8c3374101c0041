#!/usr/bin/env bash
# Everything that must be true before a change goes in: linters, types, tests. CI runs this too.
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/setup.sh
bash scripts/setup_tests.sh

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/python -m pytest -n auto --dist loadfile
