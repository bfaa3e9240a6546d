# libgotimer: how to build, test and install it. `make` alone lists the targets.
#
# Needed everywhere: a Rust toolchain (cargo, 1.89 or newer) and a C compiler. `make check` also
# needs a C++ compiler (the header must work from C++), rustfmt and clippy; `make sanitize` a
# nightly toolchain and valgrind. What is missing is named in one line, with the way to get it.

CARGO   ?= cargo
NIGHTLY ?= cargo +nightly
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
INCDIR  ?= $(PREFIX)/include
DESTDIR ?=
ifeq ($(origin CXX),default)
CXX := c++
endif
CFLAGS   ?= -O2 -g
CXXFLAGS ?= -O2 -g
WARN     := -Wall -Wextra -Werror

VERSION := $(shell sed -n 's/^version *= *"\([^"]*\)".*/\1/p' Cargo.toml | head -n 1)
SOMAJOR := $(firstword $(subst ., ,$(VERSION)))
HOST    := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TARGET  := $(or $(CARGO_TARGET_DIR),target)
B       := build
# cargo writes the header here on each release build (see build.rs).
HEADER  := $(abspath $(TARGET))/release/gotimer.h
# The C tests that run several threads against each other: part of their names.
PLOOPS  := ploop
# What a program needs beside libgotimer.a.
STATIC_LIBS := -lpthread -ldl -lm

# $(call need,program,what for,how to get it): one clear line when a tool is missing.
need = @command -v $(firstword $(1)) >/dev/null 2>&1 || { \
	echo "make: $(firstword $(1)) is missing ($(2)). $(3)" >&2; exit 1; }
# $(call need_part,command,name,how to get it): the same for parts of the Rust toolchain.
need_part = @$(1) --version >/dev/null 2>&1 || { \
	echo "make: $(2) is missing. Install it with: $(3)" >&2; exit 1; }
need_cargo  = $(call need,$(CARGO),the Rust toolchain,Install it with rustup: https://rustup.rs)
need_cc     = $(call need,$(CC),the C compiler,Debian: apt-get install gcc)
need_cxx    = $(call need,$(CXX),the C++ compiler: the tests use the header from C++,Debian: apt-get install g++)
need_rustfmt = $(call need_part,$(CARGO) fmt,rustfmt,rustup component add rustfmt)
need_clippy = $(call need_part,$(CARGO) clippy,clippy,rustup component add clippy)
need_valgrind = $(call need,valgrind,the memory checker,Debian: apt-get install valgrind)
need_nightly = $(call need_part,$(NIGHTLY),a nightly Rust toolchain,rustup toolchain install nightly --profile minimal)

# For a make that builds much, unless the number of jobs was given.
jobs = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell getconf _NPROCESSORS_ONLN))

# The steps of `make check`, in order.
CHECKS  := fmt clippy cargo header ctests programs public gomap gotests conformance readme examples install bench

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help all build header header-check demo check ctest sanitize asan tsan valgrind \
	install clean FORCE $(CHECKS:%=check-%)

help: ## list the targets
	@echo "libgotimer $(VERSION): targets"
	@sed -n 's/^\([a-z][a-z0-9-]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | \
		while IFS="$$(printf '\t')" read -r t d; do printf '  %-13s %s\n' "$$t" "$$d"; done

# ---- libraries and C tests, in several flavours --------------------------------------------

# $(call flavour,directory,command that builds,where it leaves the libraries,extra C flags)
# gives $1/lib (the libraries under their installed names) and $1/ctests (the test runner,
# which finds $1/lib by its own place). The build command always runs; cargo knows when there
# is nothing to do, and an unchanged library is not copied, so nothing is linked again.
define flavour
$(1)/lib/libgotimer.so.$(VERSION): FORCE
	$$(need_cargo)
	$$(need_cc)
	@$(2)
	@mkdir -p $$(@D)
	@cmp -s $(3)/libgotimer.so $$@ || install -m 755 $(3)/libgotimer.so $$@
	@cmp -s $(3)/libgotimer.a $$(@D)/libgotimer.a || install -m 644 $(3)/libgotimer.a $$(@D)/libgotimer.a
	@ln -sf libgotimer.so.$(VERSION) $$(@D)/libgotimer.so.$(SOMAJOR)
	@ln -sf libgotimer.so.$(SOMAJOR) $$(@D)/libgotimer.so

$(1)/obj/%.c.o: ctests/%.c
	$$(need_cc)
	@mkdir -p $$(@D)
	$$(CC) -std=c11 $(WARN) $$(CFLAGS) $(4) -pthread -MMD -MP -Iinclude -Ictests -c $$< -o $$@

$(1)/obj/%.cpp.o: ctests/%.cpp
	$$(need_cxx)
	@mkdir -p $$(@D)
	$$(CXX) -std=c++17 $(WARN) $$(CXXFLAGS) $(4) -pthread -MMD -MP -Iinclude -Ictests -c $$< -o $$@

$(1)/ctests: $(patsubst ctests/%,$(1)/obj/%.o,$(sort $(wildcard ctests/*.c ctests/*.cpp))) \
		$(1)/lib/libgotimer.so.$(VERSION)
	$$(CXX) $$(CXXFLAGS) $(4) -pthread -o $$@ $$(filter %.o,$$^) -L$(1)/lib -lgotimer -Wl,-rpath,'$$$$ORIGIN/lib'

-include $(wildcard $(1)/obj/*.d)
endef

# Without it, the header stays as it is, and cbindgen is not built.
RELEASE_FEATURES ?= --features header
# cargo shares no job server with make: it would complain that it cannot reach it.
release = MAKEFLAGS= GOTIMER_HEADER_OUT=$(HEADER) $(CARGO) build --release $(RELEASE_FEATURES) --target-dir $(TARGET)
checked = MAKEFLAGS= $(CARGO) build --release --features checked --target-dir $(TARGET)/checked
# The old mangling of names and line numbers: the C compiler's runtimes can read them.
san_flags = -Cforce-frame-pointers=yes -Zunstable-options -Csymbol-mangling-version=legacy
asan_build = MAKEFLAGS= CARGO_PROFILE_RELEASE_DEBUG=1 RUSTFLAGS="-Zsanitizer=address $(san_flags)" \
	$(NIGHTLY) build --release --target $(HOST) --target-dir $(TARGET)/asan
# The standard library is not instrumented; nothing of ours may rely on its locks (docs/design.md).
tsan_build = MAKEFLAGS= CARGO_PROFILE_RELEASE_DEBUG=1 RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer $(san_flags)" \
	$(NIGHTLY) build --release --target $(HOST) --target-dir $(TARGET)/tsan

$(eval $(call flavour,$(B),$(release),$(TARGET)/release,))
$(eval $(call flavour,$(B)/checked,$(checked),$(TARGET)/checked/release,-DGT_TEST_CHECKED=1))
$(eval $(call flavour,$(B)/asan,$(asan_build),$(TARGET)/asan/$(HOST)/release,-fsanitize=address -fno-omit-frame-pointer))
$(eval $(call flavour,$(B)/tsan,$(tsan_build),$(TARGET)/tsan/$(HOST)/release,-fsanitize=thread -Wno-tsan))

LIB := $(B)/lib/libgotimer.so.$(VERSION)

all: build
build: $(LIB) ## build the release libraries into build/lib

# ---- header --------------------------------------------------------------------------------

header: $(LIB) ## regenerate include/gotimer.h
	@mkdir -p include
	@cmp -s $(HEADER) include/gotimer.h || cp $(HEADER) include/gotimer.h
	@echo "include/gotimer.h is up to date"

header-check: $(LIB) ## fail if include/gotimer.h is not what the sources give
	@diff -u include/gotimer.h $(HEADER) || { \
		echo "make: include/gotimer.h differs from what the sources give. Mend it with: make header" >&2; exit 1; }
	@echo "header-check: include/gotimer.h is up to date"

# ---- examples and benchmark ----------------------------------------------------------------

# Each examples/NAME.c is a program; more files of it stand in examples/NAME/.
EXAMPLES := $(patsubst examples/%.c,$(B)/examples/%,$(sort $(wildcard examples/*.c)))
LINK_LIB  = -L$(B)/lib -lgotimer -Wl,-rpath,'$$ORIGIN/../lib' -lm

.SECONDEXPANSION:
$(B)/examples/%: examples/%.c $$(wildcard examples/$$*/*.c examples/$$*/*.h) include/gotimer.h $(LIB)
	$(need_cc)
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) $(CFLAGS) -pthread -Iinclude -Iexamples/$* $(filter %.c,$^) -o $@ $(LINK_LIB)

demo: $(B)/examples/demo $(B)/examples/server ## a million timers on all cores, then a server of green threads: 20 s
	@$(B)/examples/demo $(DEMO)
	@$(B)/examples/server $(SERVER)

# ---- checks --------------------------------------------------------------------------------

# One after the other, so that output stays in order and no test shares the machine with
# another step; each step builds with all processors.
check: ## all that must pass before a commit (needs c++, rustfmt and clippy too)
	@set -e; for c in $(CHECKS); do echo "== check-$$c"; $(MAKE) $(jobs) --no-print-directory check-$$c; done
	@echo "make check: all passed"

check-fmt:
	$(need_cargo)
	$(need_rustfmt)
	@MAKEFLAGS= $(CARGO) fmt --all --check

check-clippy:
	$(need_cargo)
	$(need_clippy)
	@MAKEFLAGS= $(CARGO) clippy --quiet --all-targets --target-dir $(TARGET) -- -D warnings
	@# As a release: what it builds of others is used again by the release build.
	@MAKEFLAGS= $(CARGO) clippy --quiet --release --all-targets --features checked,header --target-dir $(TARGET) -- -D warnings

check-cargo:
	$(need_cargo)
	@MAKEFLAGS= $(CARGO) test --target-dir $(TARGET)

check-header: header-check

# The release build, the checked build, and the threaded tests with all heaps verified.
check-ctests: $(B)/ctests $(B)/checked/ctests
	@echo "ctests:"; $(B)/ctests
	@echo "ctests, checked build:"; $(B)/checked/ctests
	@echo "ctests, GOTIMER_VERIFY=1:"; GOTIMER_VERIFY=1 $(B)/ctests $(PLOOPS)

# Programs of their own: what they have would be the whole test runner's.
PROGRAMS := $(patsubst ctests/programs/%.c,$(B)/programs/%,$(sort $(wildcard ctests/programs/*.c)))

$(B)/programs/%: ctests/programs/%.c include/gotimer.h $(LIB)
	$(need_cc)
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) $(CFLAGS) -pthread -Iinclude $< -o $@ $(LINK_LIB)

# It loads the library itself, and a plugin that has the static one in it.
$(B)/programs/unload: ctests/programs/unload.c include/gotimer.h $(B)/programs/unload_plugin.so
	$(CC) -std=c11 $(WARN) $(CFLAGS) -pthread -Iinclude -DGT_SO='"libgotimer.so.$(SOMAJOR)"' $< -o $@ \
		-Wl,-rpath,'$$ORIGIN/../lib' -ldl

$(B)/programs/unload_plugin.so: ctests/programs/unload/plugin.c include/gotimer.h $(LIB)
	$(need_cc)
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) $(CFLAGS) -pthread -fPIC -shared -Iinclude $< -o $@ $(B)/lib/libgotimer.a $(STATIC_LIBS)

check-programs: $(PROGRAMS)
	@set -e; for p in $(PROGRAMS); do echo "$$p"; $$p; done

check-public: $(LIB)
	@sh ctests/public.sh $(LIB)
	@sh ctests/public_constants.sh

check-gomap:
	@sh ctests/gomap.sh

check-gotests:
	@sh ctests/gotests.sh

check-readme: $(LIB)
	@CC="$(CC)" sh ctests/readme.sh

check-examples: $(EXAMPLES)
	@set -e; for e in $(filter-out %/demo %/server,$(EXAMPLES)); do echo "$$e"; $$e; done
	@echo "$(B)/examples/demo 2 100000"; $(B)/examples/demo 2 100000
	@echo "$(B)/examples/server 2 200"; $(B)/examples/server 2 200

check-install: $(LIB)
	@MAKE="$(MAKE)" CC="$(CC)" STATIC_LIBS="$(STATIC_LIBS)" sh ctests/install.sh $(VERSION) $(SOMAJOR)

ctest: $(B)/ctests ## run the C tests (TESTS="part of a name ..." for some of them)
	@$(B)/ctests $(TESTS)

# ---- sanitizers ----------------------------------------------------------------------------

sanitize: ## all sanitizers: ASan with LSan, TSan, UBSan, valgrind, a program's own TSan, helgrind, drd
	@set -e; for c in asan tsan ubsan valgrind tsan-embed helgrind; do $(MAKE) $(jobs) --no-print-directory $$c; done
	@echo "make sanitize: all passed"

# Rust's own sanitizer runtime is not used: the C compiler's is linked, and both instrument
# for the same interface (ctests/tsan_names.c fills a gap of older ones).
asan:
	$(need_nightly)
	@$(MAKE) $(jobs) --no-print-directory $(B)/asan/ctests
	@echo "ctests, AddressSanitizer:"
	@GT_TEST_SLOW=4 $(B)/asan/ctests $(TESTS)

tsan:
	$(need_nightly)
	@$(MAKE) $(jobs) --no-print-directory $(B)/tsan/ctests
	@echo "ctests, ThreadSanitizer:"
	@GT_TEST_SLOW=8 TSAN_OPTIONS=halt_on_error=1 $(B)/tsan/ctests $(TESTS)

valgrind: $(B)/ctests
	$(need_valgrind)
	@echo "ctests, valgrind:"
	@GT_TEST_SLOW=20 valgrind -q --error-exitcode=99 --fair-sched=yes --suppressions=ctests/valgrind.supp \
		--leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
		$(B)/ctests $(TESTS)

# ---- install -------------------------------------------------------------------------------

install: $(LIB) ## install into PREFIX (default /usr/local), below DESTDIR
	install -d $(DESTDIR)$(INCDIR) $(DESTDIR)$(LIBDIR)/pkgconfig
	install -m 644 include/gotimer.h $(DESTDIR)$(INCDIR)/gotimer.h
	install -m 755 $(LIB) $(DESTDIR)$(LIBDIR)/libgotimer.so.$(VERSION)
	ln -sf libgotimer.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libgotimer.so.$(SOMAJOR)
	ln -sf libgotimer.so.$(SOMAJOR) $(DESTDIR)$(LIBDIR)/libgotimer.so
	install -m 644 $(B)/lib/libgotimer.a $(DESTDIR)$(LIBDIR)/libgotimer.a
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCDIR@|$(INCDIR)|' \
		-e 's|@VERSION@|$(VERSION)|' -e 's|@STATIC_LIBS@|$(STATIC_LIBS)|' \
		gotimer.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/gotimer.pc
	chmod 644 $(DESTDIR)$(LIBDIR)/pkgconfig/gotimer.pc

clean: ## remove all that was built
	rm -rf $(B) $(TARGET)

# ---- what stands in directories of its own ---------------------------------------------------

include $(sort $(wildcard */*.mk))
