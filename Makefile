# Each target sets up what it needs, in .venv, and can be called first. CI calls `make test` and `make check`.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test check bench bench-quality docs clean
.DEFAULT_GOAL := demo

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Zeuxis needs Python 3.11 or newer: make PYTHON=python3.11')"
	$(PYTHON) -m venv $(VENV)
	@# torch first: what depends on it must not choose another build of it.
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev,metrics,export,video]"
	@touch $(READY)

demo: $(READY)
	@$(BIN)/zeuxis demo

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python benchmarks/speed_guard.py

bench: $(READY)
	$(BIN)/python benchmarks/run_speed.py

bench-quality: $(READY)
	$(BIN)/python benchmarks/run_quality.py

docs: $(READY)
	$(BIN)/python docs/make_reference.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist
