# Needs python >= 3.11 and make, nothing else. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME_VENV := .venv-runtime
RUNTIME_BIN := $(RUNTIME_VENV)/bin
CONSTRAINTS := constraints-dev.txt
# Two files of tests at a time: what a file's tests share is made once.
SIDE_BY_SIDE := --numprocesses 2 --dist loadfile
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

# The folders of the tree are importable under bare names when the current directory is on
# sys.path, and `kernels` would shadow a package of the same name.
export PYTHONSAFEPATH = 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow lint format bundle victims defence clean check-python

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(RUNTIME_VENV)/.installed ## Defend the built-in clip with the built-in bundle; no PyTorch.
	$(RUNTIME_BIN)/srd-edge run --video demo --compare -o demo.jsonl --annotate demo.webm

test: lint ## Run every check and every test but the slow ones.
	$(BIN)/pytest $(SIDE_BY_SIDE) -m "not slow"

test-slow: lint ## Run every check and every test, the slow ones too.
	$(BIN)/pytest $(SIDE_BY_SIDE)

lint: $(VENV)/.installed ## Run ruff, mypy and import-linter.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy tests
	$(BIN)/lint-imports

format: $(VENV)/.installed ## Sort the imports and format the code.
	$(BIN)/ruff check --select I --fix
	$(BIN)/ruff format

bundle: $(VENV)/.installed ## Make the built-in bundle again, from its seed.
	$(BIN)/srd-edge attack --captioner tiny --data scenes --epochs 10 --seed 0 \
		--attack badnet:target=banana,rate=0.08 --attack trojvlm:target=parrot,rate=0.1 \
		-o runs/bundle/victim
	$(BIN)/srd-edge attack --captioner tiny --data scenes --epochs 3 --seed 1 --corrupted 1 \
		-o runs/bundle/reference
	$(BIN)/srd-edge train --captioner runs/bundle/victim --data scenes --seed 0 \
		--attack badnet:target=banana,rate=0.05 --attack trojvlm:target=parrot,rate=0.05 \
		--reference consensus --reference-captioner runs/bundle/reference -o runs/bundle/policy
	$(BIN)/srd-edge export --captioner runs/bundle/victim --policy runs/bundle/policy \
		--precision int8 --overwrite -o runtime/assets/bundle
	$(BIN)/python -m srd_edge.training.demo_clip runtime/assets
	$(BIN)/srd-edge evaluate -o runs/bundle/report
	cp runs/bundle/report/results.json benchmarks/results/builtin.json
	cp runs/bundle/report/timing.json benchmarks/results/builtin.timing.json
	PYTHONSAFEPATH= $(BIN)/python benchmarks/tables.py

DATA ?= ../shared/data/flickr8k
WEIGHTS ?= ../shared/data/weights/mobilenetv2_imagenet_bnfolded_fp16.npz
JOBS ?= 2

victims: $(VENV)/.installed ## Make the zoo on photographs: DATA=, WEIGHTS=, JOBS=; hours.
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python benchmarks/zoo.py --jobs $(JOBS) $(DATA) $(WEIGHTS)

defence: $(VENV)/.installed ## Evaluate the defence on the zoo, or on ATTACK=SPEC; hours.
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONSAFEPATH= $(BIN)/python benchmarks/defence.py \
		--jobs $(JOBS) $(if $(ATTACK),--attack '$(ATTACK)') $(DATA) $(WEIGHTS)

clean: ## Remove both environments, caches, builds and the demo's output.
	rm -rf $(VENV) $(RUNTIME_VENV) build dist *.egg-info demo.jsonl demo.webm
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than what it was made from, or the environment is brought up to date.
$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | check-python
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) --editable ".[dev]"
	touch $@

$(RUNTIME_VENV)/.installed: pyproject.toml $(CONSTRAINTS) | check-python
	test -x $(RUNTIME_BIN)/python || $(PYTHON) -m venv $(RUNTIME_VENV)
	$(RUNTIME_BIN)/python $(PIP_INSTALL) --editable ".[cpu]"
	touch $@

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	"expected python >= 3.11, found " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11")'
