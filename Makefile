# What a newcomer and a developer type. Two verbs matter to a newcomer: `make run` and `make test`.
# Knows: which step needs which other one, and the stamps that let a second run skip what is done.
# Must not know: how a step works inside; that is in pyproject.toml, Cargo.toml, tools/ and requirements/.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory
.NOTPARALLEL:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
CARGO ?= cargo
DATA_DIR ?= .data
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
WIRE := tests/wire
WIRE_STAMP := $(WIRE)/node_modules/.package-lock.json

RUST_SOURCES := $(shell find crates -name '*.rs' -o -name Cargo.toml 2>/dev/null)
PYTHON_SOURCES := python/whimbrel build_backend tools tests $(wildcard benchmarks)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MATURIN_NO_INSTALL_RUST := 1
# The backend named in pyproject.toml is ours and calls maturin; see build_backend/.
export MATURIN_NO_MISSING_BUILD_BACKEND_WARNING := 1
# cargo and maturin name the same interpreter, or each would rebuild the binding after the other.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
# Debian keeps mosquitto in sbin, which is not on everybody's path.
export PATH := $(PATH):/usr/sbin

# --- for everybody ---------------------------------------------------------------------------------------------------

.PHONY: help run test
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

run: $(STAMPS)/product ## build what changed and start the broker in the foreground (ARGS= for more options)
	@exec $(BIN)/whimbrel start --data-dir $(DATA_DIR) $(ARGS)

test: debian lint $(STAMPS)/product $(WIRE_STAMP) ## install what the tests need, then run all but the slow ones
	$(CARGO) test --workspace --exclude whimbrel-python --locked --quiet
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

# --- for developers --------------------------------------------------------------------------------------------------

.PHONY: check lint types rust-lint stubs test-slow build bench bench-binding bench-spike docs fuzz clean
check: lint rust-lint stubs ## everything that judges the source without running it

lint: $(STAMPS)/dev ## the quick part of check: style, types, import directions, sizes
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy
	PYTHONPATH=python $(BIN)/lint-imports --no-cache > $(STAMPS)/imports.txt || { cat $(STAMPS)/imports.txt; exit 1; }
	$(BIN)/python tools/check_crate_directions.py
	$(BIN)/python tools/check_sizes.py

rust-lint: $(STAMPS)/venv
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

stubs: $(STAMPS)/dev $(STAMPS)/product
	$(BIN)/python -m mypy.stubtest whimbrel._core --allowlist tools/stubtest-allowlist.txt --mypy-config-file pyproject.toml

test-slow: debian $(STAMPS)/dev $(STAMPS)/product $(WIRE_STAMP) ## the slow tests alone
	$(BIN)/python -m pytest -m slow $(ARGS)

build: toolchain ## one abi3 wheel in dist/
	$(PYTHON) -m pip wheel . --no-deps --wheel-dir dist

bench: $(STAMPS)/product ## every scenario, beside mosquitto where it is installed (ARGS="--only pair-q0 --rounds 5")
	$(BIN)/python -m benchmarks.run $(ARGS)

bench-binding: $(STAMPS)/product ## what crossing between Rust and Python costs
	$(BIN)/python -m benchmarks.binding_cost $(ARGS)

bench-spike: ## the event loop's spike beside mosquitto (ARGS="LOAD_GENERATOR COMPARE_SCRIPT [ROUNDS]")
	benchmarks/loop_spike/run.sh $(ARGS)

docs: $(STAMPS)/product ## the reference: docs/reference/ from the tables of settings and numbers, target/doc from the crates
	@mkdir -p docs/reference
	$(BIN)/python -m whimbrel.settings.reference > docs/reference/settings.md
	$(BIN)/python -m whimbrel.services.reference > docs/reference/metrics.md
	$(BIN)/python tools/conformance.py > docs/reference/conformance.md
	$(CARGO) doc --workspace --no-deps --document-private-items --locked

FUZZ_SECONDS ?= 60
fuzz: ## every fuzz target for FUZZ_SECONDS, or FUZZ_TARGET= alone
	@$(CARGO) fuzz --version > /dev/null 2>&1 || { echo "cargo-fuzz is missing: run 'cargo install cargo-fuzz'" >&2; exit 1; }
	for target in $${FUZZ_TARGET:-$$($(CARGO) fuzz list)}; do \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS); \
	done

clean: ## remove everything that was built; the broker's data in DATA_DIR stays
	rm -rf target dist $(VENV) $(WIRE)/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis fuzz/target
	find python -name '_core*.so' -delete

# --- steps, each with a stamp ----------------------------------------------------------------------------------------

.PHONY: interpreter toolchain debian
interpreter:
	@$(PYTHON) -c 'import sys; sys.exit("whimbrel needs Python 3.11 or newer; this is " + sys.version if sys.version_info < (3, 11) else 0)'

toolchain: interpreter
	@$(PYTHON) build_backend/toolchain.py

debian: interpreter
	@PYTHON=$(PYTHON) tools/install_debian requirements/debian.txt

# --clear: a half-made environment (no ensurepip, Ctrl-C) is not taken for a good one.
$(STAMPS)/venv: | toolchain
	$(PYTHON) -m venv --clear $(VENV)
	@mkdir -p $(STAMPS)
	@touch $@

$(STAMPS)/build-tools: requirements/dev.txt $(STAMPS)/venv
	$(BIN)/pip install --quiet --constraint requirements/dev.txt maturin click
	@touch $@

$(STAMPS)/dev: requirements/dev.txt $(STAMPS)/venv
	$(BIN)/pip install --quiet --requirement requirements/dev.txt
	@touch $@

# The Python side is installed in editable form, so only a change of the binding or of the metadata comes here.
$(STAMPS)/product: $(RUST_SOURCES) Cargo.toml Cargo.lock pyproject.toml $(STAMPS)/build-tools
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release
	@touch $@

$(WIRE_STAMP): $(WIRE)/package-lock.json | debian
	npm ci --prefix $(WIRE) --no-audit --no-fund --silent
	@touch $@
