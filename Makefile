# Everything sets itself up in .venv: only Python 3.11 or newer, make and package access are needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
AIRFLOW := 3.3.2
# Those beside it, each in an environment that a test makes.
OLDER := 2.11.2 3.1.8
# Unit tests that are skipped without the Azure and OpenLineage providers.
NEED_PROVIDERS := tests/unit/assets tests/unit/delivery/test_store_errors.py \
    tests/unit/operators/batch/test_batch_lineage.py

# Processes that run the tests: more than cores, because many tests wait.
WORKERS := 4

# Seeds of the simulation.
RUNS := 100000
FIRST := 0

.PHONY: help demo test simulate integration distributed kills check lint types arrows benchmark sandbox requirements clean

help:
	@echo "make demo         run the quickstart Dag against the sandbox (or, with CLAID_API_KEY set, against Claid)"
	@echo "make sandbox      serve a Claid on this machine"
	@echo "make test         run all tests that need no service"
	@echo "make simulate     pay, crash and retry in virtual time, under 100,000 seeds (RUNS=, FIRST=; about half an hour)"
	@echo "make integration  run the tests that need real stores, and install those (as root)"
	@echo "make distributed  lose a Celery worker in the middle of a catalogue: PostgreSQL, Redis, two workers (about 5 minutes)"
	@echo "make kills        kill the quickstart and batches 50 times, each time followed by reruns (about 15 minutes)"
	@echo "make check        lint, types and import arrows"
	@echo "make benchmark    measure everything that benchmarks/README.md shows (about 2 hours)"

demo: $(VENV)/.demo
	$(BIN)/python scripts/demo.py

sandbox: $(VENV)/.demo
	$(BIN)/python -m airflow_provider_claid.sandbox

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

simulate: $(VENV)/.dev
	$(BIN)/python -m tests.simulation --runs $(RUNS) --first $(FIRST)

integration: $(VENV)/.integration
	$(BIN)/python scripts/services.py
	$(BIN)/python -m pytest tests/integration $(NEED_PROVIDERS)

distributed: $(VENV)/.integration
	$(BIN)/python scripts/services.py
	$(BIN)/python -m pytest tests/distributed -s

kills: $(VENV)/.integration
	KILLS=50 $(BIN)/python -m pytest tests/integration/test_kills.py tests/integration/test_batch_kills.py -s

check: lint types arrows

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev
	$(BIN)/mypy

arrows: $(VENV)/.dev
	$(BIN)/lint-imports

benchmark: $(VENV)/.integration
	$(BIN)/python scripts/services.py
	$(BIN)/python -m benchmarks

# The pinned files, for the newest Airflow, and for older ones.
requirements: $(VENV)/.dev
	echo "apache-airflow==$(AIRFLOW)" > $(VENV)/newest.txt
	$(BIN)/uv pip compile -q -U pyproject.toml --extra sandbox -c $(VENV)/newest.txt -o requirements/demo.txt \
	    --universal --python-version 3.11 --no-header --no-annotate
	$(BIN)/uv pip compile -q -U pyproject.toml --extra dev -c requirements/demo.txt -o requirements/dev.txt \
	    --universal --python-version 3.11 --no-header --no-annotate
	$(BIN)/uv pip compile -q -U pyproject.toml --extra integration -c requirements/dev.txt -o requirements/integration.txt \
	    --universal --python-version 3.11 --no-header --no-annotate
	for older in $(OLDER); do \
	    echo "apache-airflow==$$older" > $(VENV)/older.txt; \
	    $(BIN)/uv pip compile -q -U pyproject.toml -c $(VENV)/older.txt -o requirements/airflow-$${older%.*}.txt \
	        --universal --python-version 3.11 --no-header --no-annotate || exit 1; \
	done

clean:
	rm -rf $(VENV) .demo .services .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.demo: requirements/demo.txt pyproject.toml
	$(PYTHON) scripts/install.py $(VENV) requirements/demo.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml
	$(PYTHON) scripts/install.py $(VENV) requirements/dev.txt
	@touch $@

$(VENV)/.integration: requirements/integration.txt pyproject.toml
	$(PYTHON) scripts/install.py $(VENV) requirements/integration.txt
	@touch $@
