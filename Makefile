SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
LOCK := docker/locks/dev-cpu.txt
BIN := .venv/bin
# More torch threads than free cores make a small model slower, not faster.
RUN_THREADS ?= 2
# Tests that run side by side, a file in one process; each trains with one thread. In the order of names: by their number
# the longest, which are few to a file, would come last and leave a process idle.
TEST_WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 1); echo $$((n < 4 ? n : 4)))
PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup run test check soak containers bench verified lock image-locks clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: .venv/.stamp ## make .venv with everything for development (CPU)

.venv/.stamp: pyproject.toml $(LOCK)
	@[ -n "$(PYTHON)" ] || { echo "headrace: no python3 found; Python 3.11 or later is needed" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "headrace: $(PYTHON) is $$($(PYTHON) -V 2>&1); 3.11 or later is needed: make setup PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "headrace: $(PYTHON) has no venv module: apt-get install python3-venv" >&2; exit 2; }
	@echo "setup: creating .venv with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv --clear .venv
	@echo "setup: installing $$(grep -c == $(LOCK)) packages of $(LOCK)"
	@# pip check below stands in for resolving; modules compile when first imported, a third faster.
	@$(BIN)/python -m pip install -qq --no-deps --no-compile -r $(LOCK)
	@echo "setup: installing headrace in place"
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip check >/dev/null || $(BIN)/python -m pip check
	@touch $@
	@echo "setup: done"

run: setup ## validate, train and evaluate a small model here, on the CPU
	@OMP_NUM_THREADS=$(RUN_THREADS) $(BIN)/headrace run --config examples/quickstart.yaml

test: setup ## the default tests: CPU, offline
	@$(PYTEST) $(PYTEST_ARGS)

check: setup ## format, lint, types, import contract, stale documents, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m headrace_pipelines.docs --check
	$(PYTEST) $(PYTEST_ARGS)

soak: setup ## the slow tests
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m slow $(PYTEST_ARGS)

containers: setup ## build the images (CPU) and test them; needs Docker, or root to start one
	@docker/testbed $(PYTEST_ARGS)

bench: setup ## tokens/s of the stream beside the reference path and the tokenizer alone (needs npm and apt-get)
	@$(BIN)/python benchmarks/stream.py --json benchmarks/stream.json

verified: setup ## run each room's example pipeline, then date its metadata.yaml today
	@OMP_NUM_THREADS=1 $(BIN)/pytest tests/pipelines/test_rooms.py $(PYTEST_ARGS)
	@$(BIN)/python -m headrace_pipelines.verified --today

# --no-emit-*: where packages come from is each machine's own pip configuration, never the lock's.
# The local version "+cpu" is cut so that the lock also installs where the CPU build is not called that;
# left out are pip, which every venv brings, and headrace itself, which is installed in place.
lock: ## pin everything anew in docker/locks
	@test -x $(BIN)/pip-compile || $(MAKE) setup
	@$(BIN)/pip-compile --quiet --upgrade --strip-extras --no-header --no-build-isolation --allow-unsafe \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	  --annotation-style=line --extra dev -o $(LOCK).new pyproject.toml docker/locks/dev-cpu.in
	@{ echo "# Made by \`make lock\`; see docker/README.md for why there are neither hashes nor an index."; \
	   sed -nE 's/^(torch==[0-9.]+)\+cpu/\1/; s| *#.*||; /^pip==/d; /^[^ ]+==[^ ]+$$/p' $(LOCK).new; } > $(LOCK)
	@rm $(LOCK).new
	@$(MAKE) --no-print-directory image-locks

# What each image holds, in the versions of the lock above. uv resolves for the CUDA build of torch whatever this
# machine's pip prefers; the CPU build needs the same without the packages that are CUDA's.
image-locks: setup ## the images' locks anew, from the development lock
	@resolve="$(BIN)/uv pip compile --quiet --no-header --no-annotate --constraint $(LOCK) \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28"; \
	made="# Made by \`make image-locks\`."; locks=docker/locks; \
	{ echo "$$made"; $$resolve --extra validate --extra component pyproject.toml; } > $$locks/validate.txt; \
	{ echo "$$made"; echo hatchling | $$resolve -; } > $$locks/build.txt; \
	for room in train evaluate; do \
	  { echo "$$made"; $$resolve --extra $$room --extra component $$([ $$room = train ] && echo --extra nodes) pyproject.toml; } \
	    > $$locks/$$room-cuda.txt; \
	  { echo "$$made"; grep -Fxf $(LOCK) $$locks/$$room-cuda.txt; } > $$locks/$$room-cpu.txt; \
	done

clean: ## remove .venv, caches and build outputs (runs/ stays)
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
