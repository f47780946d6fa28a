# Every target builds .venv by itself. To choose the build of torch: make test TORCH=torch==2.13.0
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH ?=
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test slow browser lint format clean

demo: $(STAMP)
	$(BIN)/python examples/demo.py

# One thread for each test process: more of them only fight over the cores.
test slow browser: export OMP_NUM_THREADS = 1

test: lint
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

slow: $(STAMP)
	$(BIN)/python -m pytest -q -m "slow and not gpu and not data and not browser"

browser: $(STAMP)
	$(BIN)/python -m pytest -q -m browser

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH),$(BIN)/pip install $(TORCH))
	$(BIN)/pip install -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
