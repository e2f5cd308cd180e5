# Everything is installed into .venv and nothing outside this folder is touched. To start afresh: rm -rf .venv
#
#   PYTHON=/path/to/python3   the Python to make .venv from; else the first that is 3.11 or newer
#   TORCH_INDEX=              take PyTorch from PyPI (on Linux a CUDA build of several GB); else its CPU build
#   ARGS="..."                passed on, as in: make test ARGS="-k bandit -x"   make demo ARGS="--profile full"

VENV := .venv
READY := $(VENV)/.ready
TORCH := torch==$(shell sed -n 's/^torch==//p' constraints.txt)
CANDIDATES := $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3)

ifeq ($(shell uname -s),Linux)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
endif
TORCH_BUILD := $(TORCH)+$(notdir $(TORCH_INDEX:/=))

# Idle threads spin a tenth of a millisecond, then sleep. Sleeping at once halves the speed of rollouts; spinning for long, as
# OpenMP does by default, cripples a machine that is shared.
export GOMP_SPINCOUNT ?= 10000
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo lab figures study check test bench
help:  ## list these commands
	@echo "adkit: a workbench for in-context reinforcement learning and value drift"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

setup: $(READY)  ## install adkit into .venv; done once, redone only when pyproject.toml or constraints.txt changes
	@echo "adkit is ready in $(VENV)."

demo: $(READY)  ## run the notebooks from nothing, and say what each found
	@echo "Running the notebooks; the executed copies go to runs/notebooks."
	@$(VENV)/bin/python notebooks/run.py $(ARGS)

lab: $(READY)  ## open the notebooks in JupyterLab, on this machine only
	@echo "Starting JupyterLab on notebooks/; stop it with Ctrl-C."
	@$(VENV)/bin/python -m jupyterlab notebooks --ServerApp.ip=127.0.0.1 $(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS)

figures: $(READY)  ## run what is missing of the paper's figures; stop it at any time, it goes on from there
	@OMP_NUM_THREADS=1 $(VENV)/bin/python notebooks/paper_runs.py $(ARGS)

study: $(READY)  ## run what is missing of the CookieWorld study: make study ARGS=standard
	@OMP_NUM_THREADS=1 PYTHONPATH=notebooks $(VENV)/bin/python -m study.run $(ARGS)

# Between them these use every compiled loop.
COMPILED_BY := tests/golden/test_golden.py tests/contract/test_contract.py \
  $(addprefix tests/unit/test_,shard_agents.py source_networks.py worlds.py)
PYTEST := $(VENV)/bin/python -m pytest -n auto --dist loadgroup

check: $(READY)  ## one minute: style, and the tests that need no training, no subprocess and no browser
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	@$(PYTEST) tests/unit tests/contract tests/property tests/golden/test_golden.py $(ARGS)

test: $(READY)  ## eight minutes: everything, in parallel; it gets itself a Chromium if there is none
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	@CHROMIUM="$$($(VENV)/bin/python tests/browser/chromium.py)" || exit 1; export CHROMIUM; \
	$(PYTEST) $(ARGS)

bench: $(READY)  ## measure speed, memory and learning against the figures we claim
	@echo "Running the benchmarks; close other programs first."
	@$(VENV)/bin/python -m pytest tests/benchmarks/ -s -q -o python_files='bench_*.py' $(ARGS)

# .ready holds the folder it was made in: set up again when the checkout has moved, or its Python is gone.
ifneq ($(shell $(VENV)/bin/python -c 'print(open("$(READY)").read(), end="")' 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif

# While it is being installed .venv holds .unfinished; a run that finds that file follows one that was killed, and starts anew.
# A .venv stripped of its pyvenv.cfg still runs, as the machine's own Python: the look at sys.prefix and --require-virtualenv
# keep pip off that.
$(READY): pyproject.toml constraints.txt
	@python=; bare=; \
	fail() { echo "adkit: $$*" >&2; exit 1; }; \
	stop() { rm -f $(VENV)/.unfinished; fail "$$@"; }; \
	runs() { "$$1" -c "import sys; $$2" 2>/dev/null; }; \
	if [ -e $(VENV)/.unfinished ] || ! runs $(VENV)/bin/python 'import pip; sys.exit(sys.prefix == sys.base_prefix)'; then \
	  for name in $(CANDIDATES); do \
	    runs $$name 'sys.exit(sys.version_info < (3, 11))' || continue; \
	    if runs $$name 'import ensurepip, venv'; then python=$$name; break; fi; \
	    bare="$${bare:-$$name}"; \
	  done; \
	  [ "$$python$$bare" ] || fail "No Python 3.11 or newer among: $(CANDIDATES)." \
	    "Install one (Debian 12 or newer: apt install python3 python3-venv; macOS: brew install python@3.11)," \
	    "or say where it is: make setup PYTHON=/path/to/python3.11"; \
	  [ "$$python" ] || fail "$$bare cannot make virtual environments. On Debian or Ubuntu:" \
	    "apt install python$$(runs $$bare 'print("%d.%d" % sys.version_info[:2])')-venv"; \
	  [ ! -e $(VENV) ] || echo "Clearing $(VENV), which was left unfinished or has lost its Python."; \
	  mkdir -p $(VENV) && touch $(VENV)/.unfinished && find $(VENV) -mindepth 1 -maxdepth 1 ! -name .unfinished -exec rm -rf {} +; \
	  free=$$(df -Pk . | awk 'NR == 2 { print int($$4 / 1024) }'); \
	  [ "$$free" -ge 3000 ] || fail "Only $$free MB of disk are free here and setting up needs about 3000 MB. Make room and run again."; \
	  echo "Making $(VENV) with $$($$python --version)."; \
	  $$python -m venv $(VENV) || \
	    fail "$$python could not make $(VENV). Its message is above; another Python: make setup PYTHON=/path/to/python3.11"; \
	fi; \
	printf '%s' '$(CURDIR)' > $(VENV)/.unfinished; \
	pip="$(VENV)/bin/python -m pip install -qq --require-virtualenv"; \
	echo "Installing adkit and what it needs: about 2 GB on disk, two minutes on a fast line."; \
	if [ "$(TORCH_INDEX)" ] && ! $$pip --no-deps --no-index "$(TORCH)" 2>/dev/null; then \
	  $$pip --no-deps --retries 1 --timeout 15 --index-url "$(TORCH_INDEX)" "$(TORCH_BUILD)" || \
	    stop "$(TORCH_BUILD) did not come from $(TORCH_INDEX). Check the connection and run again," \
	      "or take the build that PyPI has (on Linux several GB, with CUDA): make setup TORCH_INDEX="; \
	fi; \
	$$pip -c constraints.txt -e '.[test]' || \
	  stop "The installation stopped; pip says why above. Put that right and run again."; \
	$(VENV)/bin/jupyter labextension disable "@jupyterlab/apputils-extension:announcements" 2>/dev/null || \
	  stop "JupyterLab is there but does not run; its own message: $(VENV)/bin/jupyter lab --version"; \
	mv $(VENV)/.unfinished $(READY); \
	echo "Compiling adkit's fast loops, once: about a minute."; \
	OMP_NUM_THREADS=1 $(PYTEST) $(COMPILED_BY) >$(VENV)/compiled.log 2>&1 || true
