# `make` lists the targets. Everything is installed into .venv; nothing outside this folder changes.
PYTHON ?= python3
VENV ?= .venv
# What `make demo` passes on: make demo ARGS=--fresh
ARGS ?=

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
# uv installs the stack in a fraction of pip's time, and makes a venv where Debian's python3-venv is missing.
UV := $(VENV)-uv/bin/uv
# Three processes, for many tests wait; the files in order, of which the first take longest, each with its fixtures
# in one process.
AT_ONCE = --numprocesses 3 --dist loadfile --no-loadscope-reorder
INSTALL = UV_PYTHON_DOWNLOADS=never $(UV) pip install --quiet --python $(BIN)/python -c constraints.txt

# What the package is built from, besides Python.
BUILT = pyproject.toml constraints.txt setup.py $(wildcard prep/*/*.[ch] prep/*/*/*.c)

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench docs release facts clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

demo: $(VENV)/.train ## Set everything up and train, compare and show a tiny Qwen3 on the CPU
	$(BIN)/lfc quickstart $(ARGS)

test: $(VENV)/.dev lint ## Set everything up and run ruff, mypy and the tests with coverage
	$(BIN)/python -m pytest --cov --cov-report=term $(AT_ONCE) $(ARGS)

lint: $(VENV)/.dev ## Run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## Sort imports and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## Run every benchmark on this machine; figures to benchmarks/results (ARGS=NAME: one)
	$(UV) pip install --quiet --python $(BIN)/python -c constraints.txt -r benchmarks/requirements.txt
	test -d build/peers || $(UV) venv --quiet --python $(BIN)/python build/peers
	$(UV) pip install --quiet --python build/peers -r benchmarks/requirements-near.txt
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.dev ## Build the documentation into site/; broken links fail
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

release: $(VENV)/.dev ## Check and build a release into dist/; all but the upload
	$(INSTALL) -e '.[release]'
	$(BIN)/python scripts/release.py

facts: $(VENV)/.dev ## Write the installed LLaMA-Factory's schemas, templates and models anew (ARGS=FOLDER: an unpacked one's)
	$(BIN)/python scripts/write_facts.py $(ARGS)

clean: ## Remove the venv and the caches
	rm -rf $(VENV) $(VENV)-uv site .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

$(UV):
	$(PYTHON) -m pip install --quiet --root-user-action=ignore --target $(VENV)-uv uv

$(BIN)/python: $(UV)
	UV_PYTHON_DOWNLOADS=never $(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	@touch $@ 2>/dev/null || true

$(VENV)/.train: $(BIN)/python $(BUILT)
	$(INSTALL) -e '.[train]'
	@touch $@

$(VENV)/.dev: $(BIN)/python $(BUILT)
	$(INSTALL) -e '.[train,dev]'
	@touch $@ $(VENV)/.train
