#!/usr/bin/env bash
# Kills, freezes and slows down what the application depends on, and prints what users see: scripts/faults.sh --help
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/setup.sh
exec .venv/bin/python -m tests.bff.faults "$@"
