# For whoever has Python 3.11 or newer, and make: all is set up in ./venv3, and nothing outside of this folder.

VENV := venv3
BIN := $(VENV)/bin
RUNS := $(VENV)/.runs
TOOLS := $(VENV)/.tools

# Given to pytest and to the others as they are: make tests PYTEST_ARGS='-k retry', -n 0 for one after the other
PYTEST_ARGS ?=
SIDE_BY_SIDE := -n auto --dist worksteal
QUICK := tests/unit tests/golden
BENCH_ARGS ?=
PEERS_ARGS ?=
MUTANTS_ARGS ?=

PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

# Runs a command inside a recipe and shows what it said only where it fails.
QUIETLY = said=$$($(1) 2>&1) || { echo "$$said" >&2; exit 1; }

# Each candidate is run, not looked up: a pyenv shim is there even where its version is not installed.
IS_SUPPORTED := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$python -c '$(IS_SUPPORTED)' >/dev/null 2>&1; then echo $$python; break; fi; done)

# Sets $$python for the rest of a recipe, or stops with one sentence on what is missing.
define FIND_PYTHON
python="$(PYTHON)"; \
stop() { echo "$$1" >&2; exit 1; }; \
[ -n "$$python" ] || \
	stop "oautom needs Python 3.11 or newer and found none; install it, or name it: make PYTHON=/path/to/python3"; \
"$$python" -c '$(IS_SUPPORTED)' >/dev/null 2>&1 || \
	stop "'$$python' does not run, or is older than Python 3.11; name another: make PYTHON=/path/to/python3"; \
"$$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || \
	stop "'$$python' cannot make a virtual environment; on Debian or Ubuntu: sudo apt install python3-venv"
endef

.DEFAULT_GOAL := help
.PHONY: help start tests tests_all lint format check quick coverage heart mutants bench bench-peers page-pictures crash cluster fuzz install_requirements_dev freeze_requirements activate dist clean picture

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z_-]+:.*## / { printf "make %-24s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

start: $(RUNS) ## Set up what oautom and its command line need, and no more, and run an example
	@$(BIN)/python -m oautom run examples/stdlib_report.py:sample 'stdlib report'

tests: $(TOOLS) ## Run the tests side by side; PYTEST_ARGS are more arguments
	@$(BIN)/pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS)

# Each Python has a venv of its own. Those of pyenv are found though they are not on the PATH.
tests_all: ## Run the tests with each Python from 3.11 to 3.14 that this machine has
	@for version in 3.11 3.12 3.13 3.14; do \
		for python in python$$version "$$HOME"/.pyenv/versions/$$version.*/bin/python; do \
			"$$python" -c 'import ensurepip, venv' >/dev/null 2>&1 && break; \
			python=; \
		done; \
		if [ -z "$$python" ]; then echo "Python $$version is not here"; continue; fi; \
		echo "Python $$("$$python" -c 'import platform; print(platform.python_version())')"; \
		$(MAKE) --no-print-directory tests PYTHON="$$python" VENV=$(VENV)-$$version || failed="$$failed $$version"; \
	done; \
	[ -z "$$failed" ] || { echo "the tests fail with Python$$failed" >&2; exit 1; }

lint: $(TOOLS) ## Check style, types, and which module imports which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(TOOLS) ## Rewrite the code as the style has it
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

check: lint tests ## Do all that a commit must pass

quick: lint ## The same in less than a minute: the tests of single modules, and the logs of old versions
	@$(BIN)/pytest $(SIDE_BY_SIDE) $(QUICK) $(PYTEST_ARGS)

coverage: $(TOOLS) ## Run the tests, list the lines and branches they miss, and fail where one is of the heart
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report
	@$(BIN)/coverage report --include="$$($(BIN)/python -m tools.heart --files)" --fail-under=100

heart: $(RUNS) ## Count the lines of code of the heart, file by file
	@$(BIN)/python -m tools.heart

# One seed for all sets of text, so that what survives once survives again.
mutants: $(TOOLS) ## Change the core in ways that a test should notice; MUTANTS_ARGS names modules, or --each 30 for a sample
	@PYTHONHASHSEED=0 $(BIN)/python -m tools.mutants $(MUTANTS_ARGS)

bench: $(TOOLS) ## Measure; BENCH_ARGS are the arguments
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

# Each engine has an environment of its own below venv3-peers, 1.5 GB in all; the page is written anew.
bench-peers: $(TOOLS) ## Measure oautom beside other engines; PEERS_ARGS are the arguments
	@$(BIN)/python -m benchmarks.peers $(PEERS_ARGS)

page-pictures: $(TOOLS) ## Write pictures of the page, light and dark, wide and narrow, into docs/pictures
	@$(BIN)/python -m tools.page_pictures

crash: $(TOOLS) ## Kill a program in ROUNDS rounds (200 unless said), beginning with SEED, and look at what it leaves
	@OAUTOM_CRASH_LONG=1 $(BIN)/pytest $(SIDE_BY_SIDE) tests/crash $(PYTEST_ARGS)
	@$(BIN)/python -m tests.crash $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED))

# Hosts of their own need root and iproute2; without them, all runs on loopback, and no network is cut.
cluster: $(TOOLS) ## Run FLOWS flows (200 unless said) on a Dask cluster of which parts die, beginning with SEED, and look at what is left
	@$(BIN)/python -m tests.cluster $(if $(FLOWS),--flows $(FLOWS)) $(if $(SEED),--seed $(SEED))

fuzz: $(TOOLS) ## Run random flows for MINUTES (60 unless said), beginning with SEED, in programs that are killed, and look at what they leave
	@$(BIN)/python -m tests.fuzz $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

