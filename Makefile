# For users: make quickstart, make docs. For work on the code: make test, make test-fast. All make the virtual environment .venv if
# it is absent.
# A CPU-only torch: put it into .venv first (see README), it is then kept.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What the quickstart installs beside the package: what the specs that ship need.
EXTRAS ?= specs

.PHONY: quickstart docs test test-fast check format boards faults attack fuzz release-check bench clean

quickstart: $(VENV)/.installed
	$(BIN)/hdapbench run specs/quickstart.yaml

# The documentation as pages; a dead link or anchor is an error.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --config-file docs/site/mkdocs.yml
	@echo "open site/index.html; its search needs a server: $(BIN)/python -m http.server --directory site"

# Two processes share the files of tests; benchmarks, which compare times, run alone.
test: check
	$(BIN)/python -m pytest tests -n 2 --dist loadfile --benchmark-disable
	$(BIN)/python -m pytest benchmarks

# At most three minutes on two cores; tests/slow.txt lists the tests that it leaves out.
test-fast: $(VENV)/.installed-test
	$(BIN)/python -m pytest tests -m 'not slow and not data' -n 2 --benchmark-disable

check: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Every committed board is what the results beside it render.
boards: $(VENV)/.installed
	$(BIN)/hdapbench results check leaderboards

# About half an hour on two cores; docs/reliability.md is written by it. FAULTS="--executor process" runs all in worker processes.
faults attack: $(VENV)/.installed-test
	$(BIN)/python -m tests.faults --write $(FAULTS)

# 100,000 inputs, guided by coverage where atheris is installed.
fuzz: $(VENV)/.installed-test
	$(BIN)/python -m tests.faults --only fuzz --inputs 100000 --minutes 600 --write

# Known flaws and licences of what is installed; needs a network, and says so where there is none.
release-check: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --editable '.[release]'
	$(BIN)/python -m tests.release

bench: $(VENV)/.installed-test
	$(BIN)/python -m pytest benchmarks --benchmark-only

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "hdapbench needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing hdapbench[$(EXTRAS)]; ultralytics, which YOLO needs, is AGPL-3.0; without it: make quickstart EXTRAS=amc,nni,onnx"
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-docs

clean:
	rm -rf $(VENV) .hdapbench build site *.egg-info
