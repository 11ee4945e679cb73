# What shows the promises by exhaustion: faults, power cuts, fuzzing, constant time, races,
# analysers. Included by the Makefile. FULL=1 exhausts what is otherwise sampled.

TRUST_PACKAGES = clang libclang-rt-dev libssl-dev

# Within make check: samples.
check-trust: check-faults check-constant-time fuzz fuzz-fastcgi

# Within make check-long: all of it, under sanitizers and analysers.
check-trust-long: analyse
	$(MAKE) check-faults FULL=1
	$(MAKE) fuzz fuzz-fastcgi SECONDS=60
	$(MAKE) check-race

FAULTS = $(OUT)/tests/faults

$(FAULTS)/shim.so: $(wildcard tests/faults/*.[ch]) tests/trust.mk
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARNINGS) $(WERROR) -O1 -g -fPIC -shared -o $@ \
		tests/faults/shim.c tests/faults/wraps.c tests/faults/oplog.c -ldl

$(FAULTS)/%: tests/faults/%.c $(BIN)libpsapi.a tests/trust.mk
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -I. $(ALL_LDFLAGS) -o $@ $< $(BIN)libpsapi.a $(LIBRARIES)

# Not under a sanitizer, whose own allocator and calls would be counted.
check-faults: all $(FAULTS)/shim.so $(FAULTS)/recover $(FAULTS)/borrow
	@for test in faults powercut; do \
		PSAPI_BIN=$(CURDIR)/$(OUT_BIN) FAULTS_OUT=$(CURDIR)/$(FAULTS) FULL=$(FULL) \
			$(PYTHON) tests/faults/$$test.py || exit 1; done

.PHONY: check-trust check-faults

# ---- fuzzing: make fuzz SECONDS=n gives n seconds to each target ----

SECONDS = 10
FUZZ = build/fuzz
FUZZ_TARGETS = $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_LIBRARY = $(filter-out cgi listener responder check,$(LIBRARY))
FUZZ_CFLAGS = -std=gnu11 -g -O1 -pthread -fno-omit-frame-pointer -I. -Itests/fuzz \
	-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined

$(FUZZ)/%.o: %.c Makefile tests/trust.mk
	@mkdir -p $(@D)
	clang $(FUZZ_CFLAGS) -MMD -MP -c -o $@ $<

$(FUZZ)/fuzz_%: $(FUZZ)/tests/fuzz/fuzz_%.o $(FUZZ)/tests/fuzz/oracle.o $(FUZZ_LIBRARY:%=$(FUZZ)/%.o)
	clang $(FUZZ_CFLAGS) -fsanitize=fuzzer -o $@ $^ -ljansson -lmbedcrypto -lcrypto

fuzz: $(FUZZ_TARGETS:%=$(FUZZ)/fuzz_%)
	@tests/fuzz/run.sh $(FUZZ) $(SECONDS) $(FUZZ_TARGETS)

.PHONY: fuzz
.SECONDARY:
-include $(wildcard $(FUZZ)/*.d $(FUZZ)/tests/fuzz/*.d)

# Broken FastCGI records, to the binary that was built with sanitizers.
fuzz-fastcgi:
	@$(MAKE) -s SANITIZE=1 all
	@$(PYTHON) tests/fuzz/fuzz_fastcgi.py $(CURDIR)/build/sanitize/psapi-fcgi $(SECONDS)

# ---- constant time ----

check-constant-time: $(OUT)/verify.o
	@tests/constant_time.sh $(OUT)/verify.o build/constant

.PHONY: fuzz-fastcgi check-constant-time

# ---- races: 64 clients, a rotating secret and log, the end under load ----

check-race:
	@$(MAKE) -s SANITIZE=thread all
	@$(PYTHON) tests/race.py $(CURDIR)/build/thread/psapi-fcgi $(SECONDS)

.PHONY: check-race check-trust-long
