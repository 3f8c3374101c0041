#!/usr/bin/env bash
# Everything that must be true before a change goes in: linters, types, tests. CI runs this too.
# Arguments go to pytest, in one process then: scripts/test.sh -k orders, scripts/test.sh -x --pdb
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/setup.sh
bash scripts/setup_browser.sh
[ ! -e tests/bff/setup.sh ] || bash tests/bff/setup.sh

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
[ ! -e frontend/package.json ] || .venv/bin/python -m app.bff.dev.frontend
[ $# -gt 0 ] || set -- -n auto --dist loadfile --no-loadscope-reorder
.venv/bin/python -m pytest "$@"
