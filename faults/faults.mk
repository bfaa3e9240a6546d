# make faults: allocations that fail, clocks that jump, forks, exceptions, switched stacks, signals,
# ten thousand threads, no descriptors, threads that are stopped anywhere. GT_FAULTS_FULL=1 in the
# environment: many more rounds.
# make faults-planted: mistakes that are planted in the cases, which must be found.
# make ubsan: the C tests with the C compiler's undefined-behaviour sanitizer.

FAULTS   := $(B)/faults/faults
# What is taken from elsewhere: the harness without its main, and the loads of the soak test.
FAULTS_C := $(sort $(wildcard faults/*.c)) ctests/support.c \
	soak/load.c soak/load_loops.c soak/load_mutate.c soak/duel.c soak/users.c
FAULTS_FLAGS := -pthread -MMD -MP -Iinclude -Ictests -Isoak -Ifaults

$(B)/faults/obj/%.c.o: %.c
	$(need_cc)
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) $(CFLAGS) -fexceptions $(FAULTS_FLAGS) -c $< -o $@

$(B)/faults/obj/%.cpp.o: %.cpp
	$(need_cxx)
	@mkdir -p $(@D)
	$(CXX) -std=c++17 $(WARN) $(CXXFLAGS) $(FAULTS_FLAGS) -c $< -o $@

$(B)/faults/obj/harness.o: ctests/harness.c
	$(need_cc)
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) $(CFLAGS) $(FAULTS_FLAGS) -Dmain=harness_main -c $< -o $@

$(FAULTS): $(FAULTS_C:%=$(B)/faults/obj/%.o) $(patsubst %,$(B)/faults/obj/%.o,$(sort $(wildcard faults/*.cpp))) \
		$(B)/faults/obj/harness.o $(LIB)
	$(CXX) $(CXXFLAGS) -pthread -o $@ $(filter %.o,$^) -L$(B)/lib -lgotimer -Wl,-rpath,'$$ORIGIN/../lib'

-include $(wildcard $(B)/faults/obj/*.d $(B)/faults/obj/*/*.d)

.PHONY: faults faults-planted ubsan
faults: $(FAULTS) ## faults: no memory, clocks that jump, forks, signals, stopped threads (CASES="...")
	@sh faults/covers.sh
	@$(FAULTS) $(CASES)

faults-planted: $(FAULTS) ## the fault tests find the mistakes that are planted in them
	@$(FAULTS) --planted

# The C++ tests are left as they are: what is looked at here is C.
UBSAN := -fsanitize=undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

$(B)/ubsan/obj/%.c.o: ctests/%.c
	$(need_cc)
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) $(CFLAGS) $(UBSAN) -pthread -MMD -MP -Iinclude -Ictests -c $< -o $@

$(B)/ubsan/obj/%.cpp.o: ctests/%.cpp
	$(need_cxx)
	@mkdir -p $(@D)
	$(CXX) -std=c++17 $(WARN) $(CXXFLAGS) -pthread -MMD -MP -Iinclude -Ictests -c $< -o $@

$(B)/ubsan/ctests: $(patsubst ctests/%,$(B)/ubsan/obj/%.o,$(sort $(wildcard ctests/*.c ctests/*.cpp))) $(LIB)
	$(CXX) $(CXXFLAGS) -fsanitize=undefined -pthread -o $@ $(filter %.o,$^) \
		-L$(B)/lib -lgotimer -Wl,-rpath,'$$ORIGIN/../lib'

-include $(wildcard $(B)/ubsan/obj/*.d)

ubsan: $(B)/ubsan/ctests ## the C tests under the C compiler's undefined-behaviour sanitizer
	@echo "ctests, UndefinedBehaviorSanitizer:"
	@GT_TEST_SLOW=2 $(B)/ubsan/ctests $(TESTS)
