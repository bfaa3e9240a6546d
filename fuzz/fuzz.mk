# Fuzzing: sequences of calls of the C API, on the library and on the model of the property
# tests. Needs a nightly Rust toolchain; cargo-fuzz is installed into build/tools if need be.

.PHONY: fuzz fuzz-corpus fuzz-show fuzz-keep fuzz-merge fuzz-planted

fuzz_sh = T="$(T)" SANITIZER="$(SANITIZER)" B="$(B)" CARGO="$(CARGO)" NIGHTLY="$(NIGHTLY)" MAKEFLAGS= sh fuzz/fuzz.sh

fuzz: ## fuzz the C API against the model (T=60 seconds; SANITIZER=none: faster)
	$(need_cargo)
	$(need_nightly)
	@$(fuzz_sh) run

fuzz-corpus: ## replay what the fuzzer has kept (in `make check` too; needs no fuzzer)
	$(need_cargo)
	@MAKEFLAGS= $(CARGO) test --target-dir $(TARGET) --test corpus -- --nocapture

fuzz-show: ## say what a file of the fuzzer does, and what goes wrong (F=file)
	$(need_cargo)
	@test -f "$(F)" || { echo "make: which file? make fuzz-show F=file" >&2; exit 1; }
	@MAKEFLAGS= GOTIMER_TRACE=1 GOTIMER_REPLAY="$(abspath $(F))" $(CARGO) test --target-dir $(TARGET) --test corpus -- --nocapture

fuzz-keep: ## a file of the fuzzer that went wrong is tested from now on (F=file)
	@test -f "$(F)" || { echo "make: which file? make fuzz-keep F=file" >&2; exit 1; }
	@$(fuzz_sh) keep "$(F)"

fuzz-merge: ## make the committed corpus anew, from it and from what was found
	$(need_cargo)
	$(need_nightly)
	@$(fuzz_sh) merge

# PLANTED=proptest: only by the property test, for which no nightly toolchain is needed.
fuzz-planted: ## bugs are planted in a copy of the sources: the property test and the fuzzer must find them
	$(need_cargo)
	@T="$(T)" B="$(B)" CARGO="$(CARGO)" NIGHTLY="$(NIGHTLY)" MAKEFLAGS= sh fuzz/planted.sh $(PLANTED)
