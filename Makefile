# A recipe is one verb: `make submit TASK=mnist RETRY=1` is `NTKHPC_TASK=mnist NTKHPC_RETRY=1 ntkhpc submit`.
# Values reach the program through the environment and are never pasted into a shell line, so a hostile one stays text.
SHELL := /bin/sh
.DEFAULT_GOAL := help

# given(NAME): the value of NAME, else what the caller exported as NTKHPC_NAME. A TASK hides an exported run.
given = $(if $(value $(1)),$(value $(1)),$(value NTKHPC_$(1)))
export NTKHPC_RUN := $(if $(value RUN)$(value TASK),$(value RUN),$(value NTKHPC_RUN))
export NTKHPC_TASK := $(call given,TASK)
export NTKHPC_RUNS := $(call given,RUNS)
export NTKHPC_CORES := $(call given,CORES)
export NTKHPC_PROFILE := $(call given,PROFILE)
export NTKHPC_ERROR := $(call given,ERROR)
export NTKHPC_QUANTITY := $(call given,QUANTITY)
export NTKHPC_OUT := $(call given,OUT)
export NTKHPC_RETRY := $(call given,RETRY)
export NTKHPC_ACCEPT_CHANGE := $(call given,ACCEPT_CHANGE)
export NTKHPC_TAKE_OVER := $(call given,TAKE_OVER)
export NTKHPC_PARTIAL := $(call given,PARTIAL)
export NTKHPC_SET_ASIDE := $(call given,SET_ASIDE)
unexport TASK RUNS RUN CORES PROFILE ERROR QUANTITY OUT RETRY ACCEPT_CHANGE TAKE_OVER PARTIAL SET_ASIDE
# What would change Python, pip or the libraries that compute and draw reaches no recipe; ntkhpc/surroundings.py says why.
FOREIGN := PYTHON% PIP_% JAX_% XLA_% LIBTPU_% TPU_% TF_% NPY_% NUMPY% SCIPY_% OPENBLAS_% GOTO_% OMP_% GOMP_% KMP_% MKL_% \
    BLIS_% NUMEXPR_% VECLIB_% DASK_% DISTRIBUTED_% MPL% MATPLOTLIB% ZARR_% XARRAY_% PANDAS_% ARROW_% PYARROW_% HDF5_% \
    SUBMITIT_% NPROC GLIBC_TUNABLES
WELCOME := PYTHON PYTHONIOENCODING PYTHONUNBUFFERED PYTHONUTF8 PYTHONPYCACHEPREFIX JAX_PLATFORMS XLA_PYTHON_CLIENT_% \
    PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX PIP_TRUSTED_HOST PIP_CERT PIP_CLIENT_CERT PIP_PROXY \
    PIP_TIMEOUT PIP_DEFAULT_TIMEOUT PIP_RETRIES PIP_CACHE_DIR PIP_CONFIG_FILE
comma := ,
unexport $(filter-out $(WELCOME) $(subst $(comma), ,$(NTKHPC_PASS)),$(filter $(FOREIGN),$(.VARIABLES)))
export PYTHON GPU BASE MIRROR IMAGE UPGRADE
export PYTHONPATH := $(CURDIR)
export PYTHONSAFEPATH := 1
NTKHPC := sh containers/ntkhpc.sh

.PHONY: help venv lock image image-test plan design submit status resume report verify clean-kernels showers doctor efficiency test test-cluster bench calibrate docs check clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@awk -F '#: ' '/^#: / { print "  " $$2 }' Makefile
	@echo
	@echo "  TASK of jobs/:"
	@awk 'FNR == 1 { name = FILENAME; sub(/.*\//, "", name); sub(/\.toml$$/, "", name); sub(/^# */, ""); sub(/\. .*/, "."); printf "  %-23s %s\n", name, $$0 }' jobs/*.toml

#: TASK=calorimeter     a study of jobs/ by name, or the path of a study file
#: RUN=runs/NAME        a run directory, instead of TASK
#: RUNS=runs            where run directories are
#: PROFILE=local        a cluster profile by name or path, or `local`
#: CORES=2              worker processes on this machine
#: ERROR=2%             design: the error to reach        QUANTITY=mu_L   of one quantity        OUT=new.toml   the study file
#: RETRY=1              submit, resume: try shards again that failed by a bug
#: ACCEPT_CHANGE=1      submit, resume: run missing shards with other code, packages or image; recorded
#: TAKE_OVER=1          submit, resume: run shards claimed on other hosts
#: PARTIAL=1            report: of an incomplete run
#: SET_ASIDE=1          verify: set damaged shards aside, so that resume runs them again
#: PYTHON=python3.11    venv: the interpreter        UPGRADE=1   lock: the newest versions
#: GPU=cuda12  BASE=base.sif|debootstrap  MIRROR=http://debian.mirror/debian  IMAGE=path.sif   image, image-test

venv: ## make or update .venv from requirements.lock
	@sh containers/venv.sh

lock: ## write requirements.lock and its CUDA companion for pyproject.toml (needs uv)
	@sh containers/lock.sh
	@sh containers/lock.sh cuda12

image: ## build the Apptainer image of the lock, unless it is there (GPU=cuda12, BASE=debootstrap)
	@sh containers/image.sh

image-test: ## check the image of the lock, or IMAGE, and measure what starting it costs
	@sh containers/image_test.sh

plan: ## show what TASK would compute and cost; writes nothing
	@$(NTKHPC) plan

design: ## what networks and draws reach ERROR, and the cheapest study of them; trains nothing
	@$(NTKHPC) design

submit: ## run TASK: whatever of it has no receipt yet
	@$(NTKHPC) submit

status: ## one table for TASK or RUN: done, running, failed, missing
	@$(NTKHPC) status

resume: ## run the missing shards of TASK or RUN
	@$(NTKHPC) resume

report: ## analyse TASK or RUN again with the code of this checkout
	@$(NTKHPC) report

verify: ## check every file of the making of TASK or RUN, every chunk and every receipt
	@$(NTKHPC) verify

doctor: ## check this machine, and with PROFILE a compute node (with TASK it is timed too)
	@$(NTKHPC) doctor

clean-kernels: ## remove kernel.zarr of TASK or RUN, once its curve is there
	@$(NTKHPC) clean-kernels

efficiency: ## what the tasks of TASK or RUN asked for against what they used
	@$(NTKHPC) efficiency

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

bench: venv ## measure tiles, kernels, plan, status and memory against their bounds and projections; ratios
	@PYTHONPATH="$$PYTHONPATH:$$PYTHONPATH/tests" NPROC=1 OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 .venv/bin/python tests/bench.py

calibrate: venv ## coverage of every interval and false alarms of every verdict, by synthetic studies (some hours)
	@NPROC=1 OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 .venv/bin/python -m analysis.calibration

check: venv ## lint, format and types
	@.venv/bin/python -m ruff check . && .venv/bin/python -m ruff format --check . && .venv/bin/python -m mypy

clean: ## remove .venv and caches; runs stay
	rm -rf .venv build site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
