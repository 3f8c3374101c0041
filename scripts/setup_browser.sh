#!/usr/bin/env bash
# Installs a Chromium for the tests that drive one, if it can: without one pytest skips them, and says so.
# An attempt that failed is repeated a day later; CHROMIUM names a browser that is there already.
set -euo pipefail
cd "$(dirname "$0")/.."

has_chromium() {
  .venv/bin/python -c 'from app.bff.testing.chromium import has_chromium as it; raise SystemExit(not it())'
}

failed=.venv/.no-chromium
if has_chromium || [ -n "$(find "$failed" -mtime -1 2>/dev/null)" ]; then
  exit 0
fi

echo "Installing a browser …"
.venv/bin/python -m playwright install chromium >/dev/null 2>&1 || true
if ! has_chromium && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } >/dev/null 2>&1 || true
fi
if ! has_chromium; then
  echo "A Chromium could not be installed. The tests that need one will be skipped."
  touch "$failed"
fi
