# kit: from a YAML file to a bootable node.
#
#   make run      build everything, boot yaml/node.yml, print the page it serves
#   make test     run every test; ends in `N passed, N failed`
#   make help     the other targets
#
# What is built lies under $CARGO_TARGET_DIR, by default ~/.cache/kit/target; nothing is written beside the sources.

SHELL := /bin/bash
.DEFAULT_GOAL := build

cache := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kit
export CARGO_TARGET_DIR ?= $(cache)/target
# .cargo/config.toml makes programs static; this variable would silently take its place.
unexport RUSTFLAGS
unexport CARGO_ENCODED_RUSTFLAGS

# What cargo is told besides: CI says --locked.
CARGO_FLAGS ?=

target := x86_64-unknown-linux-gnu
built := $(CARGO_TARGET_DIR)/$(target)
stage := $(CARGO_TARGET_DIR)/stage
version := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)

# Programs of a node, by package. They are built one by one: a build of several packages would give each the features
# of all, and PID 1 the YAML parser.
node_packages := kit-init kit-runtime kit-net kit-sysctl
node_programs := kit-init kit-loader kitctl kitc kit-net kit-sysctl

# What `make bench` runs, see qemu-tests/benches.
benches := build node

# For tests and scripts: the staged programs, as `make dist` packs them.
staged_env := KIT_BIN_DIR=$(stage)/bin KIT_PROGRAMS=$(stage)/lib/kit KIT_IMAGES=$(stage)/share/kit/images

.PHONY: help build node kitbuild stage run test bench check dist clean

help:
	@printf '%s\n' \
	  'make build    kitbuild and the programs of a node' \
	  'make stage    the same, laid out as installed, in $(stage)' \
	  'make run      boot yaml/node.yml and print the page it serves (installs missing packages)' \
	  'make test     every test; ends in "N passed, N failed"' \
	  'make check    formatting, lints, dependencies' \
	  'make bench    speed and size, as a table' \
	  'make dist     out/kit-$(version)-x86_64-linux.tar.gz' \
	  'make clean    remove what was built'

build: node kitbuild

node:
	@for package in $(node_packages); do \
	  cargo build $(CARGO_FLAGS) --profile node -p $$package || exit 1; \
	done

kitbuild:
	@cargo build $(CARGO_FLAGS) --release -p kitbuild

# bin/kitbuild, lib/kit/PROGRAMS, share/kit/{images,yaml}: kitbuild finds all of it by where itself is.
stage: build
	@install -d $(stage)/bin $(stage)/lib/kit $(stage)/share/kit
	@install -C -m 0755 $(built)/release/kitbuild $(stage)/bin/kitbuild
	@install -C -m 0755 $(node_programs:%=$(built)/node/%) $(stage)/lib/kit/
	@rm -rf $(stage)/share/kit/images $(stage)/share/kit/yaml
	@for recipe in images/*/image.yml; do \
	  from=$${recipe%/image.yml}; to=$(stage)/share/kit/$$from; install -d $$to; \
	  for path in $$from/*; do \
	    case $${path##*/} in src|tests|fuzz|Cargo.toml|clippy.toml) ;; *) cp -r $$path $$to/ ;; esac; \
	  done; \
	done
	@install -d $(stage)/share/kit/yaml && install -m 0644 yaml/*.yml $(stage)/share/kit/yaml/
	@echo "staged in $(stage)"

run:
	@.ci/setup run
	@$(MAKE) --no-print-directory stage
	@$(staged_env) .ci/serve yaml/node.yml

test:
	@.ci/setup test
	@$(MAKE) --no-print-directory stage
	@$(staged_env) CARGO_FLAGS="$(CARGO_FLAGS)" .ci/test

# One after the other: each fails if one of its figures is over its limit.
bench:
	@.ci/setup test
	@$(MAKE) --no-print-directory stage
	@failed=0; for bench in $(benches); do \
	  $(staged_env) cargo bench $(CARGO_FLAGS) -p qemu-tests --bench $$bench || failed=1; \
	done; exit $$failed

check:
	@CARGO_FLAGS="$(CARGO_FLAGS)" .ci/check

dist: stage
	@.ci/dist $(stage) $(version) out

clean:
	@rm -rf $(CARGO_TARGET_DIR) out
