# Each target works as the very first command in a fresh clone: .venv is built when it is missing
# or when pyproject.toml or constraints.txt have changed, and left alone otherwise.
PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
INSTALLED := .venv/installed-$(shell cat pyproject.toml constraints.txt | cksum | tr -d ' ')

# One thread a process: several processes work at once. Nothing is fetched while tests run.
export OMP_NUM_THREADS = 1
export OMP_WAIT_POLICY = passive
export TOKENIZERS_PARALLELISM = false
export HF_HUB_OFFLINE = 1

.PHONY: demo test lint types
.DEFAULT_GOAL := test

demo: $(INSTALLED)
	$(BIN)/python run_matrix.py demo

test: lint types
	$(BIN)/python -m pytest -n $(JOBS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

# torch comes first and alone: a resolver that is free to choose fetches gigabytes of another build.
$(INSTALLED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; say which by make PYTHON=python3.11")'
	@echo 'Installing into .venv; this takes minutes, once.'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@rm -f .venv/installed-*
	@touch $@
