# make up      install, start Prefect and a worker, register the deployments, check this machine's health
# make down    stop exactly what `make up` started
# make check   the fast inner loop: ruff, mypy, import-linter, unit tests
# make test    everything: unit, Prefect, lab; installs the Debian packages that it needs where it may
# make lab     what `upkeep lab up` needs beside `make up`
# make clean   remove what the tools left in the tree (not .venv, not the state in UPKEEP_HOME)

PIP = .venv/bin/python -m pip --disable-pip-version-check --quiet

.PHONY: up down check test lab clean
.DEFAULT_GOAL = up

up: .venv/installed
	@.venv/bin/upkeep up

down: .venv/installed
	@.venv/bin/upkeep down

check: .venv/installed-for-tests
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/pytest -q -n 4 --dist loadfile -m "not lab and not prefect and not long"  # most of them wait

test: .venv/installed-for-tests
	@.ci/test-packages
	.venv/bin/pytest -m "not long"

lab: .venv/installed
	@$(PIP) install -c constraints.txt -e '.[lab]'
	@echo 'as root: eval "$$(.venv/bin/upkeep lab up)"'

clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

.venv/installed: .venv/created pyproject.toml constraints.txt
	@echo "installing the pinned packages into .venv (a minute or two the first time)"
	@$(PIP) install -c constraints.txt -e .
	@touch $@

.venv/installed-for-tests: .venv/installed
	@echo "installing what the tests need into .venv"
	@$(PIP) install -c constraints.txt -e '.[lab,test]'
	@touch $@

# The first interpreter that is new enough; PYTHON=... says which to try first.
.venv/created:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    if ! "$$python" -c 'import venv, ensurepip' 2>/dev/null; then \
	        echo "$$python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
	        exit 1; \
	    fi; \
	    "$$python" -m venv .venv && touch $@; exit; \
	done; \
	echo "Upkeep needs Python 3.11 or newer, and found none; name one: make up PYTHON=/path/to/python3.11" >&2; \
	exit 1
