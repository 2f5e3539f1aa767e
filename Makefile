# make demo   set up and run the main job in miniature
# make test   set up and run linter, type checker and tests
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# tau2-bench's airline data: named by TAU2_DATA_DIR, or beside the checkout; the demo uses it where it is.
DATA := $(firstword $(wildcard $(TAU2_DATA_DIR)/tau2/domains/airline $(TAU2_DATA_DIR) ../shared/tau2_airline))

.PHONY: setup demo test lint types unit format clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Banty needs Python 3.11 or later; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: setup
	@echo "== A generated world"
	@$(BIN)/banty train recipes/habits.toml
ifneq ($(DATA),)
	@echo "== The published tau2 database in $(DATA)"
	@$(BIN)/banty train recipes/habits.toml env.name=airline/full env.options.data=$(DATA)
else
	@echo "== No tau2-bench data found (set TAU2_DATA_DIR); the second half of the demo is left out"
endif

test: lint types unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

unit: setup
	$(BIN)/pytest --numprocesses auto --dist loadfile

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
