# Each target builds .venv when it is missing. PYTHON chooses the interpreter that builds it (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
# the backend's general word of caution about editable installs is no news here
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
export OMP_NUM_THREADS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: compare test lint format docs results bench gpu clean
.DEFAULT_GOAL := compare

compare: .venv/ready  ## the main job on the built-in molecules
	$(BIN)/samcmp compare

test: .venv/ready-dev  ## the test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/ready-docs  ## the pages under build/site, offline
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

results: .venv/ready  ## the measured campaigns into the documents that show them
	$(BIN)/python results/render.py
	$(BIN)/python results/inside.py

bench: .venv/ready-bench  ## speed against named peers, a table for each room
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench $(ARGS)

# On a GPU machine whose python already holds torch and the other requirements: make gpu BIN=$$(dirname $$(which python3))
gpu:
	$(BIN)/python -m pytest -m gpu $(ARGS)
	$(BIN)/python -m tests.bench gpu $(ARGS)

.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e .
	touch $@

.venv/ready-dev: .venv/ready
	$(PIP) -e '.[dev]'
	touch $@

.venv/ready-docs: .venv/ready
	$(PIP) -e '.[docs]'
	touch $@

.venv/ready-bench: .venv/ready-dev
	$(PIP) -e '.[dev,bench]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .coverage
