# Variables: TASK (a study of jobs/ by name, or a path), RUNS (default runs), RUN (a run directory), CORES, PYTHON;
# of images: GPU (cuda12, cuda13), BASE (a base.sif, or debootstrap), MIRROR (a Debian mirror), IMAGE (a .sif to test).
# Values reach the program through the environment and are never pasted into a shell line, so a hostile one stays text.
SHELL := /bin/sh
.DEFAULT_GOAL := help
export NTKHPC_TASK := $(value TASK)
export NTKHPC_RUNS := $(if $(value RUNS),$(value RUNS),runs)
export NTKHPC_RUN := $(value RUN)
export NTKHPC_CORES := $(value CORES)
export NTKHPC_PROFILE := $(if $(value PROFILE),$(value PROFILE),$(value NTKHPC_PROFILE))
unexport TASK RUNS RUN CORES PROFILE
export PYTHON GPU BASE MIRROR IMAGE
export PYTHONPATH := $(CURDIR)
export PYTHONSAFEPATH := 1

# yes(NAME,option): the option, unless NAME is empty, 0, no or false.
yes = $(if $(filter-out 0 no false,$(value $(1))),$(2))
NTKHPC := sh containers/ntkhpc.sh
WHERE := --task="$$NTKHPC_TASK" --runs="$$NTKHPC_RUNS"
WHICH := $(WHERE) --run="$$NTKHPC_RUN"
WITH := --profile="$$NTKHPC_PROFILE"
HOW := $(WITH) $${NTKHPC_CORES:+--cores="$$NTKHPC_CORES"} $(call yes,RETRY,--retry) $(call yes,ACCEPT_CHANGE,--accept-change) $(call yes,TAKE_OVER,--take-over)

.PHONY: help venv lock image image-test plan submit status resume report verify showers doctor efficiency docs test test-cluster bench check clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo "  variables: TASK=calorimeter RUNS=runs RUN=runs/NAME CORES=2 PYTHON=python3.11"

venv: ## make or update .venv from requirements.lock
	@sh containers/venv.sh

lock: ## write requirements.lock and its CUDA companion anew from pyproject.toml (needs uv)
	@sh containers/lock.sh
	@sh containers/lock.sh cuda12

image: ## build the Apptainer image of the lock, unless it is there (GPU=cuda12, BASE=debootstrap)
	@sh containers/image.sh

image-test: ## check the image of the lock, or IMAGE, and measure what starting it costs
	@sh containers/image_test.sh

plan: ## show what TASK would compute and cost; writes nothing
	@$(NTKHPC) plan $(WHERE) $(WITH)

submit: ## run TASK: whatever of it has no receipt yet
	@$(NTKHPC) submit $(WHERE) $(HOW)

status: ## one table for TASK or RUN: done, running, failed, missing
	@$(NTKHPC) status $(WHICH)

resume: ## run the missing shards of TASK or RUN (ACCEPT_CHANGE=1, TAKE_OVER=1)
	@$(NTKHPC) resume $(WHICH) $(HOW)

report: ## analyse TASK or RUN again with the code of this checkout (PARTIAL=1 for an incomplete run)
	@$(NTKHPC) report $(WHICH) $(call yes,PARTIAL,--partial)

verify: ## check every bit of TASK or RUN (SET_ASIDE=1 lets resume mend it)
	@$(NTKHPC) verify $(WHICH) $(call yes,SET_ASIDE,--set-aside)

doctor: ## check this machine, and with PROFILE a compute node (with TASK it is timed too)
	@$(NTKHPC) doctor $(WHERE) $(WITH)

efficiency: ## what the tasks of TASK or RUN asked for against what they used
	@$(NTKHPC) efficiency $(WHICH)

showers: venv ## draw mean profiles, one event and the resolution of the generator's showers into RUNS/showers
	@.venv/bin/python -m analysis.showers

docs: venv ## build the documentation in build/docs
	@.venv/bin/python -m mkdocs build --quiet --strict --site-dir build/docs

# One process per core, so one thread of linear algebra each: more of them only wait for one another. By file, as tests of
# one share what was compiled.
test: venv ## everything that can be checked on this machine
	@OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n auto --dist loadfile --ignore=tests/cluster

test-cluster: venv ## a real SLURM and a real Apptainer on this machine: root on a throw-away Debian 12
	@sh tests/cluster/run.sh

bench: venv ## measure tiles, kernels, plan and status against their bounds; ratios
	@PYTHONPATH="$$PYTHONPATH:$$PYTHONPATH/tests" NPROC=1 OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 .venv/bin/python tests/bench.py

check: venv ## lint, format and types
	@.venv/bin/python -m ruff check . && .venv/bin/python -m ruff format --check . && .venv/bin/python -m mypy

clean: ## remove .venv and caches; runs stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
