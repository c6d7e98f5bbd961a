PYTHON ?= python3
BIN := .venv/bin
# Further flags for `make run`, for example ARGS="--shots 5 --seed 1".
ARGS ?=

export RAY_USAGE_STATS_ENABLED = 0

.PHONY: run test test-cluster lint types imports suite clean

run: .venv/installed
	$(BIN)/python -m tuning.launch $(ARGS)

test: lint types imports suite

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy

imports: .venv/installed
	$(BIN)/lint-imports

suite: .venv/installed
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder --ignore=tests/cluster

# Two hosts on one machine, in network namespaces; needs root and iproute2.
test-cluster: .venv/installed
	$(BIN)/python -m pytest tests/cluster

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
