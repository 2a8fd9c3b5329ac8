# Everything starts from a bare checkout: Python 3.11 to 3.13, make and git. `make help` lists the commands.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
RUN := $(BIN)/python -u
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export RAY_USAGE_STATS_ENABLED := 0

STORE ?= demo-output/store
MODEL ?= unirna-mini
REGISTRY ?= demo-output/registry
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help docs demo test test-slow lint format serve bench bench-train lock clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: .venv/platform  ## pre-train, fine-tune, embed, search and screen real RNA, in about four minutes
	@$(RUN) jobs/demo/demo.py

test: lint  ## run ruff, mypy and the tests, in WORKERS (2) processes
	@$(RUN) -m pytest -m "not slow" -n $(WORKERS) --dist loadfile

test-slow: .venv/dev  ## run the tests that take longer, in WORKERS (2) processes: kills and restarts of whole jobs
	@$(RUN) -m pytest -m slow -n $(WORKERS) --dist loadfile

docs: .venv/dev  ## write the API reference into docs-html/
	@$(BIN)/pdoc -d google -o docs-html $(addprefix unirna.,sdk sequence model vectorstore corpus train tasks fold embed screen)
	@echo "docs-html/index.html"

lint: .venv/dev  ## run ruff and mypy alone
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "some files are not formatted: run make format"; exit 1; }
	@$(BIN)/mypy

format: .venv/dev  ## format the code
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

serve: .venv/platform  ## serve the demonstration's store (or STORE=, MODEL=, REGISTRY=) on http://127.0.0.1:8000
	@test -d $(STORE) || { echo "There is no store at $(STORE) yet. Make one with: make demo"; exit 2; }
	@$(RUN) jobs/serve.py --store $(STORE) --model $(MODEL) --registry $(REGISTRY)

bench: .venv/bench  ## measure embedding speed beside the usual padded loop
	@$(RUN) benchmarks/embed.py

bench-train: .venv/bench  ## measure training speed beside a padded Hugging Face model
	@$(RUN) benchmarks/train.py

lock:  ## renew constraints.txt with the newest versions that work together (TORCH=2.13.0)
	@PYTHON="$(PYTHON)" ./deploy/lock.sh

clean:  ## remove the environment, caches and demo-output; runs/, store/ and predictors/ stay
	rm -rf .venv docs-html demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis

# ---- the environment: made once; a second call starts at once

.venv/base: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and was not found. Set PYTHON=…"; exit 2; }
	@test -x $(BIN)/python || { echo "Making .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv .venv; }
	@$(PIP) pip
	@touch $@

.venv/platform: .venv/base
	@echo "Installing UniRNA with torch, Ray and LanceDB into .venv (once; about 2 GB, a few minutes)"
	@$(PIP) --build-constraint constraints.txt --editable '.[platform,viz,map]'
	@touch $@

.venv/dev: .venv/platform
	@echo "Installing the development tools into .venv"
	@$(PIP) --group dev
	@touch $@

.venv/bench: .venv/platform
	@echo "Installing what the benchmarks compare with into .venv"
	@$(PIP) --group bench
	@touch $@
