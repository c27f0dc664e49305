# Everything runs in .venv, with the exact versions of constraints.txt.
# On Linux without a GPU, PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" saves the CUDA download.

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help setup demo test test-full lint gate format bench readme-table demo-bundle pictures clean

help:
	@echo "make demo       install, export the demo model, generate a picture"
	@echo "make test       install, run the tests (test-full: the long ones too)"
	@echo "make lint       ruff, mypy, README's table against the reports"
	@echo "make gate       are the demo model's pictures still PyTorch's? a minute or two"
	@echo "make format     let ruff mend what it can"
	@echo "make bench      measure the runtime's own overhead and the samplers' compilation"
	@echo "make clean      remove .venv and everything built"

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	touch $(INSTALLED)

demo: setup
	$(BIN)/sdrt export demo -o engines/demo --force
	$(BIN)/sdrt generate "a large red circle on a blue background" -m engines/demo --seed 1 -o demo.png

test: setup
	$(BIN)/python -m pytest

test-full: setup
	$(BIN)/python -m pytest -m "not gpu"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m sdrt_bench.readme --check

gate: setup
	$(BIN)/sdrt bench gate -o build/gate

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m sdrt_bench.overhead --output benchmarks/results/overhead.json
	$(BIN)/python -m sdrt_bench.samplers --output benchmarks/results/samplers.json

# those that follow change committed files

readme-table: setup
	$(BIN)/python -m sdrt_bench.readme

demo-bundle: setup
	$(BIN)/sdrt export demo -o sdrt/demo --half-weights --force

pictures: setup
	$(BIN)/python -m sdrt_bench.pictures docs/demo.png
	$(BIN)/python -m sdrt_bench.sampler_sheet docs/samplers.png

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
