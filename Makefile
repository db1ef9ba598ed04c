# `make` alone lists the targets. Each one first sets up .venv when that is missing or its ingredients have changed.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup train test test-image bench chaos results lint release-check clean

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s  %s\n", $$1, $$2 }' Makefile
	@echo '  ARGS="..." is passed on: make train ARGS="--scenario single", make test ARGS="tests/envs -x"'

# One make at a time; the second one finds the work done. The lock is on this very file and ends with its holder.
setup: ## build .venv with the exact versions of constraints.txt
	@flock --nonblock Makefile true || echo "Waiting for another make that sets up $(VENV), 30 minutes at most."
	@flock --wait 1800 --conflict-exit-code 75 Makefile $(MAKE) --silent $(READY) || { code=$$?; \
	  [ $$code != 75 ] || echo "make: another make has been setting up $(VENV) for 30 minutes; end it and try again" >&2; \
	  exit $$code; }

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) $(NEW_ENOUGH) || { \
	  echo "make: $(PYTHON) is missing or older than 3.11; name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV): fetching and installing what constraints.txt lists, a few minutes the first time."
	@$(VENV)/bin/python $(NEW_ENOUGH) 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[bench,dev]'
	@echo "Compiling loops."
	@$(VENV)/bin/python -m collectors.preload
	@touch $@

train: setup ## train on grid4x4 with four simulations
	@exec $(VENV)/bin/python train_rl.py --num-envs 4 $(ARGS)

test: setup ## run the tests
	@exec $(VENV)/bin/python -m pytest $(ARGS)

test-image: setup ## build the image and try it, with Docker or without; ten to twenty minutes the first time
	@exec docker/test-image.sh $(ARGS)

bench: setup ## measure everything and write docs/benchmarks.md, half an hour on a quiet machine
	@exec $(VENV)/bin/python -m benchmarks $(ARGS)

chaos: setup ## do harm to real runs and write docs/reliability.md, half an hour on a quiet machine
	@exec $(VENV)/bin/python -m chaos $(ARGS)

results: setup ## train on several maps, hold policies against every yardstick and write docs/results.md, hours
	@exec $(VENV)/bin/python -m results $(ARGS)

lint: setup ## check style, format and types, and the image's files
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy .
	@$(VENV)/bin/hadolint docker/Dockerfile
	@$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker/compose*.yaml
	@$(VENV)/bin/shellcheck .ci/run docker/*.sh

release-check: setup ## say whether what is checked out may be released: version, CHANGELOG, tags, then every check
	@$(VENV)/bin/python .ci/release_check.py
	@$(MAKE) lint test test-image
	@version=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml); \
	  echo "may be released:  git tag -a v$$version -m 'Platoon $$version' && git push origin v$$version"

clean: ## remove .venv and every cache; runs/ stays
	@rm -rf $(VENV) build ./*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
