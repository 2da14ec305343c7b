#!/bin/sh
# `make test-matrix`: the tests on every Python 3.11, 3.12 and 3.13 that is found.
# Arguments go to pytest; PYTHONS="/path/to/python3.13 …" names others. Exit 1 if any failed.
set -u
cd "$(dirname "$0")/.."
ran=0
failed=

for python in ${PYTHONS:-python3.11 python3.12 python3.13}; do
    if ! version=$("$python" -c 'import platform; print(platform.python_version())' 2>/dev/null); then
        echo "-- $python: not found, left out"
        continue
    fi
    venv=".venv/matrix/$version"
    echo "-- Python $version"
    .venv/bin/uv --no-config venv --quiet --clear --python "$python" "$venv" &&
        VENV="$venv" scripts/install.sh requirements/build.txt &&
        VENV="$venv" scripts/install.sh requirements/dev.txt &&
        VIRTUAL_ENV="$PWD/$venv" .venv/bin/uv --no-config pip install --quiet --offline --no-deps --no-build-isolation --editable . &&
        "$venv/bin/python" -m pytest -q -p no:cacheprovider "$@"
    if [ $? -ne 0 ]; then
        failed="$failed
  Python $version"
    fi
    ran=$((ran + 1))
done

[ "$ran" -gt 0 ] || { echo "make test-matrix: no Python 3.11, 3.12 or 3.13 was found" >&2; exit 1; }
[ -z "$failed" ] || { printf 'failed:%s\n' "$failed" >&2; exit 1; }
echo "all $ran passed"
