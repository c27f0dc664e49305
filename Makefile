# Everything runs in .venv, with the exact versions of constraints.txt.
# On Linux without a GPU, PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" saves the CUDA download.

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# NVIDIA's bindings, unpacked beside the environment: two versions of one package, for tests that compare with them
BINDINGS := $(VENV)/bindings/.installed
REQUIREMENTS := $(wildcard tests/tensorrt/requirements/*.txt)

.PHONY: help setup demo test test-full test-gpu fuzz lint gate format bench bench-gpu gpu-wheels typings readme-table demo-bundle pictures clean

help:
	@echo "make demo       install, export the demo model, generate a picture"
	@echo "make test       install, run the tests (test-full: the long ones too)"
	@echo "make test-gpu   install, run the tests that need an NVIDIA GPU"
	@echo "make fuzz       a minute of changed inputs of every kind; FUZZ='--seconds 600 --seed 7 --only prompt'"
	@echo "make lint       ruff, mypy, README's table against the reports"
	@echo "make gate       are the demo model's pictures still PyTorch's? a minute or two"
	@echo "make format     let ruff mend what it can"
	@echo "make bench      measure the runtime's own overhead, the samplers' compilation and what watching costs"
	@echo "make bench-gpu  on an NVIDIA GPU: Stable Diffusion 1.5; SCENARIO=gpu-sdxl, SCENARIO=gpu-turbo"
	@echo "make gpu-wheels fetch what benchmarks/gpu/run.sh needs on a machine without a network (docs/gpu.md)"
	@echo "make clean      remove .venv and everything built"

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	touch $(INSTALLED)

# there are wheels for Linux on x86-64; elsewhere the tests that want them are skipped
$(BINDINGS): $(INSTALLED) $(REQUIREMENTS)
	rm -rf $(VENV)/bindings
	$(foreach file,$(REQUIREMENTS),$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--target $(VENV)/bindings/$(basename $(notdir $(file))) -r $(file) &&) touch $(BINDINGS) \
		|| echo "NVIDIA's bindings are not installed; the tests that compare with them are skipped"

demo: setup
	$(BIN)/sdrt export demo -o engines/demo --force
	$(BIN)/sdrt generate "a large red circle on a blue background" -m engines/demo --seed 1 -o demo.png

test: setup $(BINDINGS)
	$(BIN)/python -m pytest

test-full: setup $(BINDINGS)
	$(BIN)/python -m pytest -m "not gpu"

# at most eight minutes each; what a bench has exported and built stays for the next
test-gpu: setup
	timeout 480 $(BIN)/python -m pytest -m gpu

# prints its seed; what escapes is written to build/fuzz, smaller, with the command that shows it again
FUZZ ?=
fuzz: setup
	$(BIN)/python tests/fuzz/campaign.py $(FUZZ)

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
	$(BIN)/python -m sdrt_bench.watching --output benchmarks/results/watching.json

# those that follow change committed files

SCENARIO ?= gpu-sd15
bench-gpu: setup
	timeout 480 $(BIN)/sdrt bench $(SCENARIO) -o benchmarks/results/$(SCENARIO) --models engines/bench

gpu-wheels: setup
	$(BIN)/python -m sdrt_bench.gpu.wheels $(if $(ONNXRUNTIME_GPU),--onnxruntime-gpu)

typings: setup $(BINDINGS)
	PYTHONPATH=tests/tensorrt $(BIN)/python tests/tensorrt/make_typings.py

readme-table: setup
	$(BIN)/python -m sdrt_bench.readme

demo-bundle: setup
	$(BIN)/sdrt export demo -o sdrt/demo --half-weights --force

pictures: setup
	$(BIN)/python -m sdrt_bench.pictures docs/demo.png
	$(BIN)/python -m sdrt_bench.sampler_sheet docs/samplers.png
	$(BIN)/python -m sdrt_bench.starting_sheet docs/pictures.png
	$(BIN)/python -m sdrt_bench.watching_picture docs/watching.gif
	rm -rf build/grid docs/grid.png docs/interpolation.png && mkdir -p build/grid
	$(BIN)/sdrt generate "a large green star on purple" --x "sampler=DDIM,Euler a,Heun,DPM++ 2M Karras,UniPC" \
		--y "steps=2,4,8,16" --seed 1 -o "build/grid/{x}-{y}.png" --grid docs/grid.png
	$(BIN)/sdrt generate --interpolate "a large red circle" "a large blue square" --variation-seed 2 --seed 1 \
		--frames 10 -o "build/grid/{frame}.png" --grid docs/interpolation.png --grid-columns 10

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
