# The commands of the course. `make` alone lists them; each makes the environment first if it is missing.

PYTHON ?= python3
VENV ?= .venv
UV ?= $(shell command -v uv 2>/dev/null)
BIN := $(VENV)/bin
# The stamp is named after the lock's checksum: a changed lock has no stamp, so the environment is made anew.
STAMP := $(VENV)/.made-from-lock-$(shell cksum < requirements.lock | cut -d ' ' -f 1)
NOTEBOOKS = $(shell find chapters -name '*.ipynb' -not -path '*/.ipynb_checkpoints/*')

# Tests and book share what JAX compiles. The inline figures of a notebook need MPLBACKEND to be unset.
export JAX_COMPILATION_CACHE_DIR := $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0.2
unexport MPLBACKEND

.DEFAULT_GOAL := help
.PHONY: help env book test site-check seeds lab lint student lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(STAMP) ## make the environment in .venv from requirements.lock

$(STAMP):
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else \
		"$(PYTHON) is Python %d.%d, and the course runs on 3.11, 3.12 or 3.13. " % v + \
		"Name another one: make PYTHON=python3.12")'
	@echo "Making the environment in $(VENV): once, a few minutes."
	$(PYTHON) -m venv --clear $(VENV)
ifneq ($(UV),)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
else
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
endif
	@touch $@

# Sphinx repeats a page's warnings only when it reads the page again. After a build that was not clean it must
# therefore read them all, or the second try would pass.
book: $(STAMP) ## run every notebook and build the site into _build/html
	@test -e _build/.clean || rm -rf _build/.doctrees
	@rm -f _build/.clean
	$(BIN)/jupyter-book build . -W -n --keep-going
	@touch _build/.clean

test: export GENAI_COURSE_PROGRESS := 0
test: export JAX_DEBUG_KEY_REUSE := 1
test: $(STAMP) ## run the unit tests, then every notebook; `make book` uses what these have printed
	MPLBACKEND=Agg $(BIN)/python -m pytest --jaxtyping-packages=genai_course,beartype.beartype tests --ignore=tests/site
	$(BIN)/python -m pytest -p _book.ext.nbval_to_book --nbval-lax --nbval-current-env --nbval-cell-timeout=300 chapters

site-check: $(STAMP) ## open every page of the built book in Chromium: looks, accessibility, links
	$(BIN)/python -m pytest -q tests/site

seeds: $(STAMP) ## run every notebook with four other root keys (slow): NOTEBOOK= names one
	$(BIN)/python tests/seeds.py $(NOTEBOOK)

lab: $(STAMP) ## open the course in JupyterLab
	$(BIN)/jupyter lab

lint: $(STAMP) ## check style, and that no notebook carries outputs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/nbstripout --keep-count --verify $(NOTEBOOKS)

student: $(STAMP) ## write a copy without solutions into student/
	$(BIN)/python _book/student.py

lock: ## renew requirements.lock within the bounds of pyproject.toml (needs uv)
	uv lock --upgrade
	uv export --quiet --locked --all-groups --no-header --no-annotate --format requirements-txt -o requirements.lock

clean: ## remove what the commands above made, except the environment
	rm -rf _build .cache student .pytest_cache .ruff_cache
