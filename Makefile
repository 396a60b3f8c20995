# Thin: each target sets the environment up (at once when it is there) and calls the command that does the work.
ifneq ($(firstword $(sort 3.81 $(MAKE_VERSION))),3.81)
$(error Granary needs GNU make 3.81 or newer and this is make $(MAKE_VERSION): install a newer one, or call it by its name, such as gmake)
endif

PYTHON ?= python3
BIN := .venv/bin
# Packages that are there: deleting demo/ must break only the demo.
PACKAGES := $(wildcard dashboards deliveries demo granary ingestion orchestration dbt_granary.py)
# A Python that somebody chose is binding for .venv; the one that happens to be python3 is not.
CHOSEN := $(if $(filter file,$(origin PYTHON)),,--this-python)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-spark ui docs dashboard lint lint-python lint-types lint-doors lint-sql lint-yaml lint-contracts bench scale chaos histories mutants clean
SCALE := $(filter scale,$(MAKECMDGOALS))

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: ## the environment only: .venv/ and dbt_packages/
	@for python in "$(PYTHON)" $(if $(CHOSEN),,python3.13 python3.12 python3.11 python3.10); do \
		if command -v "$$python" >/dev/null; then exec "$$python" granary/setup $(CHOSEN); fi; \
	done; \
	echo "Set-up stopped: no $(PYTHON) found; install Python 3.10 to 3.13, or say where it is: make PYTHON=/path/to/python3.12 setup." >&2; \
	exit 1

demo: setup ## from nothing to a loaded, built and tested warehouse on a real year; again: only what is new
	@$(BIN)/granary demo run

test: setup ## the whole test suite
	@$(BIN)/python -m pytest -n 2

test-fast: setup ## what is tested in two minutes: no server of a test's own, no whole build
	@$(BIN)/python -m pytest -n 2 -m fast

test-spark: setup ## the models on Spark: its own packages (half a GB, in .venv/spark/), Java 17, tests/python/spark
	@$(BIN)/python tests/python/spark $(ARGS)

ui: setup ## Dagster's pages
	@$(BIN)/granary ui

docs: setup ## the data documentation
	@$(BIN)/granary docs

dashboard: setup ## figures and charts from the marts
	@$(BIN)/granary dashboard

lint: lint-python lint-types lint-doors lint-sql lint-yaml lint-contracts ## every linter, and the one-way doors between the folders

lint-python: setup
	$(BIN)/ruff check . .ci/audit .ci/lock
	$(BIN)/ruff format --check . .ci/audit .ci/lock

lint-types: setup
	$(BIN)/mypy $(PACKAGES)

lint-doors: setup
	$(BIN)/lint-imports --no-logo
	$(if $(wildcard demo),$(BIN)/lint-imports --no-logo --config demo/importlinter.toml)

lint-sql: setup
	$(BIN)/sqlfluff lint $(wildcard models macros snapshots tests/dbt granary/dbt_package/models granary/dbt_package/tests dashboards/queries)

lint-yaml: setup
	$(if $(wildcard .yamllint),$(BIN)/yamllint --strict .)

lint-contracts: setup
	$(BIN)/granary contracts check

bench: setup ## the benchmarks, as ratios to references in the same run; make bench scale: what history costs
	@$(if $(SCALE),,$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes --requirement bench/requirements.txt)
	@$(BIN)/python -m bench $(SCALE) $(ARGS)

scale: bench # `make bench scale` names both
	@:

chaos: setup ## proof of exactly-once: loaders and servers killed by the hundred; ARGS="--kinds files --runs 50"
	@$(BIN)/python -m tests.python.engine.chaos $(ARGS)

histories: setup ## proof of increments: random histories of the warehouse against full refreshes; ARGS="--count 300 --seed 7"
	@$(BIN)/python -m tests.python.project.histories $(ARGS)

mutants: setup ## proof of the tests: faults in deliveries and edits of models, and what catches each; ARGS="--edits 30 --only sales"
	@$(BIN)/python -m tests.python.project.mutants $(ARGS)

clean: ## stop the server and remove what set-up and tools made; the warehouse in .granary/ stays
	-@[ ! -x $(BIN)/granary ] || $(BIN)/granary serve --stop
	-@[ -n "$$PGHOST" ] || [ ! -x $(BIN)/granary ] || $(BIN)/granary down
	rm -rf .venv .setup.lock build dbt_packages target logs granary_elt.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
