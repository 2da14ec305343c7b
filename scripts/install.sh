#!/bin/sh
# Install a pinned requirement file into .venv, or into $VENV: scripts/install.sh FILE [OPTION…]
# From whichever package index this machine is set up for; every file's hash is checked.
set -eu
cd "$(dirname "$0")/.."
file=$1
shift
venv=${VENV:-.venv}
pip=".venv/bin/python -m pip --python $venv/bin/python --disable-pip-version-check --no-input"

# uv reads no pip configuration: hand it the index that pip is told to use, and the machine's own certificates.
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
    index=${PIP_INDEX_URL:-$($pip config get global.index-url 2>/dev/null || true)}
    [ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
fi
export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}" VIRTUAL_ENV="$PWD/$venv"

.venv/bin/uv --no-config pip install --quiet --require-hashes --requirement "$file" "$@" && exit 0
# pip knows more ways to reach an index than uv does; it is slower, so it comes second.
echo "uv could not install $file; trying pip" >&2
# shellcheck disable=SC2086
exec $pip install -qq --require-hashes --requirement "$file" "$@"
