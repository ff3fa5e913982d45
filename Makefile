# The verbs of a checkout. `make` alone says what there is; a machine with Python and make needs nothing else.

PYTHON ?= python3
VENV ?= .venv

# Settings of the person at the keyboard stay outside: another PYTHONPATH, startup file, kernel or test option
# would make this checkout behave differently here than elsewhere.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONWARNINGS PYTHONDONTWRITEBYTECODE PYTHONOPTIMIZE PYTHONUNBUFFERED
unexport VIRTUAL_ENV PYTEST_ADDOPTS MPLBACKEND JUPYTER_PATH JUPYTER_DATA_DIR NBFLOW_STATE_DIR
export PYTHONNOUSERSITE := 1
export JUPYTER_PREFER_ENV_PATH := 1
export JUPYTER_CONFIG_DIR := $(abspath $(VENV))/etc/jupyter
export IPYTHONDIR := $(abspath $(VENV))/etc/ipython
export MYPY_FORCE_COLOR := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

BIN := $(VENV)/bin
SOURCES := nbflow tests benchmarks
# Two files of tests at a time: most of them wait for kernels. One file stays together, for what its tests share.
SIDE_BY_SIDE := -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test check bench lint clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo    run a real analysis over twelve models, two at a time, and show the table'
	@echo 'make test    lint, types, and every test that is quick'
	@echo 'make check   every test, the long ones too, and the planted bugs that tests must catch'
	@echo 'make bench   measure, beside papermill and a bare thread pool; fills docs/performance.md'
	@echo 'make lint    lint and types alone'
	@echo 'make clean   remove $(VENV), caches, and what runs left in notebooks/'
	@echo
	@echo 'Needs Python 3.10 or newer: make PYTHON=python3.12 test   (or VENV=folder)'

demo: $(VENV)/.examples
	@$(BIN)/nbflow map notebooks/progression.ipynb --items notebooks/models.csv -j 2
	@echo; echo '  nbflow is in $(BIN):  export PATH="$(abspath $(BIN)):$$PATH"'
	@echo '  a workflow, with a question in it:  nbflow run notebooks/wine.yml'

test: lint
	@$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) -m 'not long'

check: lint $(VENV)/.browser
	@command -v chromium >/dev/null || { \
	  echo 'error: there is no chromium, in which the tests open notebooks; on Debian: sudo apt install chromium' >&2; exit 1; }
	@$(BIN)/python tests/mutants/run.py
	@$(BIN)/python -m pytest -q $(SIDE_BY_SIDE)

bench: $(VENV)/.dev
	@$(BIN)/python benchmarks

lint: $(VENV)/.dev
	@$(BIN)/ruff check --quiet $(SOURCES)
	@$(BIN)/ruff format --check --quiet $(SOURCES) || { \
	  echo 'error: some files are not formatted: $(BIN)/ruff format $(SOURCES)' >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary

clean:
	@rm -rf '$(VENV)' .pytest_cache .mypy_cache .ruff_cache .hypothesis notebooks/nbflow-runs
	@rm -f notebooks/*.nbflow.json
	@find nbflow tests benchmarks notebooks -name __pycache__ -prune -exec rm -rf {} +

# A stamp is younger than what it stands for, so the second call is instant; the venv ignores itself in git.
$(VENV)/.made:
	@command -v '$(PYTHON)' >/dev/null || { \
	  echo 'error: there is no $(PYTHON) here; name one: make PYTHON=/path/to/python3' >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "error: $$('$(PYTHON)' --version 2>&1) is too old; nbflow needs 3.10 or newer: make PYTHON=python3.12" >&2; exit 1; }
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo 'error: $(PYTHON) has no venv module; on Debian and Ubuntu: sudo apt install python3-venv' >&2; exit 1; }
	@echo 'making $(VENV) (once, a minute or two)'
	@'$(PYTHON)' -m venv --clear '$(VENV)'
	@echo '*' > '$(VENV)/.gitignore'
	@touch $@

$(VENV)/.examples: pyproject.toml $(VENV)/.made
	@$(BIN)/python -m pip install -q -e '.[examples]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.made
	@$(BIN)/python -m pip install -q -e '.[dev]'
	@touch $@ $(VENV)/.examples

$(VENV)/.browser: $(VENV)/.dev
	@$(BIN)/python -m pip install -q -e '.[dev,browser]'
	@touch $@
