# Every verb makes or repairs .venv first; nothing else has to be done by hand.

PYTHON ?= $(shell for python in python3.11 python3 python; do $$python -c '' 2>/dev/null && echo $$python && break; done)
VENV := .venv/bin

# The caller's own packages must not leak in.
unexport PYTHONPATH PYTHONHOME
# Without bytecode each of a dozen processes would compile TensorFlow anew: 13 s instead of 5.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install airflow demo test test-slow check bench format proto lock clean

help: ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r verb line; do \
	  printf '  make %-10s %s\n' "$$verb" "$$line"; done

install: ## make or repair .venv from the lock
	@$(if $(PYTHON),,$(error no Python found: install Python 3.11, or say where it is: make PYTHON=/path/to/python3.11))$(PYTHON) infra/bootstrap.py

# The copy of the lock is written last: where it is there and the same, the environment is whole.
airflow: install ## make .airflow, Airflow's own environment, from its lock
	@cmp -s infra/airflow/lock.txt .airflow/lock.txt || { rm -rf .airflow && $(VENV)/python -m venv .airflow && \
	  .airflow/bin/python -I -m pip install --quiet --no-deps --require-hashes --requirement infra/airflow/lock.txt && \
	  cp infra/airflow/lock.txt .airflow/lock.txt; }

demo: install ## train three versions, roll them out under live traffic, throw the bad one out
	$(VENV)/fraudops demo

# Files stay whole, because their tests share what is costly to make.  Each process takes up to 4 GiB.
TEST_PROCESSES = 2
test: install ## run the tests
	$(VENV)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile

test-slow: install airflow ## run the slow tests
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

# Keeps what is locked; `make lock LOCK_FLAGS=--upgrade` takes the newest.  The platform is named so that the locks do
# not depend on the machine they are made on.  The images' locks hold the versions of the whole one, with which the tests
# run.
LOCKED_ALIKE = --generate-hashes \
  --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-emit-index-url --no-emit-find-links \
  --custom-compile-command 'make lock' --quiet $(LOCK_FLAGS)
COMPILE = uv pip compile setup.cfg --override infra/python/overrides.txt $(LOCKED_ALIKE)
AS_LOCKED = --constraint infra/python/lock.txt
lock: ## resolve setup.cfg and the overrides into the hashed locks (needs uv)
	$(COMPILE) --extra pipeline --extra kubeflow --extra dev --output-file infra/python/lock.txt
	$(COMPILE) $(AS_LOCKED) --extra pipeline --extra kubeflow --extra postgresql --output-file infra/python/pipeline.lock
	$(COMPILE) $(AS_LOCKED) --output-file infra/python/serving.lock
	uv pip compile infra/airflow/requirements.txt $(LOCKED_ALIKE) --output-file infra/airflow/lock.txt

clean: ## remove .venv, caches and builds
	rm -rf .airflow .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find components infra pipelines schemas serving tests -name __pycache__ -type d -prune -exec rm -rf {} +
