.DEFAULT_GOAL := help
.PHONY: help demo test test-faults check format bench bench-gpu full-size reproduce compare compare-molecules map \
	reproduce-inverse-noise reproduce-inverse-noise-28 reproduce-molecules reproduce-qm7 reproduce-layouts reproduce-rico tables docs \
	tensorboard clean

PYTHON ?= $(shell python3.11 -V >/dev/null 2>&1 && echo python3.11 || echo python3)
PY := .venv/bin/python
READY := .venv/.ready
WORKERS ?= 2

# Real data beside the checkout, where there is any; tests that read it skip without.
GRAFT_TEST_DATA ?= $(abspath $(wildcard ../shared/data))
ifneq ($(GRAFT_TEST_DATA),)
export GRAFT_TEST_DATA
endif

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-27s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(READY) ## GRAFT and P-GRAFT on handwritten digits, with a report, in minutes on two cores
	$(PY) -m graft_lightning sweep experiments/demo.yaml
	@echo "Report: runs/demo/report.md (figures beside it).  Dashboards: make tensorboard"

test: $(READY) ## Every test, slow ones too
	@$(PY) -m compileall -q graft_lightning  # once, where Python is told to keep nothing
	$(PY) -m pytest -q -n $(WORKERS) --dist worksteal

test-faults: $(READY) ## Kills, damaged files, full disks, mistaken configurations, failing processes; prints its counts
	$(PY) -m pytest -q tests/faults

check: $(READY) ## Lint, format, types, import contract and the fast tests
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	$(PY) -m pytest -q -n $(WORKERS) --dist worksteal -m "not slow"

format: $(READY) ## Let ruff mend what it can
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

QM7 ?=

bench: $(READY) ## What the framework adds to a step, pool, start-up: a table and runs/bench/bench.json, 6 minutes
	$(PY) -m tests.bench

bench-gpu: $(READY) ## The same with the real architectures on one GPU: 8 minutes, no network, runs/bench/bench_gpu.json
	$(PY) -m tests.bench_gpu

full-size: $(READY) ## Every published architecture once, random weights, by the commands; hours on two cores, resumable
	OMP_NUM_THREADS=1 $(PY) -m tests.full_size $(if $(QM7),--molecules "$(abspath $(QM7))")

reproduce: $(READY) ## The larger comparison, in the README of the digits: about an hour, resumable
	$(PY) -m graft_lightning sweep experiments/digits/reproduce.yaml

compare: $(READY) ## Every method at an equal budget, each with three learning rates: an hour and a half, resumable
	$(PY) -m graft_lightning sweep experiments/digits/compare.yaml

compare-molecules: $(READY) ## The methods that mixed states have, on small molecules, in the same way: an hour and a half, resumable
	$(PY) -m graft_lightning sweep experiments/molecules/compare.yaml

map: $(READY) ## When a hand-off pays: one factor at a time on digits, and what diagnose had said: an hour, resumable
	$(PY) -m graft_lightning sweep experiments/digits/map.yaml

reproduce-inverse-noise: $(READY) ## Base, Gaussian and neural noise correctors of a flow: at most an hour, resumable
	$(PY) -m graft_lightning sweep experiments/digits/inverse_noise.yaml

DIGITS ?=
DIGITS_DATA := data/digits_10k.npz

reproduce-inverse-noise-28: $(READY) ## The same on digits of 28 x 28, MNIST's of DIGITS=FILE (an npz): at most an hour, resumable
	@test -e $(DIGITS_DATA) || { test -e "$(DIGITS)" && ln -s "$(abspath $(DIGITS))" $(DIGITS_DATA); } || \
		{ echo "Digits of MNIST are needed: make reproduce-inverse-noise-28 DIGITS=path/to/digits_10k.npz"; exit 2; }
	$(PY) -m graft_lightning sweep experiments/mnist/inverse_noise.yaml

reproduce-molecules: $(READY) ## GRAFT and P-GRAFT on small molecules, with controls: an hour and a half, resumable
	$(PY) -m graft_lightning sweep experiments/molecules/reproduce.yaml

