#!/usr/bin/env bash
# Installs what only the engine's suite needs: the template's tools, libraries for mongod, the certified OpenID
# provider, axe, nginx. scripts/test.sh runs it.
set -euo pipefail
cd "$(dirname "$0")/../.."

debian_install() { # what, for what
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing $1 …"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1"; } >/dev/null
  else
    echo "$2 needs $1, which is not there. On Debian: apt-get install $1" >&2
    exit 1
  fi
}

# Not installed: an installed server is started, now and whenever the machine starts.
debian_unpack() { # where to, what
  local folder=$1 packages=("${@:2}") download
  if ! command -v apt-get >/dev/null; then
    echo "The tests need nginx at /usr/sbin/nginx with its module for JavaScript, and without apt-get it cannot be fetched here." >&2
    exit 1
  fi
  echo "Fetching ${packages[*]} …"
  [ "$(id -u)" != 0 ] || apt-get update -qq
  download=$(mktemp -d)
  (cd "$download" && apt-get download -qq -o APT::Sandbox::User=root "${packages[@]}")
  for package in "$download"/*.deb; do dpkg-deb --extract "$package" "$folder"; done
  rm -r "$download"
}

stamp=.venv/.installed-bff
if [ ! -e "$stamp" ] || [ tests/bff/requirements.txt -nt "$stamp" ]; then
  echo "Installing what the engine's suite needs into .venv …"
  if command -v uv >/dev/null; then
    uv pip install --quiet --python .venv/bin/python --requirement tests/bff/requirements.txt
  else
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/bff/requirements.txt
  fi
  touch "$stamp"
fi

mongod=$(.venv/bin/python -c 'from app.bff.dev.mongod import find_mongod; print(find_mongod() or "")')
if [ -z "$mongod" ]; then
  echo "There is no mongod. Put one (4.4 or newer) on PATH." >&2
  exit 1
fi
"$mongod" --version >/dev/null 2>&1 || debian_install libcurl4 mongod

if ! command -v npm >/dev/null || ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then
  echo "The tests run a certified OpenID provider, which needs Node 20 or newer with npm." >&2
  exit 1
fi
if ! (cd .venv/node/node_modules && ls oidc-provider axe-core) >/dev/null 2>&1; then
  echo "Installing the certified OpenID provider, and what judges pages for accessibility …"
  npm install --prefix .venv/node --no-package-lock --no-fund --no-audit --silent oidc-provider@9 axe-core@4
fi

# What a project with the React front end installs: its tests copy it from here.
frontend=.venv/react/frontend
if ! cmp -s overlays/react/frontend/package-lock.json $frontend/node_modules/.installed; then
  echo "Installing what the React front end needs …"
  mkdir -p $frontend .venv/react/static/bff
  cp overlays/react/frontend/{package.json,package-lock.json,.npmrc} $frontend/
  cp overlays/react/static/bff/package.json .venv/react/static/bff/
  (cd $frontend && npm ci --no-fund --no-audit --silent)
  cp $frontend/package-lock.json $frontend/node_modules/.installed
fi

# scripts/setup_browser.sh has tried to install one.
if ! .venv/bin/python -c 'from app.bff.testing.chromium import has_chromium as it; raise SystemExit(not it())'; then
  echo "The engine's suite needs a Chromium: put one on PATH, or name it in CHROMIUM." >&2
  exit 1
fi

if ! .venv/bin/python -m tests.bff.nginx >/dev/null 2>&1; then
  debian_unpack .venv/nginx nginx nginx-common libnginx-mod-http-js
  .venv/bin/python -m tests.bff.nginx >/dev/null
fi
