# `make` alone lists the targets. Only Python 3.11 or newer is needed; everything else comes from pip.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO   := $(VENV)/.demo
STAMP  := $(VENV)/.ready
# Not below .cache, which building the documentation empties, perhaps beside this.
LOWEST := .envs/lowest
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lowest panel soak check fix docs pictures bench clean

help: ## list these targets
	@echo "unitwork: make <target>"
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Remade only when the requirements or the project's own description change. The demo needs the least,
# so that a first look does not wait for the rest.
$(DEMO): requirements/demo.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "unitwork needs Python 3.11 or newer; this is %d.%d. Use: make PYTHON=/path/to/python3.11" % v[:2])'
	@echo "Installing SQLAlchemy, aiosqlite and rich into $(VENV): about 50 MB, a few seconds ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --no-compile --requirement requirements/demo.txt
	@touch $@

$(STAMP): $(DEMO) requirements/dev.txt pyproject.toml
	@echo "Installing what tests and checks need into $(VENV): database drivers and servers, frameworks, checkers."
	@echo "About 1 GB, a minute or two, once ..."
	@$(PIP) --requirement requirements/dev.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(DEMO) ## run the main job on SQLite and print each transaction as a timeline
	@PYTHONPATH=src $(BIN)/python -m examples.demo

test: $(STAMP) ## run the tests on every database found (PYTEST_ARGS="--database sqlite" for one)
	@$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(PYTEST_ARGS)

# What depends on how others are made inside: all of it on SQLite, and on every server what goes past SQLAlchemy.
LOWEST_TESTS   := behaviour integrations
# These have environments, or floors, of their own.
LOWEST_APART   := aiogram sanic sqlmodel
LOWEST_SERVERS := lanes_adding lanes_beside_blocks lanes_failures lanes_in_sessions lanes_pools lanes_schema_changes sqlalchemy

$(LOWEST)/.ready: requirements/lowest.txt pyproject.toml
	@test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	@echo "Installing the lowest versions into $(LOWEST) ..."
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements/lowest.txt
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

lowest: $(LOWEST)/.ready ## run the tests that tell versions apart on the lowest of everything, SQLAlchemy 2.0 first
	@$(LOWEST)/bin/python -m pytest -c tests/lowest.ini --rootdir . --quiet --numprocesses auto --dist worksteal \
		--database sqlite $(LOWEST_APART:%=--ignore tests/integrations/test_%.py) \
		$(LOWEST_TESTS:%=tests/%)
	@$(LOWEST)/bin/python -m pytest -c tests/lowest.ini --rootdir . --quiet --numprocesses auto --dist worksteal \
		--database postgresql --database mariadb $(LOWEST_SERVERS:%=tests/behaviour/test_%.py)

panel: $(STAMP) ## open a small shop with traffic and its panel in the browser, until Ctrl-C
	@$(BIN)/python -m unitwork examples panel

soak: $(STAMP) ## run 50,000 random programs on every database found: an hour or more
	@$(BIN)/python -m pytest --numprocesses auto --dist worksteal -m soak tests/properties $(PYTEST_ARGS)

check: $(STAMP) ## lint, formatting, types, architecture, and that the docs build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(wildcard src tests examples benchmarks)
	$(BIN)/pyright
	$(BIN)/python -m pytest --quiet tests/architecture
	@$(MAKE) --no-print-directory docs

fix: $(STAMP) ## repair what ruff can repair, and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## build the documentation into site/, failing on any warning
	$(BIN)/zensical build --strict --clean

pictures: $(STAMP) ## draw the pictures of the documentation again, in chromium
	@$(BIN)/python -m tests.observe.pictures

bench: $(STAMP) ## compare speed with hand-written SQLAlchemy, as ratios in one run
	@$(BIN)/python benchmarks/run.py
	@$(BIN)/python benchmarks/bulk.py

clean: ## remove the environment and everything that was built
	rm -rf $(VENV) .envs site .benchmarks .cache .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