QM7_DATA := data/qm7_xyz.tar.gz
QM7_WEIGHTS := runs/molecules/qm7.safetensors

reproduce-qm7: $(READY) ## The same on real molecules, QM7 of QM7=FILE (an archive of xyz files): at most an hour, resumable
	@test -e $(QM7_DATA) || { test -e "$(QM7)" && ln -s "$(abspath $(QM7))" $(QM7_DATA); } || \
		{ echo "QM7 is needed: make reproduce-qm7 QM7=path/to/qm7_xyz.tar.gz"; exit 2; }
	@test -e $(QM7_WEIGHTS) || OMP_NUM_THREADS=1 $(PY) -m graft_lightning fit --config experiments/molecules/qm7_pretrain.yaml
	$(PY) -m graft_lightning sweep experiments/molecules/reproduce_qm7.yaml

reproduce-layouts: $(READY) ## GRAFT and P-GRAFT on procedural pages, with controls: half an hour, resumable
	$(PY) -m graft_lightning sweep experiments/layouts/reproduce.yaml

RICO ?=
RICO_DATA := data/rico.txt
RICO_WEIGHTS := runs/layouts/rico.safetensors

reproduce-rico: $(READY) ## The same on real screens, Rico of RICO=FILE (its text form), pre-training included: resumable
	@test -e $(RICO_DATA) || { test -e "$(RICO)" && ln -s "$(abspath $(RICO))" $(RICO_DATA); } || \
		{ echo "Rico is needed: make reproduce-rico RICO=path/to/rico.txt"; exit 2; }
	@test -e $(RICO_WEIGHTS) || OMP_NUM_THREADS=1 $(PY) -m graft_lightning fit \
		--config experiments/layouts/rico_pretrain.yaml --config experiments/layouts/rico_cpu.yaml
	$(PY) -m graft_lightning sweep experiments/layouts/reproduce_rico.yaml

tables: $(READY) ## Write the tables of the READMEs anew, from the committed reports of the comparisons
	$(PY) -m tests.printed

docs: $(READY) ## The reference of every module, class and function, from their docstrings: build/docs/index.html
	$(PY) -W "ignore:The module specification" -m pdoc --docformat google -o build/docs \
		$$(find graft_lightning -name '*.py' ! -name __main__.py | sed 's|/__init__.py$$||; s|\.py$$||; s|/|.|g')
	@echo "Reference: build/docs/index.html; for scripts and notebooks build/docs/graft_lightning/api.html"

tensorboard: $(READY) ## Dashboards of everything under runs/
	.venv/bin/tensorboard --logdir runs

clean: ## Remove caches and build products (runs/ and .venv/ stay)
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find graft_lightning tests data -name __pycache__ -prune -exec rm -rf {} +

# The environment. On Linux the registry's own torch brings gigabytes of CUDA, so that a machine without an NVIDIA GPU first
# gets the CPU build: only that one carries the label +cpu. It comes from wherever pip looks, else from PyTorch's index.
TORCH_CPU := torch==2.13.0+cpu
CPU_INDEX := https://download.pytorch.org/whl/cpu
NO_TORCH := No CPU build of torch was found. Try "make PYTHON=python3.11", or put one in by hand: .venv/bin/pip install FILE

$(READY): setup.cfg pyproject.toml
	@echo "Making the environment in .venv (once, a few minutes)"
	test -x $(PY) || $(PYTHON) -m venv .venv
	test "$$(uname)" = Darwin || nvidia-smi -L >/dev/null 2>&1 || $(PY) -m pip show -q torch 2>/dev/null \
	    || $(PY) -m pip install -q --no-deps $(TORCH_CPU) 2>/dev/null \
	    || $(PY) -m pip install -q --no-deps --index-url $(CPU_INDEX) $(TORCH_CPU) \
	    || { echo '$(NO_TORCH)' >&2; exit 1; }
	$(PY) -m pip install -q -e ".[dev]"
	@touch $@
