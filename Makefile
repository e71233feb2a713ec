# Two commands are all the set-up there is: `make test` and `make demo`. Each installs what it needs into this folder.

PYTHON ?= python3
BIN := .venv/bin
# Teacher environments of this checkout, apart from those the user may have elsewhere.
export HDISTILL_TEACHERS ?= $(CURDIR)/.teachers
export OMP_NUM_THREADS ?= 1
FAMILIES := sevennet chgnet torchani mace fairchem

.PHONY: help demo test test-long slurm lint types install teachers clean
help:
	@echo "make demo       label, distil and compare on a real teacher, in minutes"
	@echo "make test       everything that must hold: lint, types, tests with the real teachers"
	@echo "make test-long  the same with the tests that take long"
	@echo "make slurm      as root on Debian: a Slurm for the long tests of clusters, which skip without one"

demo: install $(HDISTILL_TEACHERS)/sevennet/installed
	$(BIN)/hdistill demo -o demo

test: install teachers lint types
	$(BIN)/pytest -n 2 --dist loadgroup -m "not long"

test-long: install teachers lint types
	$(BIN)/pytest -n 2 --dist loadgroup

# The tests start it on this one machine; nobody else needs it.
slurm:
	apt-get update
	apt-get install -y --no-install-recommends slurmctld slurmd munge

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy finds a package by its folder's name: give it a folder in which ours are called as they are imported.
types:
	@mkdir -p build/types/hdistill
	@for entry in __init__.py data labeler trainer pipelines; do ln -sfn ../../../$$entry build/types/hdistill/$$entry; done
	MYPYPATH=build/types $(BIN)/mypy

install: .venv/installed
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

teachers: $(FAMILIES:%=$(HDISTILL_TEACHERS)/%/installed)
$(HDISTILL_TEACHERS)/%/installed: labeler/teachers/registry.py | install
	$(BIN)/hdistill teachers install $*
	@touch $@

clean:
	rm -rf .venv .teachers build demo .mypy_cache .ruff_cache .pytest_cache
