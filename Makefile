PYTHON ?= python3
BIN := .venv/bin
BUILD := build
# The environment of what lists that of this project.
INVENTORY := build/inventory
# Further flags for `make run`, `make lock` and `make audit`, for example ARGS="--shots 5 --seed 1".
ARGS ?=

export RAY_USAGE_STATS_ENABLED = 0
# Where this is set, every process of a run or a test would compile the project again.
unexport PYTHONDONTWRITEBYTECODE

# Each process takes one file at a time, in the order that tests/conftest.py sets. While a Ray starts
# it mostly waits, so two cores are kept busy by three processes.
PYTEST := $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder
# Which tests `suite` runs.
TIERS ?= not runs and not cluster
# Which files of tests on two hosts.
CLUSTER ?= tests/cluster

.PHONY: run test test-runs test-cluster check test-all docs lint types imports suite \
	lock supply sbom licences audit clean

run: .venv/installed
	$(BIN)/python -m tuning.launch $(ARGS)

# The types are not checked beside the suite: with a cold disk, several Rays that start at the same
# time leave each other waiting for minutes as it is.
test: lint imports types suite

# The documentation as a site, build/site/index.html.
docs: .venv/developing
	$(BIN)/python -m sphinx -W docs $(BUILD)/site

lint: .venv/developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/developing
	$(BIN)/mypy

imports: .venv/developing
	$(BIN)/lint-imports

suite: .venv/developing
	$(PYTEST) -n 3 -m "$(TIERS)"

# Whole runs that are resumed, extended or killed; with a database server and a browser if installed.
test-runs: .venv/developing
	$(PYTEST) -n 3 -m runs

# Two hosts on one machine, in network namespaces; needs root and iproute2.
test-cluster: .venv/developing
	$(BIN)/python -m pytest -m cluster $(CLUSTER)

# Everything that one host can test. In one session the processes have work to its end, and share the
# reference run.
check: TIERS := not cluster
check: lint imports types suite

test-all: check test-cluster

# The versions and hashes of everything that is installed. uv is used for nothing else.
lock:
	$(PYTHON) -m venv $(BUILD)/locking
	$(BUILD)/locking/bin/pip install --quiet uv==0.13.9
	$(BUILD)/locking/bin/python requirements/lock.py $(ARGS)

# What has been installed: a list in CycloneDX, the licences, and whether a weakness is known.
supply: sbom licences audit

# That the list is valid is tested: cyclonedx-py would check the form of 800 addresses, for a minute.
sbom: .venv/developing $(INVENTORY)/installed
	mkdir -p $(BUILD)
	$(INVENTORY)/bin/cyclonedx-py environment --no-validate --output-reproducible --pyproject pyproject.toml \
		--output-file $(BUILD)/sbom.json $(BIN)/python

licences: .venv/developing
	mkdir -p $(BUILD)
	$(BIN)/pip-licenses --output-file $(BUILD)/licences.txt

# Weaknesses that do not concern this project, each with its reason: --ignore-vuln=ID
EXCUSED :=

audit: .venv/developing
	$(BIN)/python requirements/audit.py $(EXCUSED) $(ARGS)

# What users need; with what only developing needs on top, `make run` needs nothing more. A project in
# a folder has no hash: it is installed after what it needs, and may fetch nothing.
.venv/installed: LOCK := run
.venv/developing: LOCK := dev
.venv/developing: EXTRAS := [dev]
.venv/installed .venv/developing: pyproject.toml requirements/run.txt requirements/dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --requirement requirements/$(LOCK).txt
	$(BIN)/pip install --quiet --no-index --no-build-isolation --editable '.$(EXTRAS)'
	touch .venv/installed $@

# Not where Ray is: it needs rfc3987-syntax, which every process that imports Ray would import, for
# two seconds or three.
$(INVENTORY)/installed: requirements/inventory.txt
	$(PYTHON) -m venv $(INVENTORY)
	$(INVENTORY)/bin/pip install --quiet --require-hashes --requirement $<
	touch $@

clean:
	rm -rf .venv $(BUILD) *.egg-info
