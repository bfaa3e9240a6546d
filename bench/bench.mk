# Programs of the benchmark beside bench/bench: each in a directory of its own.

.PHONY: lateness

$(B)/bench/lateness: $(sort $(wildcard bench/lateness/*.c bench/lateness/*.h)) include/gotimer.h $(LIB)
	$(need_cc)
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) $(CFLAGS) -pthread -Iinclude $(filter %.c,$^) -o $@ $(B)/lib/libgotimer.a $(STATIC_LIBS)

lateness: $(B)/bench/lateness ## how late timers fire beside raw waits, and the CPU they take (LATENESS=--quick)
	@$(B)/bench/lateness $(LATENESS)

.PHONY: slack-docs
slack-docs: $(B)/bench/lateness ## docs/slack.md with this machine's figures
	@sh bench/lateness/docs.sh $(B)/bench/lateness $(LATENESS)
