# What a person types here. `make help` lists it.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build packages reproduce plugins run test test-setup test-package test-rpm test-vm test-vm-smoke \
	hostile attacks chaos soak lint bench bench-micro bench-check bench-accept bench-count token

# Where .ci/setup found or put the tools; nothing to read before the first set-up.
tools = [ ! -f build/env.sh ] || . build/env.sh;

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## install what building needs and this machine lacks
	@.ci/setup build

build: setup ## build the daemon, the command line and the launcher
	@$(tools) cargo build --workspace --bins --locked

ARCH ?=
packages: ## build the Debian package and the rpm into build/packages; ARCH=arm64 cross-builds
	@.ci/setup package $(ARCH)
	@$(tools) packaging/build $(if $(ARCH),--arch $(ARCH))
	@packaging/lint $(ARCH)

plugins: setup ## build the reference plugins into build/plugins
	@$(tools) sdk/plugins/build build/plugins

run: build plugins ## start the gateway with a jailed plugin behind it
	@$(tools) .ci/serve

test: test-setup ## test everything that can be tested here; name the rest
	@$(tools) cargo build --workspace --bins --locked
	@$(tools) cargo test --workspace --locked --no-fail-fast

# One end-to-end test by itself, with all that it prints.
alone = $(tools) cargo build --workspace --bins --locked && cargo test --locked -p pinfold-tests --test it

test-setup:
	@.ci/setup test

hostile: test-setup ## run each way for a plugin to misbehave and print the table
	@$(alone) e2e::hostile -- --nocapture

attacks: test-setup ## try to break out of a jail in every way of the table, print it, write docs/security/attacks.md
	@export PINFOLD_ATTACKS_WRITE=1; $(alone) e2e::attacks::every -- --nocapture

COUNT ?= 200
SEED ?=
chaos: test-setup ## kill -9 whatever runs at random moments, COUNT times; SEED repeats a run
	@export CHAOS_COUNT=$(COUNT) CHAOS_SEED=$(SEED); $(alone) e2e::chaos -- --nocapture

DURATION ?= 1h
soak: test-setup ## load, crashes and reloads for DURATION (1h), and whether memory and descriptors stay flat
	@export SOAK_DURATION=$(DURATION); $(alone) e2e::soak -- --nocapture

test-package: test-setup plugins ## install what is packed in a root of its own, run it as the units would, purge it
	@$(tools) cargo build --workspace --bins --locked
	@$(tools) packaging/build --profile dev launcher
	@$(tools) packaging/build --profile dev --no-build tree
	@$(tools) tests/package

SUITES ?= bookworm trixie
PARTS ?=
test-vm: test-setup ## run what was built here in virtual machines with systemd and cgroup v2; SUITES, PARTS choose
	@failed=; for suite in $(SUITES); do \
	    echo "=== $$suite"; PINFOLD_VM_SUITE=$$suite tests/vm $(PARTS) || failed="$$failed $$suite"; \
	done; [ -z "$$failed" ] || { echo "test-vm: failed:$$failed" >&2; exit 1; }

test-vm-smoke: ## install and use the package in one virtual machine with systemd, where vm-run can start one
	@$(tools) tests/vm smoke

test-rpm: packages ## the rpm in a root of its own: install, verify, upgrade, erase
	@$(tools) packaging/try-rpm

reproduce: ## build every package of the last commit twice, apart from each other, and compare the bytes; an hour
	@.ci/setup package
	@$(tools) packaging/reproduce packages

lint: setup ## check format, lints, shell, Go and dependencies
	@$(tools) .ci/lint

BENCH ?=
bench: ## measure Pinfold, a Go host and the limit in turns, write docs/performance.md; BENCH= options
	@.ci/setup bench
	@$(tools) cargo build --release --workspace --bins --locked
	@$(tools) target/release/bench $(BENCH)

bench-micro: setup ## time small pieces of the hot paths by themselves; ONLY=gob takes those so called
	@$(tools) cargo bench --locked -p pinfold-cost -- $(ONLY)

bench-check: test-setup ## count the same pieces' instructions, fail where one takes a tenth more than was accepted
	@$(tools) .ci/bench-check check

bench-accept: test-setup ## accept the instruction counts of now
	@$(tools) .ci/bench-check accept

bench-count: test-setup ## print the instruction counts of now
	@$(tools) .ci/bench-check count

token: ## print the token that `make run` made; use make -s
	@target/debug/pinfold --dev token print
