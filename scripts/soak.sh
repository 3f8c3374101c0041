#!/usr/bin/env bash
# Runs everything at once for an hour, and plots memory, descriptors, tasks, latency and errors: scripts/soak.sh --help
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/setup.sh
exec .venv/bin/python -m tests.bff.faults.soak "$@"
