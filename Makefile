# Doors for contributors; CONTRIBUTING.md says how long each takes. `make` lists them.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install quick lint lua full
help: ## List the targets.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "%-9s %s\n", $$1, $$2 }'

install: $(BIN)/pytest ## Make .venv with everything that the tests need.
$(BIN)/pytest: pyproject.toml
	$(PYTHON) -m venv .venv && $(BIN)/pip install -q -e ".[test]" && touch $@

quick: install ## Run the inner loop: plain values, scripts, promises of the API.
	$(BIN)/python -m pytest -n 2 -q -m "not slow" tests/unit tests/broker tests/fundamentals

lint: install ## Check style, types and layers.
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

lua: install ## Run what concerns the Lua scripts alone.
	$(BIN)/python -m pytest -n 2 -q tests/broker tests/unit/test_includes.py tests/unit/test_settling.py

full: install ## Run everything, as CI does.
	$(BIN)/python -m pytest -n 2
