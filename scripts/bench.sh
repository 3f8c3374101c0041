#!/usr/bin/env bash
# Measures the application next to others that do the same; writes bench/results/. Takes some twenty minutes.
# usage: scripts/bench.sh [telemetry]   with `telemetry`: what metrics and traces cost, in eight minutes
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/setup.sh

for tool in wrk nginx; do
  command -v "$tool" >/dev/null && continue
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing $tool …"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$tool"; } >/dev/null
  else
    echo "The measurement needs $tool, which is not there. On Debian: apt-get install $tool" >&2
    exit 1
  fi
done

exec .venv/bin/python -m "bench${1:+.$1}"
