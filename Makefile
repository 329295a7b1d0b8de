PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test page claims studies gallery speed faults clean
demo: .venv/ready
	$(BIN)/nolabel demo

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pytest -n 2

# The explorer's page, from its sources: needs Node; what it makes is committed.
page:
	cd frontend && npm ci --silent --no-audit --no-fund && npm run --silent build

# Measured results: NOLABEL_DATA names the folder of the public data sets.
claims: .venv/ready
	$(BIN)/python -m benchmarks.claims

studies: .venv/ready
	$(BIN)/python -m benchmarks.studies.auto
	$(BIN)/python -m benchmarks.studies.selection

gallery: .venv/ready
	$(BIN)/python -m benchmarks.gallery

speed: .venv/ready
	$(BIN)/python -m benchmarks.speed

# Kills and damaged inputs by the hundred and the thousand; what came of them is committed.
faults: .venv/ready
	$(BIN)/python -m tests.faults kills --number 100 --seed 7 --out tests/faults/kills.json
	$(BIN)/python -m tests.faults inputs --number 5000 --seed 7 --out tests/faults/inputs.json

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch .venv/ready

clean:
	rm -rf .venv build dist
