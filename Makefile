# make demo: real data, a leaderboard and a running service.   make test: all tests.
VENV ?= .venv
PYTHON ?= python3
SERVE ?= 1
BIN := $(VENV)/bin

.PHONY: setup demo test check docs bench clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "momentary needs Python 3.11 or newer; run: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	@touch $@

demo: setup
	$(BIN)/momentary demo $(if $(filter 0,$(SERVE)),--no-serve)

test: setup
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup
	$(BIN)/pytest -q tests/docs

bench: setup
	$(BIN)/python -m benchmarks.sessions
	$(BIN)/python -m benchmarks.session_speed
	$(BIN)/python -m benchmarks.sessionize
	$(BIN)/python -m benchmarks.content
	$(BIN)/python -m benchmarks.moments
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.chaos

clean:
	rm -rf $(VENV) demo-home .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
