# make tsan-embed: programs built with -fsanitize=thread and linked with the release library, which
# is not instrumented. Nothing may be reported for data that is handed over through timers, and true
# races must be. Then the C tests, built in the same way.

TSAN_EMBED := $(B)/tsan-embed
TSAN_FLAGS := -fsanitize=thread -fno-omit-frame-pointer -pthread -MMD -MP -Iinclude

$(TSAN_EMBED)/tsan/%.c.o: tsan/%.c
	$(need_cc)
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) -Wno-tsan $(CFLAGS) -O1 -fexceptions $(TSAN_FLAGS) -Itsan -c $< -o $@

$(TSAN_EMBED)/tsan/%.cpp.o: tsan/%.cpp
	$(need_cxx)
	@mkdir -p $(@D)
	$(CXX) -std=c++17 $(WARN) -Wno-tsan $(CXXFLAGS) -O1 $(TSAN_FLAGS) -Itsan -c $< -o $@

$(TSAN_EMBED)/ctests/%.c.o: ctests/%.c
	$(need_cc)
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) -Wno-tsan $(CFLAGS) -O1 $(TSAN_FLAGS) -Ictests -c $< -o $@

$(TSAN_EMBED)/ctests/%.cpp.o: ctests/%.cpp
	$(need_cxx)
	@mkdir -p $(@D)
	$(CXX) -std=c++17 $(WARN) -Wno-tsan $(CXXFLAGS) -O1 $(TSAN_FLAGS) -Ictests -c $< -o $@

$(TSAN_EMBED)/embed: $(patsubst %,$(TSAN_EMBED)/%.o,$(sort $(wildcard tsan/*.c tsan/*.cpp))) $(LIB)
	$(CXX) -fsanitize=thread -pthread -o $@ $(filter %.o,$^) -L$(B)/lib -lgotimer -Wl,-rpath,'$$ORIGIN/../lib'

$(TSAN_EMBED)/run-ctests: $(patsubst %,$(TSAN_EMBED)/%.o,$(sort $(wildcard ctests/*.c ctests/*.cpp))) $(LIB)
	$(CXX) -fsanitize=thread -pthread -o $@ $(filter %.o,$^) -L$(B)/lib -lgotimer -Wl,-rpath,'$$ORIGIN/../lib'

-include $(wildcard $(TSAN_EMBED)/*/*.d)

.PHONY: tsan-embed
tsan-embed: $(TSAN_EMBED)/embed $(TSAN_EMBED)/run-ctests ## an embedder's ThreadSanitizer understands the release library
	@$(TSAN_EMBED)/embed $(CASES)
	@echo "ctests, the embedder's ThreadSanitizer:"
	@GT_TEST_SLOW=8 TSAN_OPTIONS=halt_on_error=1 $(TSAN_EMBED)/run-ctests $(TESTS)
