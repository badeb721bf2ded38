# `make demo`: tag the example call with the bundled model.  `make test`: lint, types, all tests.
# Both set up .venv by themselves; `make help` lists the rest.

PYTHON ?= python3.11
VENV := .venv
INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test test-browser browser lint types unit format train results benchmark clean

help: ## This list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

demo: $(VENV)/.installed ## Tag examples/call.vtt.
	@$(VENV)/bin/listening-clf predict examples/call.vtt

test: lint types unit ## Lint, types, all tests.

lint: $(VENV)/.developing ## ruff: rules and format.
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.developing ## mypy --strict.
	$(VENV)/bin/mypy

unit: $(VENV)/.developing ## All tests.
	$(VENV)/bin/python -m pytest

test-browser: browser $(VENV)/.developing ## The tests of the page, in Chromium, which it installs (Debian).
	$(VENV)/bin/python -m pytest tests/test_page.py

browser:
	@command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium)

format: $(VENV)/.developing ## Put the code into shape.
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

train: $(VENV)/.developing ## Make the bundled model and its teacher anew, in runs/ (see CONTRIBUTING.md).
	$(VENV)/bin/python -m training.make small

results: $(VENV)/.developing ## The tables of the model card.
	$(VENV)/bin/python -m training.results

benchmark: $(VENV)/.developing ## Speed, memory and accuracy beside what people would use instead.
	$(VENV)/bin/python -m benchmarks.run

clean: ## Forget the environment and the caches.
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(INSTALL) --editable ".[dev]"
	@touch $@
