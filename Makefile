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
# Python clients that cannot stand beside our tests; tests/wire/test_clients.py looks for them here.
CLIENTS := $(VENV)/clients
# Not with the other stamps: making the environment anew would take it away.
TOOLCHAIN := target/.toolchain
COMPILERS := $(shell command -v $(CARGO) rustc)

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

test: debian lint $(STAMPS)/product $(WIRE_STAMP) $(STAMPS)/clients ## install what the tests need, then run all but the slow ones
	$(CARGO) test --workspace --exclude whimbrel-python --locked --quiet
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

# --- for developers --------------------------------------------------------------------------------------------------

.PHONY: check lint types rust-lint stubs test-slow abuse crash soak build bench bench-referee bench-binding bench-start bench-spike docs fuzz simulate clean
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

test-slow: debian $(STAMPS)/dev $(STAMPS)/product $(WIRE_STAMP) $(STAMPS)/clients ## the slow tests alone
	$(BIN)/python -m pytest -m slow $(ARGS)

abuse: $(STAMPS)/dev $(STAMPS)/product ## attack the product, short and long, beside a healthy client
	$(BIN)/python -m pytest tests/abuse $(ARGS)

KILLS ?= 1000
crash: $(STAMPS)/dev $(STAMPS)/product ## kill brokers under load KILLS= times and see what they promised, or SEED= alone
	$(BIN)/python -m tests.crash.run --kills=$(KILLS) $(if $(SEED),--seed=$(SEED),--first=$(or $(FIRST),0))

MINUTES ?= 60
soak: $(STAMPS)/dev $(STAMPS)/product ## MINUTES= of churn against a durable broker, with budgets for its disk and memory
	$(BIN)/python -m tests.soak.run --minutes=$(MINUTES)

build: $(TOOLCHAIN) ## one abi3 wheel in dist/
	$(PYTHON) -m pip wheel . --no-deps --wheel-dir dist

bench: $(STAMPS)/product ## every scenario, beside mosquitto where it is installed (ARGS="--only pair-q0 --rounds 5")
	$(BIN)/python -m benchmarks.run $(ARGS)

bench-referee: $(STAMPS)/product ## the same under a load generator that is not ours (ARGS="FOLDER --rounds 3", with mqload.c and compare.py in it)
	$(BIN)/python -m benchmarks.referee $(ARGS)

bench-binding: $(STAMPS)/product ## what crossing between Rust and Python costs
	$(BIN)/python -m benchmarks.binding_cost $(ARGS)

bench-start: $(STAMPS)/product ## how long a killed broker takes to serve again, and its memory (ARGS="--starts 5")
	$(BIN)/python -m benchmarks.start_up $(ARGS)

bench-spike: ## the event loop's spike beside mosquitto (ARGS="LOAD_GENERATOR COMPARE_SCRIPT [ROUNDS]")
	benchmarks/loop_spike/run.sh $(ARGS)

docs: $(STAMPS)/dev $(STAMPS)/product ## the reference: docs/reference/ from tables and tests, target/doc from the crates
	@mkdir -p docs/reference
	$(BIN)/python -m whimbrel.settings.reference > docs/reference/settings.md
	$(BIN)/python -m whimbrel.services.reference > docs/reference/metrics.md
	$(BIN)/python tools/conformance.py > docs/reference/conformance.md
	$(BIN)/python -m tests.wire.clients.page > docs/reference/clients.md
	$(CARGO) doc --workspace --no-deps --document-private-items --locked

FUZZ_SECONDS ?= 60
RUST_TARGETS = $(filter-out config,$(or $(FUZZ_TARGET),$(shell $(CARGO) fuzz list)))
fuzz: $(STAMPS)/dev $(STAMPS)/product ## every fuzz target for FUZZ_SECONDS, or FUZZ_TARGET= alone
	$(if $(filter config,$(or $(FUZZ_TARGET),config)),$(BIN)/python -m tests.settings.fuzz_target $(FUZZ_SECONDS))
	@[ "$(FUZZ_TARGET)" = config ] || $(CARGO) fuzz --version > /dev/null 2>&1 || \
		{ echo "cargo-fuzz is missing: run 'cargo install cargo-fuzz'" >&2; exit 1; }
	for target in $(RUST_TARGETS); do \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS); \
	done

SEEDS ?= 100000
FIRST ?= 0
SCENARIO ?= takeover
simulate: ## the seeded simulator: SCENARIO=takeover or crash; SEEDS= many from FIRST= on, or SEED= alone, with its story
	$(CARGO) run --quiet --release --locked --package whimbrel-sim --bin simulate -- $(SCENARIO) $(if $(SEED),$(SEED),$(FIRST) $(SEEDS))

clean: ## remove everything that was built; the broker's data in DATA_DIR stays
	rm -rf target dist $(VENV) $(WIRE)/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis fuzz/target
	find python -name '_core*.so' -delete

# --- steps, each with a stamp ----------------------------------------------------------------------------------------

.PHONY: debian no-compiler
IS_NEW_ENOUGH := 'import sys; sys.exit("whimbrel needs Python 3.11 or newer; this is " + sys.version if sys.version_info < (3, 11) else 0)'

# Looked at again when a compiler is replaced, and always where one is missing; cargo itself refuses a wrong version, too.
$(TOOLCHAIN): Cargo.toml build_backend/toolchain.py $(COMPILERS) $(if $(word 2,$(COMPILERS)),,no-compiler)
	@$(PYTHON) -c $(IS_NEW_ENOUGH)
	@$(PYTHON) build_backend/toolchain.py
	@mkdir -p $(@D)
	@touch $@

debian:
	@$(PYTHON) -c $(IS_NEW_ENOUGH)
	@PYTHON=$(PYTHON) tools/install_debian requirements/debian.txt

# --clear: a half-made environment (no ensurepip, Ctrl-C) is not taken for a good one.
$(STAMPS)/venv: | $(TOOLCHAIN)
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

# No dependencies: it has none, and what it brings must not meet ours.
$(STAMPS)/clients: $(WIRE)/requirements.txt $(STAMPS)/venv
	rm -rf $(CLIENTS)
	$(BIN)/pip install --quiet --no-deps --target $(CLIENTS) --requirement $(WIRE)/requirements.txt
	@touch $@
