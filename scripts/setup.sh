#!/usr/bin/env bash
# Makes .venv with everything that development needs. Does nothing when it is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/.installed
if [ -e "$stamp" ] && [ -z "$(find pyproject.toml requirements -newer "$stamp")" ]; then
  exit 0
fi

python=$(command -v python3 || true)
if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "Python 3.11 or newer is needed, and python3 is ${python:-not there}." >&2
  exit 1
fi

echo "Installing what is needed into .venv; the first time this takes a minute or two …"
if command -v uv >/dev/null; then
  [ -d .venv ] || uv venv --quiet --python "$python" .venv
  uv pip install --quiet --python .venv/bin/python --editable '.[dev]'
else
  [ -d .venv ] || "$python" -m venv .venv || {
    echo "python3 -m venv does not work here; on Debian: apt-get install python3-venv" >&2
    exit 1
  }
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
fi
touch "$stamp"
