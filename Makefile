# Everything happens in .venv, with the versions of constraints.txt.
# A variable can be set on the command line: make run ARGS="--seed 1", make test PYTEST_ARGS="-k salun".

PYTHON ?= $(firstword $(foreach name,python3.11 python3,$(shell command -v $(name))))
ARGS ?=
# Two processes, one test file never split over both, so that what a file prepares is prepared once. Files go in order:
# by default those with the fewest tests come last, and among them are the longest.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder --durations=15

# Real data for the tests that use it, as a folder beside the checkout. Without it those tests are skipped.
UNLEARNBENCH_DATA ?= $(realpath $(wildcard ../shared/data))
ifneq ($(strip $(UNLEARNBENCH_DATA)),)
export UNLEARNBENCH_DATA
endif

BIN := .venv/bin
STAMP := .venv/.installed
# The verifier stands alone: it needs neither the host nor a plugin.
PARTS := verifier $(sort $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml)))
PROJECTS := pyproject.toml $(addsuffix /pyproject.toml,$(PARTS))

.DEFAULT_GOAL := help
.PHONY: help setup run test slow check fix docs site check-submissions build smoke constraints clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## create .venv and install the host, the verifier, every plugin and the tools

# The build backend comes first and pinned, so that building our own distributions fetches nothing.
# The pip that comes with Python 3.11 cannot read dependency groups, so pip comes first as well.
$(STAMP): constraints.txt $(PROJECTS)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip hatchling editables
	@echo "Installing the host, its plugins and the tools; the first time, torch is a download of some gigabytes."
	$(BIN)/python -m pip install --constraint constraints.txt --no-build-isolation --group dev \
		--editable . $(addprefix --editable ./,$(PARTS))
	touch $@

run: setup ## forget with SalUn on real data and show the table; more options through ARGS
	$(BIN)/unlearnbench run --unlearner salun $(ARGS)

test: setup ## run all tests
	$(BIN)/pytest $(PYTEST_ARGS)

slow: setup ## thresholds that take an hour of training; what was trained is kept in build/slow-store
	$(BIN)/pytest -m slow -p no:xdist --durations=15 tests/test_target_acceptance.py

check: setup ## lint, types, import contracts, metadata; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/validate-pyproject $(PROJECTS)

fix: setup ## let ruff format the code and mend what it safely can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## write the generated reference, and the output that the documents show, anew
	$(BIN)/python tools/reference.py
	$(BIN)/python tools/examples.py README.md docs/tutorial/*.md docs/how-to/*.md plugins/*/README.md verifier/README.md

site: setup ## build the documentation into build/site, and the boards of leaderboard/ into build/site/leaderboard
	$(BIN)/mkdocs build --strict
	$(BIN)/unlearnbench leaderboard build --output build/site/leaderboard

check-submissions: setup ## hold what lies in leaderboard/ to the rules for submissions, as every pull request is
	$(BIN)/pytest -q tests/test_committed_submissions.py

build: setup ## build every sdist, and every wheel from its sdist, into dist/
	rm -rf dist
	for project in . $(PARTS); do $(BIN)/python -m build --no-isolation --outdir dist "$$project" || exit 1; done
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

smoke: ## install the wheels of dist/ into an environment of their own and use them there
	$(BIN)/python tools/smoke_wheels.py dist

# What a release needs, for every distribution or for some: make release-check ONLY="salun baselines"
.PHONY: release-check
release-check: setup ## build, inspect and install every distribution as a release would, and run the kit on it
	$(BIN)/python tools/release_check.py $(addprefix --only ,$(ONLY))

constraints: setup ## write the third-party versions of .venv into constraints.txt
	head -n 2 constraints.txt > .venv/constraints.txt
	$(BIN)/python -m pip freeze --all --exclude-editable | grep -v -i -e '^unlearnbench' -e ' @ ' \
		| LC_ALL=C sort -f >> .venv/constraints.txt
	mv .venv/constraints.txt constraints.txt

clean: ## remove what was built and cached; .venv and runs/ stay
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
