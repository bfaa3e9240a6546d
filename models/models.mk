# The models of src/model/: the engine's own code, run by loom and shuttle. See docs/orderings.md.

.PHONY: model model-long model-replay mutants orderings cargo-mutants cargo-mutants-table
PYTHON3 ?= python3
need_python_mutants = $(call need,$(PYTHON3),it applies the mutations,Debian: apt-get install python3)
models_run = CARGO="$(CARGO)" TARGET="$(TARGET)" SCHEDULES="$(SCHEDULES)" MODELS="$(MODELS)" sh models/run.sh

model: ## run the models: loom, all interleavings in bounds; shuttle, some random ones (MODELS="part of a name")
	$(need_cargo)
	@$(models_run) models

model-long: ## a million random schedules (SCHEDULES=N), and loom with one preemption more
	$(need_cargo)
	@KEEP=$(B)/long/model.txt PREEMPTIONS="$(PREEMPTIONS)" $(models_run) long

model-replay: ## replay a schedule with which a storm failed (SCHEDULE=file)
	$(need_cargo)
	@test -n "$(SCHEDULE)" || { echo "make: SCHEDULE=file is missing" >&2; exit 1; }
	@$(models_run) replay "$(SCHEDULE)"

mutants: ## each mutation of docs/orderings.md makes the test fail that it names (MUTANTS="name ...", EVERY=N: each Nth)
	$(need_cargo)
	$(need_nightly)
	$(need_cc)
	$(need_python_mutants)
	@$(PYTHON3) models/mutants.py check
	@CARGO="$(CARGO)" TARGET="$(TARGET)" EVERY="$(EVERY)" $(PYTHON3) models/mutants.py run $(MUTANTS)

orderings: ## write the tables of docs/orderings.md
	$(need_python_mutants)
	@$(PYTHON3) models/mutants.py table

cargo-mutants: $(B)/ctests ## changes of the engine that a program makes up (FILES="heap run", MUTANTS=part of a name, KNOWN=no, RESUME=1, JOBS=2; an hour)
	$(need_cargo)
	$(need_python_mutants)
	@CARGO="$(CARGO)" B="$(B)" FILES="$(FILES)" MUTANTS="$(MUTANTS)" KNOWN="$(KNOWN)" RESUME="$(RESUME)" JOBS="$(JOBS)" CASES="$(CASES)" \
		MAKEFLAGS= $(PYTHON3) models/cargo-mutants.py

cargo-mutants-table: ## write the table of docs/proof.md from the last cargo-mutants of whole files
	$(need_python_mutants)
	@B="$(B)" $(PYTHON3) models/cargo-mutants.py table
