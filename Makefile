# make demo   set up, train the small model that comes with Banty, and write a report: some 5 minutes on two cores
# make test   set up and run linter, type checker and tests
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test lint types unit format clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Banty needs Python 3.11 or later; set PYTHON=")'
	$(PYTHON) -m venv .venv
	@# Without a GPU, torch's CPU build: the usual one brings gigabytes of CUDA. Where it is out of reach, pip's choice.
	@if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --retries 0 --timeout 10 \
			--index-url https://download.pytorch.org/whl/cpu --constraint constraints.txt torch \
			|| echo "torch's CPU build is out of reach; taking what pip finds"; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: setup
	$(BIN)/banty train recipes/demo.toml

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
