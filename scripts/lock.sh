#!/usr/bin/env bash
# Writes requirements/lock.txt: the exact versions, with hashes, of all that is deployed and of every extra that may be.
# It names no index: `pip install --require-hashes --requirement requirements/lock.txt` works with any.
# Arguments go to the resolver: scripts/lock.sh --upgrade, scripts/lock.sh --upgrade-package tornado
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/setup.sh
command -v .venv/bin/uv >/dev/null || .venv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
[ -e requirements/lock.txt ] || set -- --upgrade "$@"
.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-annotate --custom-compile-command scripts/lock.sh --output-file requirements/lock.txt "$@" \
  requirements/{bff,app,speed,metrics,tracing}.txt
