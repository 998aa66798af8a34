# Everything runs in .venv, which is built once and rebuilt when pyproject.toml changes.
#   make demo   run the whole pipeline on the built-in digits
#   make test   run the tests
#   make lint   format check, lint, types
#   make docs   write docs/reference/ anew from the code
#   make bench  measure, print ratios and append them to tests/benchmarks/RESULTS.md (half an hour)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install demo test lint docs bench format clean
.DEFAULT_GOAL := test

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test,lint]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/skipline run quickstart

# Most tests take one core each; those that start Ray, which takes all of them, come one after the other.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup -m 'not slow and not ray'
	$(BIN)/python -m pytest -m 'ray and not slow'

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(INSTALLED)
	$(BIN)/python -m docs.generate

# Those that run in minutes and need no other data than they make; in order, one after the other. On a
# machine that has other work to do, OMP_NUM_THREADS=1 keeps threads from waiting for one that has no core.
BENCHMARKS := step_against_textbook step_against_two_networks step_memory input_pipeline evaluation_tree ddp ray_overhead

bench: $(INSTALLED)
	for name in $(BENCHMARKS); do $(BIN)/python -m tests.benchmarks.$$name || exit 1; done

format: $(INSTALLED)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