install_requirements_dev: $(TOOLS) ## Set up venv3 with oautom (editable) and its tools

# There are two stamps: oautom runs with a hundredth of what its tests and tools need.
#
# The first one holds the folder's name: a venv that came along with a copied or renamed folder would
# silently run the code of the old place, so it is made anew, as is one that is half made or whose Python is gone.
STAMPED := $(shell cat $(RUNS) 2>/dev/null)
ifneq ($(STAMPED),$(CURDIR))
.PHONY: $(RUNS)
endif

# pip is the largest part of a new venv, and takes longest to set up. So it is not put there: it runs from a folder
# where its wheel, which each Python has, is unpacked; only the tools bring it. The package itself is a line in a
# .pth file, as in an editable install, for which pip would fetch the build system first. Nothing is compiled ahead:
# of what the command line needs, most is never imported.
PIP_WHEEL := import ensurepip, pathlib, sysconfig; \
	bundled = pathlib.Path(ensurepip.__file__).with_name("_bundled"); \
	print(*sorted(pathlib.Path(sysconfig.get_config_var("WHEEL_PKG_DIR") or bundled).glob("pip-*.whl"))[-1:])
DEPENDENCIES := import pathlib, tomllib; \
	project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]; \
	print(*project["dependencies"], *project["optional-dependencies"]["cli"], sep="\n")
SITE_PACKAGES := import sysconfig; print(sysconfig.get_path("purelib"))

$(RUNS): pyproject.toml requirements.lock
	@echo "setting up ./$(VENV)"; \
	{ [ "$(STAMPED)" = "$(CURDIR)" ] && $(BIN)/python -c ''; } >/dev/null 2>&1 || { \
		$(FIND_PYTHON); \
		$(call QUIETLY,"$$python" -m venv --clear --without-pip $(VENV)); \
	}; \
	folder=$$(mktemp -d) || exit 1; \
	trap 'rm -rf "$$folder"' EXIT; \
	wheel=$$($(BIN)/python -c '$(PIP_WHEEL)'); \
	if [ -n "$$wheel" ]; then \
		$(call QUIETLY,$(BIN)/python -m zipfile -e "$$wheel" "$$folder/pip"); \
	else \
		$(call QUIETLY,$(BIN)/python -m ensurepip); \
	fi; \
	$(BIN)/python -c '$(DEPENDENCIES)' >"$$folder/dependencies.txt" || exit 1; \
	$(call QUIETLY,env PYTHONPATH="$$folder/pip" $(BIN)/python $(PIP_INSTALL) \
		--no-compile --constraint requirements.lock --requirement "$$folder/dependencies.txt"); \
	echo "$(CURDIR)" >"$$($(BIN)/python -c '$(SITE_PACKAGES)')/oautom.pth"
	@echo "$(CURDIR)" >$@

$(TOOLS): $(RUNS)
	@echo "installing the tools (the first time takes a minute)"; \
	$(call QUIETLY,$(BIN)/python -m ensurepip); \
	$(call QUIETLY,$(BIN)/python $(PIP_INSTALL) --constraint requirements.lock --editable '.[dev]')
	@touch $@

# Frozen with the oldest Python: what it needs, newer ones can have too, while the reverse is not so.
freeze_requirements: ## Write requirements.lock anew, from what is newest today (needs Python 3.11)
	@$(FIND_PYTHON); \
	"$$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		stop "requirements.lock is made with Python 3.11, the oldest supported: make $@ PYTHON=python3.11"; \
	folder=$$(mktemp -d) || exit 1; \
	trap 'rm -rf "$$folder"' EXIT; \
	lock="$$folder/requirements.lock"; \
	echo "resolving, then installing the result once more"; \
	$(call QUIETLY,"$$python" -m venv "$$folder/new"); \
	$(call QUIETLY,"$$folder/new/bin/python" $(PIP_INSTALL) '.[dev]'); \
	echo "# Versions known to work together, for oautom[dev]; made by 'make $@', not by hand." >"$$lock"; \
	"$$folder/new/bin/python" -m pip freeze --disable-pip-version-check --exclude oautom 2>/dev/null \
		| LC_ALL=C sort -f >>"$$lock"; \
	if grep -Ev '^#|^[A-Za-z0-9._-]+==[A-Za-z0-9._!+-]+$$' "$$lock" >&2; then \
		stop "the lines above are not of the form name==version; requirements.lock is left as it was"; fi; \
	$(call QUIETLY,"$$python" -m venv "$$folder/again"); \
	$(call QUIETLY,"$$folder/again/bin/python" $(PIP_INSTALL) --requirement "$$lock"); \
	cp "$$lock" requirements.lock

activate: $(TOOLS) ## Open a shell in which venv3 is active; leave it with exit
	@. $(BIN)/activate; \
	case "$${SHELL:-/bin/sh}" in \
	*/bash) \
		echo '[ ! -f ~/.bashrc ] || . ~/.bashrc; . "$$VIRTUAL_ENV/bin/activate"' >$(VENV)/bashrc; \
		bash --rcfile $(VENV)/bashrc -i;; \
	*) "$${SHELL:-/bin/sh}" -i;; \
	esac || true

picture: $(TOOLS) ## Draw docs/cli.svg anew, from a real run
	@$(BIN)/python -m tools.picture

dist: $(TOOLS) ## Build the sdist and the wheel into dist/
	@rm -rf dist
	@$(BIN)/python -m build --outdir dist

clean: ## Remove venv3, what was built, and the caches; nothing of yours
	@rm -rf $(VENV) $(VENV)-3.* $(VENV)-peers build dist .coverage .coverage.* \
		.hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find oautom tests tools examples benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
