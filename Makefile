# `make book` builds the book, `make test` checks everything; both set up .venv first.
# Every recipe is a plain command that also works by hand: see CONTRIBUTING.md.

SHELL  := /bin/bash
VENV   := .venv
BIN    := $(VENV)/bin
SPHINX := .venv-sphinx
PYTHON ?= $(shell command -v python3.11 || command -v python3)

# Progress bars in stored outputs would never be the same twice.
export WSP_PROGRESS := 0
export PYTHONHASHSEED := 0
# Tests run side by side, a process a core; threads inside them would only get in the way.
export OMP_NUM_THREADS := 1

UNIT  := $(BIN)/python -m pytest --doctest-modules -n 2 --dist loadfile --durations 40
NBVAL := $(BIN)/python -m pytest --nbval --nbval-current-env --nbval-cell-timeout=300 \
         --nbval-sanitize-with=tests/wall_clock.cfg -n 2 --dist loadfile --color=no
LOGS  := _build/logs
# The names that tests/conftest.py looks for.
BROWSER := command -v chromium chromium-browser google-chrome

.DEFAULT_GOAL := help
.PHONY: help book test notebooks results verify types sphinx clean

help:  ## say what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Made anew when what it is made from changes.
$(VENV)/.installed: requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Warm Starts needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	@touch $@

book: $(VENV)/.installed  ## build the HTML in _build/html (executes nothing)
	$(BIN)/jupyter-book build . -W -n --keep-going
	@echo "Open _build/html/index.html"

# Both halves always run; their closing lines are printed once more at the end.
test: $(VENV)/.installed  ## unit tests, then re-execute every chapter and compare every output
	@mkdir -p $(LOGS); set -o pipefail; status=0; \
	$(UNIT) 2>&1 | tee $(LOGS)/unit.txt || status=1; \
	$(NBVAL) book 2>&1 | tee $(LOGS)/nbval.txt || status=1; \
	echo; echo "unit tests:"; tail -n 1 $(LOGS)/unit.txt; \
	echo "chapters (nbval; in a mismatch the stored output is left, this run's right):"; \
	tail -n 1 $(LOGS)/nbval.txt; \
	echo "pages in a browser: $$($(BROWSER) || echo "NOT TESTED: no Chromium is installed here")"; \
	exit $$status

notebooks: $(VENV)/.installed  ## run every chapter and store its outputs (CHAPTER=book/05_... for one)
	$(BIN)/python book/execute.py $(CHAPTER)

# Niced, for they take hours; what was begun goes on where it was stopped.
results: $(VENV)/.installed  ## compute stored results that are missing or do not come out any more
	WSP_PROGRESS=1 nice $(BIN)/python -m wsp.studies all --resume --note

verify: $(VENV)/.installed  ## run a slice of every stored result again, and note which came out
	nice $(BIN)/python -m wsp.studies check --note

types: $(VENV)/.installed  ## check types and style
	$(BIN)/mypy
	$(BIN)/ruff check .

# Beside .venv and before it on the path: it holds only what Jupyter Book 1 keeps back.
$(SPHINX)/.installed: $(VENV)/.installed requirements-sphinx.txt
	test -x $(SPHINX)/bin/python || $(BIN)/python -m venv $(SPHINX)
	packages='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	$(BIN)/python -c "$$packages" > "$$($(SPHINX)/bin/python -c "$$packages")/packages-of-venv.pth"
	$(SPHINX)/bin/python -m pip install --quiet --no-warn-conflicts -r requirements-sphinx.txt
	@touch $@

# Sphinx reads the configuration that Jupyter Book writes, less Jupyter Book's own extensions.
sphinx: $(SPHINX)/.installed  ## build with today's Sphinx in _build/sphinx: the way out of Jupyter Book 1
	$(BIN)/jupyter-book config sphinx .
	echo 'extensions = [e for e in extensions if e not in ("jupyter_book", "sphinx_comments", "sphinx_thebe")]' >> conf.py
	PYTHONPATH=.:book/_ext $(SPHINX)/bin/python -m sphinx -n --keep-going -d _build/sphinx-doctrees . _build/sphinx
	@echo "Open _build/sphinx/index.html"

clean:  ## remove what the others made
	rm -rf $(VENV) $(SPHINX) conf.py _build build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find wsp tests book data -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
