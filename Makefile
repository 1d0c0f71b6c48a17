# Every target sets up what it needs, from nothing but Python >= 3.11, make and git.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: repro test check lock install pretrain

repro: install  ## chunk -> crops -> model -> metrics; only what is not up to date runs
	PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro

test: install  ## all tests; the slow ones last
	$(BIN)/python -m pytest

check: install  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

pretrain: install  ## makes weights/x3d_xs.safetensors again: an hour or so on two cores
	$(BIN)/unmask pretrain

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -c 'import sys; assert sys.version_info >= (3, 11), "Python >= 3.11 is needed"'
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

lock: $(INSTALLED)  ## pin every package anew, with hashes and without an index
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	  --output-file requirements.lock pyproject.toml
