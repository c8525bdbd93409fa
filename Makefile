# Every target does its own set-up. It takes Python 3.11 or later with pip, make and git; nothing else.

VENV ?= .venv
PYTEST_ARGS ?=
# The first interpreter that is new enough, found by running it: a name on the path proves nothing.
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo "$$python"; break; fi; done)

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo demo-azure test check format docs bench clean

help:
	@echo 'make demo    encrypt, read, attack, rotate: a tour on real data, in under two minutes'
	@echo 'make demo-azure  the same with keys in a local Azure Key Vault'
	@echo 'make test    all tests'
	@echo 'make check   lint, formatting, types, and which module may import which'
	@echo 'make format  format the code and mend what ruff can mend'
	@echo 'make docs    build the documentation into site/'
	@echo 'make bench   measure against a plain copy and against other programs'
	@echo 'make clean   remove everything that these targets made'

demo: $(VENV)/.demo
	$(BIN)/python demo/flights.py

demo-azure: $(VENV)/.demo,testing
	$(BIN)/python demo/keyvault.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist worksteal $(PYTEST_ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An extra is installed again whenever pyproject.toml changes.
$(VENV)/.dev $(VENV)/.demo $(VENV)/.demo,testing $(VENV)/.bench: $(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	@echo 'Installing into $(VENV) (extra $*) …'
	@$(PIP_INSTALL) --editable '.[$*]'
	@touch $@

# An empty environment, here or at any other path. Debian splits ensurepip off into a package of
# its own; without it, the pip that is there fills the environment.
%/bin/python:
	$(if $(PYTHON),,$(error Python 3.11 or later is needed: set PYTHON to it))
	@$(PYTHON) -m venv $* >/dev/null 2>&1 || \
		{ $(PYTHON) -m venv --clear --without-pip $* && \
		  $(PYTHON) -m pip --quiet --disable-pip-version-check --python $@ install pip; }
