# The two that matter: `make serve` and `make test`. Both install what is missing first (scripts/bootstrap.sh).
# ARGS passes arguments on: make serve ARGS="--port 9000 --timecode"; make test ARGS="-m 'not browser'".
SHELL := /bin/bash
BIN := .venv/bin
ARGS ?=

.PHONY: serve test nightly fuzz bench evaluate lint types contracts format fresh bootstrap sbom

bootstrap:
	@scripts/bootstrap.sh

serve: bootstrap
	@exec $(BIN)/nerf-lipsync serve $(ARGS)

test: bootstrap
	scripts/test.sh $(ARGS)

nightly: bootstrap
	@scripts/bootstrap.sh cluster voices
	$(BIN)/python -m pytest --nightly $(ARGS)

# Ten minutes of CPU time for each thing that reads what others send; what fails is kept in tests/data/fuzz.
fuzz: bootstrap
	FUZZ_SECONDS=600 FUZZ_RESULTS=benchmarks/results/fuzz.json $(BIN)/python -m pytest -o faulthandler_timeout=0 tests/fuzz $(ARGS)

# A minute: kernels, pipeline and a call, as ratios against benchmarks/results/baseline_ratios.json; fails when worse.
bench: bootstrap
	$(BIN)/nerf-lipsync bench compare $(ARGS)

lint: bootstrap
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: bootstrap
	$(BIN)/mypy

contracts: bootstrap
	$(BIN)/lint-imports

format: bootstrap
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What is installed, as a CycloneDX document: build/sbom.json.
sbom: bootstrap
	scripts/sbom.sh

# Proves both commands in a minimal Debian chroot; needs root and mmdebstrap.
fresh:
	scripts/fresh.sh

# The paper's evaluation on recorded data (NERF_LIPSYNC_DATA), from committed weights; an interrupted run goes on.
evaluate: bootstrap
	@scripts/evaluate.sh $(ARGS)
