# Two commands matter: `make demo` and `make test`. Both set up what they need.
SHELL := /bin/bash
PYTHON ?= python3
FIND_LINKS := $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))
# Environments without bytecode make every import of the training libraries several times slower.
unexport PYTHONDONTWRITEBYTECODE
export PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK = 1
DEMO_ARGS ?=
TEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check setup doctor bench matrix docs wheel clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: setup  ## set up, then run the main job: train in isolation, prove, verify offline
	.venv/bin/assay demo $(DEMO_ARGS)

# Whole files per process: fixtures that train a model are made once. Memory: each process may hold a torch.
test: setup  ## set up, then run every check and every test
	deploy/setup/system-packages --images --sandboxes
	.venv/bin/ruff format --check . && .venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(TEST_ARGS)

check: setup  ## formatting, lint, types, import contracts and the fast tests (under a minute)
	.venv/bin/ruff format --check . && .venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python -m pytest -q -m "not sandbox and not training and not chaos and not images"

doctor: setup  ## try every hostile probe inside the real sandbox of this machine
	.venv/bin/assay doctor

bench: setup  ## measure what runs, intake, sandboxes and harvest cost over the bare operation (docs/benchmarks.md)
	.venv/bin/python benchmarks/overhead.py
	.venv/bin/python benchmarks/intake.py
	.venv/bin/python benchmarks/sandboxes.py
	.venv/bin/python benchmarks/harvest.py

matrix: setup  ## run the hostile probes behind every driver and write docs/security/isolation-matrix.md
	.venv/bin/python docs/security/generate_matrix.py

docs: setup  ## write the tables in docs/ that the code knows better
	.venv/bin/python docs/generate.py

wheel: setup  ## build the appliance and the verifier as wheels into dist/
	.venv/bin/uv build --wheel -o dist . && .venv/bin/uv build --wheel -o dist attestation

clean:  ## remove the environment and the demo's home
	rm -rf .venv assay-demo dist

setup: .venv/.ok  ## install Debian packages (when allowed) and the pinned Python environment
	@deploy/setup/system-packages --check

.venv/.ok: pyproject.toml constraints.txt deploy/setup/system-packages
	deploy/setup/system-packages
	deploy/setup/python-environment "$(PYTHON)" "$(FIND_LINKS)"
	touch $@
