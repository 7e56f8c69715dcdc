# Two entries matter: `make demo` and `make test`. Each makes the environment it needs.
PYTHON ?= python3
WORKERS ?= 2
DEMO := .venv/bin/python
VENV ?= .venv-test
TEST := $(VENV)/bin/python
DEV := .venv-dev/bin

.PHONY: demo tutorial test unit compat report bench lint format clean

demo: .venv/ready
	$(DEMO) -m jtorch examples/digits_cnn.py --out digits.png

tutorial: .venv/ready
	$(DEMO) -m jtorch examples/tutorial.py

# Unit and compat tests, in both execution modes.
test: unit compat

unit: $(VENV)/ready
	JTORCH_EXECUTION=eager $(TEST) -m pytest tests -n $(WORKERS) --dist worksteal -q
	JTORCH_EXECUTION=deferred $(TEST) -m pytest tests -n $(WORKERS) --dist worksteal -q

# Every battery, module and optimizer in both modes; of the operations' database forward and gradient in the default mode.
compat: $(VENV)/ready
	$(TEST) -m pytest compat -n $(WORKERS) --dist worksteal -q --samples 1 --ignore=compat/test_opinfo.py
	$(TEST) -m pytest compat/test_opinfo.py -n $(WORKERS) --dist worksteal -q --samples 1 --mode deferred \
		-k "test_forward or test_gradient"

# The whole database, all checks, both modes: over half an hour on two cores. Writes compat/REPORT.md.
report: $(VENV)/ready
	$(TEST) -m pytest compat -n $(WORKERS) --dist worksteal -q --report

# Training steps side by side with torch's. Writes compat/bench/RESULTS.md.
bench: $(VENV)/ready
	$(TEST) -m compat.bench

lint: .venv-dev/ready
	$(DEV)/python -m jtorch._tensor.stubs --check
	$(DEV)/ruff check .
	$(DEV)/ruff format --check .
	$(DEV)/pyright --pythonpath $(DEV)/python
	$(DEV)/lint-imports

format: .venv-dev/ready
	$(DEV)/python -m jtorch._tensor.stubs
	$(DEV)/ruff check --fix .
	$(DEV)/ruff format .

# Without PyTorch: what a user has.
.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(DEMO) -m pip install --quiet -e ".[examples]"
	touch $@

# With PyTorch as the oracle.
$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(TEST) -m pip install --quiet -e ".[test,compat,examples]"
	touch $@

.venv-dev/ready: pyproject.toml
	$(PYTHON) -m venv .venv-dev
	$(DEV)/python -m pip install --quiet -e ".[dev]"
	touch $@

clean:
	rm -rf .venv .venv-test .venv-dev build *.egg-info .pytest_cache .ruff_cache .import_linter_cache
