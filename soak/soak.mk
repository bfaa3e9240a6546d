# make soak T=seconds: everything at once, with every arming accounted for once a second.
# make soak-planted: the same with mistakes planted in the test itself, which must be found.

T ?= 60
SOAK := $(B)/soak/soak

$(B)/soak/%.o: soak/%.c
	$(need_cc)
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) $(CFLAGS) -pthread -MMD -MP -Iinclude -Ictests -Isoak -c $< -o $@

# The checks of ctests' harness, without its runner.
$(B)/soak/harness.o: ctests/harness.c
	$(need_cc)
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) $(CFLAGS) -pthread -MMD -MP -Iinclude -Ictests -Dmain=harness_main -c $< -o $@

$(SOAK): $(patsubst soak/%.c,$(B)/soak/%.o,$(sort $(wildcard soak/*.c))) $(B)/soak/harness.o $(LIB)
	$(CC) $(CFLAGS) -pthread -o $@ $(filter %.o,$^) -L$(B)/lib -lgotimer -Wl,-rpath,'$$ORIGIN/../lib'

-include $(wildcard $(B)/soak/*.d)

.PHONY: soak soak-planted
soak: $(SOAK) ## everything at once for T seconds (60), every arming accounted for each second
	@$(SOAK) --seconds $(T) --json $(B)/soak/last.json
	@[ $(T) -lt 600 ] || cp $(B)/soak/last.json $(B)/soak/long.json   # for docs/proof.md

# plant|what the check says that is meant for it
SOAK_PLANTED := 'forget|st.fired == s.fired is false' 'forget_function|users: lost' 'wake|a lost wake: a timer that is due'

soak-planted: $(SOAK) ## the soak test finds the mistakes that are planted in it
	@set -e; for line in $(SOAK_PLANTED); do plant=$${line%%|*} says=$${line#*|}; \
		if GT_PLANT=$$plant $(SOAK) --seconds 120 >$(B)/soak/planted.log 2>&1; then \
			echo "soak-planted: $$plant was not found" >&2; exit 1; fi; \
		why=$$(grep -F "$$says" $(B)/soak/planted.log | head -n 1); \
		[ -n "$$why" ] || { echo "soak-planted: $$plant: it failed, but not by: $$says" >&2; \
			cat $(B)/soak/planted.log >&2; exit 1; }; \
		echo "soak-planted: $$plant was found: $$why"; \
	done
