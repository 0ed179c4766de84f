# The two commands are `make demo` and `make test`; each makes the environment that it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: check test coverage test-slow chaos conformance demo clean
.DEFAULT_GOAL := test

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]' --group dev
	touch $@

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(STAMP)
	@sh tools/system_packages.sh dataset-fashion-mnist chromium postgresql
	$(BIN)/python -m pytest

# The same, slower by a sixth, with what it does not reach.
coverage: $(STAMP)
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m 'slow and not gpu and not peer' --timeout 3600

# Half an hour. Its table ends the output; AUTOOPT_CHAOS_RESULTS=results/reference/chaos.json keeps the figures.
chaos: $(STAMP)
	@sh tools/system_packages.sh postgresql
	$(BIN)/python -m pytest tests/chaos -m chaos

# Half an hour: every engine on every small network in every precision; the table is results/reference/conformance.md.
conformance: $(STAMP)
	$(BIN)/python benchmarks/conformance/conformance.py

demo: $(STAMP)
	@sh tools/system_packages.sh dataset-fashion-mnist
	$(BIN)/autoopt run examples/fashion_mnist/task.py:task --space quick --budget 9m45s \
		--name demo-$$(date +%Y%m%d-%H%M%S)

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
