# make sanitize: all sanitizers, one after the other; each is a target of its own too.
# make helgrind: helgrind and drd over a program that guards its data with pthread's mutexes.
# make sanitize-planted: each of these tools finds the bugs that are planted for it.

.PHONY: helgrind sanitize-planted

$(B)/sanitize/%: sanitize/%.c $(LIB)
	$(need_cc)
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) -O1 -g -pthread -Iinclude $< -o $@ -L$(B)/lib -lgotimer -Wl,-rpath,'$$ORIGIN/../lib'

# What these tools do not understand is told, and why: see docs/proof.md. The last line shows it.
helgrind: $(B)/sanitize/lockers ## helgrind and drd, as far as they understand the library
	$(need_valgrind)
	@set -e; for tool in helgrind drd; do \
		valgrind -q --tool=$$tool --error-exitcode=99 --fair-sched=yes \
			--suppressions=sanitize/$$tool.supp $(B)/sanitize/lockers guarded; \
		all=$$(valgrind --tool=$$tool --fair-sched=yes $(B)/sanitize/lockers guarded 2>&1 | \
			sed -n 's/.*ERROR SUMMARY: \([0-9]* errors from [0-9]* contexts\).*/\1/p'); \
		echo "$$tool: nothing to report for data under a mutex; without suppressions $$all"; \
	done
	@if valgrind -q --tool=helgrind --error-exitcode=99 --fair-sched=yes --suppressions=sanitize/helgrind.supp \
			$(B)/sanitize/lockers handed >$(B)/sanitize/handed.log 2>&1; \
		then echo "make: helgrind understands the library now: change docs/proof.md" >&2; exit 1; \
		else echo "helgrind: data that an arming hands over is reported, as it should not be:" \
			"$$(grep -c 'Possible data race' $(B)/sanitize/handed.log) times"; fi

# The planted bugs, with each flavour's own library and runtime.
define planted
$(B)/$(1)/planted: sanitize/planted.c $(2)
	$$(need_cc)
	@mkdir -p $$(@D)
	$$(CC) -std=c11 $$(WARN) -Wno-tsan -O1 -g $(3) -fno-omit-frame-pointer -pthread -Iinclude \
		$$(filter %.c %.o,$$^) -o $$@ -L$(4) -lgotimer -Wl,-rpath,'$(5)'
endef
$(eval $(call planted,asan,$(B)/asan/lib/libgotimer.so.$(VERSION),-fsanitize=address,$(B)/asan/lib,$$$$ORIGIN/lib))
$(eval $(call planted,tsan,$(B)/tsan/lib/libgotimer.so.$(VERSION) $(B)/tsan/obj/tsan_names.c.o,-fsanitize=thread,$(B)/tsan/lib,$$$$ORIGIN/lib))
$(eval $(call planted,ubsan,$(LIB),-fsanitize=undefined -fno-sanitize-recover=all,$(B)/lib,$$$$ORIGIN/../lib))
$(eval $(call planted,tsan-embed,$(LIB),-fsanitize=thread,$(B)/lib,$$$$ORIGIN/../lib))

sanitize-planted: $(patsubst %,$(B)/%/planted,asan tsan ubsan tsan-embed sanitize) $(B)/sanitize/lockers \
		$(B)/tsan-embed/embed ## each sanitizer finds the bugs that are planted for it
	$(need_nightly)
	$(need_valgrind)
	@sh sanitize/planted.sh $(B)
