#!/bin/sh
# Make .venv, or bring it up to date: scripts/make_venv.sh base|dev
# base: what `holdfast up` needs. dev: base, every extra and the test tools.
set -eu
cd "$(dirname "$0")/.."
wanted=${1:-dev}

fail() {
    printf '\nmake venv: %s\n' "$1" >&2
    exit 1
}

usable() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
        if command -v "$name" >/dev/null 2>&1 && usable "$name"; then
            command -v "$name"
            return
        fi
    done
    fail "no Python 3.11 or newer with the venv module was found${PYTHON:+ (PYTHON=$PYTHON)}.
Install one (on Debian and Ubuntu: apt-get install python3 python3-venv), or name it: make venv PYTHON=/path/to/python3.12"
}

if ! .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$(find_python) || exit 1
    echo "making .venv with $("$python" --version) ($python)"
    "$python" -m venv --clear .venv || fail "$python could not make a virtual environment (see above)"
fi

.venv/bin/python -m pip --disable-pip-version-check --no-input install -qq --require-hashes \
    --requirement requirements/build.txt ||
    fail "the package index could not be used (see above); which one it is, pip's own configuration says"
scripts/install.sh "requirements/$wanted.txt" || fail "the packages of requirements/$wanted.txt could not be installed (see above)"
VIRTUAL_ENV="$PWD/.venv" .venv/bin/uv --no-config pip install --quiet --offline --no-deps --no-build-isolation --editable . ||
    fail "holdfast itself could not be installed (see above)"

# make compares these with the requirement files; what a developer has includes what `make up` needs.
touch .venv/.made-base
[ "$wanted" != dev ] || touch .venv/.made-dev
echo ".venv is ready ($wanted)"
