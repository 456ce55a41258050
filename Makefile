# Everything here sets up what it needs in .venv; nothing else on the machine is touched.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt

.PHONY: install dev demo test test-all bench bench-training bench-compression bench-quality bench-couplings bench-diffusion bench-families bench-peers bench-sequences bench-forecasts bench-evaluation bench-sanity bench-search bench-serve bench-ab bench-watermark lint format docs notebooks site clean
.DEFAULT_GOAL := help

help:
	@echo "make demo      train, evaluate, compress, export and report: recipes/digits-gan.yaml"
	@echo "make test      the test suite (make test-all: the slow tests too)"
	@echo "make bench     the figures of the README, measured on this machine"
	@echo "make lint      ruff, mypy and the layers of the packages"
	@echo "make docs      the pictures in docs/"
	@echo "make notebooks the notebooks of the tutorials, run from the first cell on, in notebooks/"
	@echo "make site      the pages in docs/ as a site, in site/"

install: .venv/.installed
dev: .venv/.dev

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "niwaki needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv

# torch first and by exact pin: any other request may fetch gigabytes of CUDA packages.
.venv/.installed: .venv/bin/python pyproject.toml runtime/pyproject.toml constraints.txt
	$(PIP) torch==2.13.0
	$(PIP) -e 'runtime[openvino,onnxruntime]' -e .
	@touch $@

.venv/.dev: .venv/.installed
	$(PIP) -e 'runtime[openvino,onnxruntime]' -e '.[dev]'
	@touch $@

demo: install
	$(BIN)/niwaki run recipes/digits-gan.yaml

test: dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-all: dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "slow or not slow"

bench: bench-quality bench-compression bench-training bench-evaluation

bench-quality: install
	$(BIN)/python benchmarks/quality.py

bench-compression: dev
	$(BIN)/python benchmarks/compression.py
	$(BIN)/python benchmarks/during.py

bench-families: install
	$(BIN)/python benchmarks/families.py

# what it compares with is installed by hand: the file's head says how
bench-peers: install
	$(BIN)/python benchmarks/peers_families.py

bench-sequences: install
	$(BIN)/python benchmarks/sequences.py

# what it compares with is installed by hand: the file's head says how
bench-forecasts: dev
	$(BIN)/python benchmarks/forecast_peers.py

# what it compares with is installed by hand: the head of peers_families.py says how
bench-diffusion: install
	$(BIN)/python benchmarks/families.py --families diffusion --json benchmarks/results/diffusion.json
	$(BIN)/python benchmarks/peers_families.py diffusion

bench-watermark: install
	$(BIN)/python benchmarks/watermark.py runs/digits-gan

bench-search: install
	$(BIN)/python benchmarks/search.py

# what it compares with is installed by hand: the file's head says how
bench-serve: dev
	$(BIN)/python benchmarks/serve.py runs/digits-gan

bench-ab: install
	$(BIN)/python benchmarks/ab.py

bench-couplings: install
	$(BIN)/python benchmarks/couplings.py

bench-training: install
	$(BIN)/python benchmarks/training.py

bench-evaluation: dev
	$(BIN)/python benchmarks/evaluation.py --memory --json benchmarks/results/evaluation.json

bench-sanity: install
	$(BIN)/python benchmarks/sanity.py

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install
	$(BIN)/python docs/pictures.py

notebooks: dev
	OMP_NUM_THREADS=2 $(BIN)/python docs/notebooks.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .import_linter_cache

site: dev
	$(BIN)/mkdocs build
