#!/bin/sh
# `make matrix-redis`: the tests that ask Redis, on every major version of redis-py that pyproject.toml allows.
# Arguments go to pytest, in place of the tests; VERSIONS="6.0.0 8" names others. Exit 1 if any failed.
set -u
cd "$(dirname "$0")/.."
[ "$#" -gt 0 ] || set -- tests/cache tests/guard tests/store/test_redis.py tests/operate/test_redis.py tests/torture/test_cache.py
failed=

for version in ${VERSIONS:-6.0.0 6 7 8}; do
    case $version in *.*) wanted="redis==$version" ;; *) wanted="redis==$version.*" ;; esac
    venv=".venv/matrix/redis-$version"
    echo "-- $wanted"
    .venv/bin/uv --no-config venv --quiet --clear --python .venv/bin/python "$venv" &&
        VENV="$venv" scripts/install.sh requirements/build.txt &&
        VENV="$venv" scripts/install.sh requirements/dev.txt &&
        .venv/bin/python -m pip --python "$venv/bin/python" --disable-pip-version-check --no-input install -qq "$wanted" &&
        VIRTUAL_ENV="$PWD/$venv" .venv/bin/uv --no-config pip install --quiet --offline --no-deps --no-build-isolation --editable . &&
        "$venv/bin/python" -c 'import redis, sys; print("redis-py", redis.__version__, file=sys.stderr)' &&
        "$venv/bin/python" -m pytest -q -p no:cacheprovider -n 2 "$@"
    [ $? -eq 0 ] || failed="$failed
  $wanted"
done

[ -z "$failed" ] || { printf 'failed:%s\n' "$failed" >&2; exit 1; }
echo "all passed"
