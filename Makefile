# Two commands are all the set-up there is: `make test` and `make demo`. Each installs what it needs into this folder.

PYTHON ?= python3
BIN := .venv/bin
# Teacher environments of this checkout, apart from those the user may have elsewhere.
export HDISTILL_TEACHERS ?= $(CURDIR)/.teachers
export OMP_NUM_THREADS ?= 1
FAMILIES := sevennet chgnet torchani mace fairchem
# Benchmarks are scripts: what they call must be there and take what it is given; the rest is theirs.
LOOSER := --allow-untyped-defs --allow-incomplete-defs --allow-untyped-calls --no-warn-return-any --no-warn-unused-ignores \
	--allow-subclassing-any --disable-error-code misc
PYTEST := -n 2 --dist loadgroup --durations 10
# What is installed in .venv: enough to label, fit and draw, or all that tests and checks need besides.
FOR_DEMO := .venv/installed-for-demo
FOR_TESTS := .venv/installed-for-tests

.PHONY: help demo test test-long slurm browser lint types install teachers clean
help:
	@echo "make demo       label, distil and compare on a real teacher, in minutes"
	@echo "make test       everything that must hold: lint, types, tests with the real teachers"
	@echo "make test-long  the same with the tests that take long"
	@echo "make browser    as root on Debian: Chromium, for the tests of the report's page, which skip without one"
	@echo "make slurm      as root on Debian: a Slurm for the long tests of clusters, which skip without one"

demo: $(FOR_DEMO) $(HDISTILL_TEACHERS)/sevennet/installed
	$(BIN)/hdistill demo -o demo

test: install teachers lint types
	$(BIN)/pytest $(PYTEST) -m "not long"

test-long: install teachers lint types
	$(BIN)/pytest $(PYTEST)

# The tests start it on this one machine; nobody else needs it.
slurm:
	apt-get update
	apt-get install -y --no-install-recommends slurmctld slurmd munge

# In which the report's page is looked at.
browser:
	apt-get update
	apt-get install -y --no-install-recommends chromium

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy finds a package by its folder's name: give it a folder in which ours are called as they are imported.
types:
	@mkdir -p build/types/hdistill
	@for entry in __init__.py data labeler trainer pipelines; do ln -sfn ../../../$$entry build/types/hdistill/$$entry; done
	MYPYPATH=build/types $(BIN)/mypy
	@ln -sfn ../benchmarks build/benchmarks
	MYPYPATH=build/types:build/benchmarks:build/types/hdistill/labeler/process $(BIN)/mypy $(LOOSER) --explicit-package-bases build/benchmarks/*.py

install: $(FOR_TESTS)
$(FOR_TESTS): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable ".[dev]"
	@touch $(FOR_DEMO) $@

$(FOR_DEMO): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable ".[label,plot]"
	@touch $@

teachers: $(FAMILIES:%=$(HDISTILL_TEACHERS)/%/installed)
$(HDISTILL_TEACHERS)/%/installed: labeler/teachers/registry.py | $(FOR_DEMO)
	$(BIN)/hdistill teachers install $*
	@touch $@

clean:
	rm -rf .venv .teachers build demo .mypy_cache .ruff_cache .pytest_cache
