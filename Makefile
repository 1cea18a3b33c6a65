# Every verb makes or repairs .venv first; nothing else has to be done by hand.

PYTHON ?= $(shell for python in python3.11 python3 python; do $$python -c '' 2>/dev/null && echo $$python && break; done)
VENV := .venv/bin

# The caller's own packages must not leak in.
unexport PYTHONPATH PYTHONHOME
# Without bytecode each of a dozen processes would compile TensorFlow anew: 13 s instead of 5.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow check bench format proto lock clean

help: ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r verb line; do \
	  printf '  make %-10s %s\n' "$$verb" "$$line"; done

install: ## make or repair .venv from the lock
	@$(if $(PYTHON),,$(error no Python found: install Python 3.11, or say where it is: make PYTHON=/path/to/python3.11))$(PYTHON) infra/bootstrap.py

demo: install ## train three versions, roll them out under live traffic, throw the bad one out
	$(VENV)/fraudops demo

test: install ## run the tests
	$(VENV)/python -m pytest

test-slow: install ## run the slow tests
	$(VENV)/python -m pytest -m slow

check: install ## lint, formatting, types and import contracts
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	$(VENV)/mypy
	$(VENV)/lint-imports

bench: install ## list the benchmarks
	$(VENV)/fraudops bench

format: install ## format the code and repair what lint can
	$(VENV)/ruff check --fix-only
	$(VENV)/ruff format

proto: install ## generate the code of schemas/*.proto
	$(VENV)/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. --grpc_python_out=. schemas/scoring.proto
	$(VENV)/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. schemas/tf_serving.proto

# Keeps what is locked; `make lock LOCK_FLAGS=--upgrade` takes the newest.  The platform is named so that the lock does
# not depend on the machine it is made on.
lock: ## resolve setup.cfg and the overrides into the hashed lock (needs uv)
	uv pip compile setup.cfg --extra dev --override infra/python/overrides.txt --generate-hashes \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command 'make lock' --quiet --output-file infra/python/lock.txt $(LOCK_FLAGS)

clean: ## remove .venv, caches and builds
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find components infra pipelines schemas serving tests -name __pycache__ -type d -prune -exec rm -rf {} +
