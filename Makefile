# Two commands: `make demo` and `make test`. Each sets up all it needs in .venv; only Python 3.11+ and make must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints.txt
OLDEST := $(shell sed -n 's/.*"transformers>=\([0-9.]*\),.*/\1.0/p' pyproject.toml)
# One thread a worker: two workers with two threads each wait for one another.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test lint check families oldest format install clean

demo: $(VENV)/.installed
	$(BIN)/headcount demo

test: $(VENV)/.installed
	$(PYTEST) -m "not page"

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint
	$(PYTEST) -m "not slow and not page"

# Every family, operation and format; writes docs/families.md. Half an hour; by hand, `-k foo` does one family.
families: $(VENV)/.installed
	$(PYTEST) tests/families \
		--deselect tests/families/test_families.py::test_the_page_is_of_these_families --families-page docs/families.md

# The fast tests with the oldest transformers that pyproject.toml admits; `make check` runs them with the newest.
# It warns of torch's newer ways, which is not ours to mend.
oldest:
	$(MAKE) VENV=.venv-oldest CONSTRAINTS=.venv-oldest-constraints.txt .venv-oldest/.installed
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -n 2 --dist worksteal -m "not slow and not page" \
		-W "ignore::DeprecationWarning" -W "ignore::FutureWarning"

.venv-oldest-constraints.txt: constraints.txt pyproject.toml
	sed "s/^transformers==.*/transformers==$(OLDEST)/" constraints.txt > $@

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(VENV)/.installed

# torch first and pinned: whatever else asks for it later must not fetch another build.
$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 13); sys.exit(None if ok else "headcount needs Python 3.11 to 3.13, got " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[demo,dev]'
	touch $@

clean:
	rm -rf $(VENV) .venv-oldest* build dist .mypy_cache .pytest_cache .ruff_cache
