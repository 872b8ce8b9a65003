# The front door: `make help` lists the targets. Each installs the Debian packages that it needs when run as root, and says what to
# type when not. The work is done by CMake presets (CMakePresets.json) and scripts/.
PREFIX ?= /usr/local
DESTDIR ?=
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 20

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := build
.PHONY: build demo test test-backends bench bench-quick bench-micro lint format asan tsan fuzz install dist deb clean help

packages = scripts/install-packages.sh $(1)
compile = cmake --preset $(1) && cmake --build --preset $(1) --parallel $(JOBS)

build: ## optimised, hardened build in build/release (the default)
	@$(call packages,build)
	@$(call compile,release)
	@echo "Built build/release/src/cli/limpid; try: make demo"

demo: ## a client reaches a server through Limpid, in namespaces; all gone afterwards
	@$(call packages,demo)
	@$(call compile,release)
	@build/release/src/cli/limpid lab demo

test: ## every test, with a summary that counts what was skipped and why
	@$(call packages,test)
	@$(call compile,dev)
	@scripts/run-tests.sh dev

test-backends: ## the end-to-end tests over each other backend, with both families
	@$(call packages,test)
	@$(call compile,dev)
	@for backend in iptables-nft iptables-legacy ebpf; do \
	  LIMPID_TEST_ALL=1 LIMPID_TEST_BACKEND=$$backend scripts/run-tests.sh dev --label-regex '^netns$$' || exit 1; done

bench: ## Limpid beside kernel forwarding and other proxies, interleaved; writes docs/performance.{md,svg} and build/bench.json
	@$(call packages,bench)
	@$(call compile,release)
	@cmake --build --preset release --target udp_exchange
	@build/release/src/cli/limpid lab run --in router -- bench/bench.py --limpid "$(CURDIR)/build/release/src/cli/limpid" \
	  --udp-exchange "$(CURDIR)/build/release/bench/udp_exchange" --rounds $(or $(ROUNDS),5) --seconds $(or $(SECONDS),4) \
	  --json build/bench.json --chart $(or $(CHART),docs/performance.svg) --page $(or $(PAGE),docs/performance.md)

bench-quick: ## the same in about two minutes, with one short round; the pages stay as they are
	@mkdir -p build && cp docs/performance.md build/bench-quick.md
	@$(MAKE) bench ROUNDS=1 SECONDS=2 CHART=build/bench-quick.svg PAGE=build/bench-quick.md

bench-micro: ## single steps of the relay (Google Benchmark); FILTER=regex
	@$(call packages,bench)
	@$(call compile,release)
	@cmake --build --preset release --target micro
	@build/release/bench/micro --benchmark_filter="$(or $(FILTER),.)"

asan: ## the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(call packages,test)
	@$(call compile,asan)
	@scripts/run-tests.sh asan

tsan: ## the tests under ThreadSanitizer
	@$(call packages,test)
	@$(call compile,tsan)
	@scripts/run-tests.sh tsan

fuzz: ## each parser fuzzed for FUZZ_SECONDS (20)
	@$(call packages,fuzz)
	@$(call compile,fuzz)
	@scripts/run-fuzzers.sh $(FUZZ_SECONDS)

lint: ## clang-format, clang-tidy, shellcheck, pyflakes, headers alone
	@$(call packages,lint)
	@cmake --preset lint >/dev/null
	@scripts/lint.sh

format: ## clang-format over our C++
	@$(call packages,lint)
	@scripts/format.sh

install: ## into $(DESTDIR)$(PREFIX): program, library, man pages, completions, units, examples
	@$(call packages,build)
	@cmake --preset release -DCMAKE_INSTALL_PREFIX="$(PREFIX)" && cmake --build --preset release --parallel $(JOBS)
	@DESTDIR="$(DESTDIR)" cmake --install build/release --strip

dist: ## the source as build/dist/limpid-VERSION.tar.xz: of the commit, and the same bytes whoever makes it
	@$(call packages,dist)
	@scripts/make-dist.sh build/dist

deb: ## Debian packages of this source in build/deb, compiled anew and looked at by lintian
	@$(call packages,deb)
	@scripts/make-deb.sh build/deb

clean: ## removes build/
	@rm -rf build

help: ## this list
	@sed -n 's/^\([a-z-]*\): ## \(.*\)/\1	\2/p' Makefile | while read -r target text; do printf '  make %-13s %s\n' "$$target" "$$text"; done
