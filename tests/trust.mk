# Checks beyond the ordinary tests: layout, faults, power cuts, fuzzing, constant time, races, soak, analysers. Included
# by the Makefile. FULL=1 tests all cases instead of a sample.

TRUST_PACKAGES = clang libclang-rt-dev libssl-dev $(DISK_PACKAGES)
DISK_PACKAGES = fuse3 libfuse3-dev xfsprogs btrfs-progs e2fsprogs
SOAK_PACKAGES = nginx openssl faketime e2fsprogs

# make check runs these with samples. check-long sets FULL and SECONDS, and runs the other targets of this file.
check-trust: check-faults check-disk check-constant-time fuzz fuzz-fastcgi

# ---- the layout of docs/design.md: includes, prefixes, tags, columns ----

check-layout: all
	@$(PYTHON) tools/check-layout --objects $(OUT)

.PHONY: check-layout

# ---- faults ----

FAULTS = $(OUT)/tests/faults

$(FAULTS)/shim.so: $(wildcard tests/faults/*.[ch]) tests/trust.mk
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARNINGS) $(WERROR) -O1 -g -fPIC -shared -o $@ \
		tests/faults/shim.c tests/faults/wraps.c tests/faults/oplog.c -ldl

$(FAULTS)/%: tests/faults/%.c $(BIN)libpsapi.a tests/trust.mk
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -I. $(ALL_LDFLAGS) -o $@ $< $(BIN)libpsapi.a $(LIBRARIES)

# Without sanitizers: their own allocations and calls would be counted.
FAULT_PROGRAMS = $(addprefix $(FAULTS)/,shim.so borrow)

fault-programs: $(FAULT_PROGRAMS)

check-faults: all fault-programs
	@for test in faults powercut; do \
		PSAPI_BIN=$(abspath $(OUT_BIN)) FAULTS_OUT=$(CURDIR)/$(FAULTS) FULL=$(FULL) \
			$(PYTHON) tests/faults/$$test.py || exit 1; done

.PHONY: check-trust check-faults fault-programs

# ---- power cuts on real file systems: a sample, or with FULL=1 all of them; SEED=n repeats a run ----

DISK = $(OUT)/tests/disk

$(DISK)/logdisk: tests/disk/logdisk.c tests/trust.mk
	@mkdir -p $(@D)
	$(CC) -std=c11 -pthread $(WARNINGS) $(WERROR) -O2 -g -o $@ $< $$(pkg-config --cflags --libs fuse3)

$(DISK)/without.so: tests/disk/without.c tests/trust.mk
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARNINGS) $(WERROR) -O2 -g -fPIC -shared -o $@ $< -ldl

check-disk: all
	@tools/deps.sh $(DISK_PACKAGES)
	@$(MAKE) -s $(DISK)/logdisk $(DISK)/without.so
	@PSAPI_BIN=$(abspath $(OUT_BIN)) FULL=$(FULL) SEED=$(SEED) $(PYTHON) tests/disk/disk.py $(DISK)

.PHONY: check-disk

# ---- the receiver with a test hook: the shipped objects, with the calls of server/sandbox.h wrapped ----

HOOK = build/hook/psapi-fcgi
HOOKED = -Wl,--wrap=sandbox_process,--wrap=sandbox_files,--wrap=sandbox_calls

$(HOOK): tests/hook/hook.c $(OUT)/psapi-fcgi.o $(BIN)libpsapi.a tests/trust.mk
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -I. $(ALL_LDFLAGS) $(HOOKED) -o $@ tests/hook/hook.c $(OUT)/psapi-fcgi.o \
		$(BIN)libpsapi.a $(LIBRARIES) $(RECEIVER_LIBRARIES)

# ---- the cost of an accepted event, with the bounds in tests/cost/cost.py: a minute; needs root for one wait ----

check-cost: all $(HOOK)
	@$(PYTHON) tests/cost/cost.py $(BIN)psapi-fcgi $(HOOK) build

.PHONY: check-cost

# ---- fuzzing: make fuzz SECONDS=n runs each target for n seconds ----

SECONDS = 5
FUZZ = build/fuzz
FUZZ_TARGETS = $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_LIBRARY = $(filter-out $(addprefix server/,config_test fastcgi responder sandbox),$(LIBRARY))
FUZZ_CFLAGS = -std=gnu11 -g -O1 -pthread -fno-omit-frame-pointer $(DEFINES) -I. -Itests/fuzz \
	-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined

$(FUZZ)/%.o: %.c Makefile tests/trust.mk
	@mkdir -p $(@D)
	clang $(FUZZ_CFLAGS) -MMD -MP -c -o $@ $<

$(FUZZ)/fuzz_%: $(FUZZ)/tests/fuzz/fuzz_%.o $(FUZZ)/tests/fuzz/oracle.o $(FUZZ_LIBRARY:%=$(FUZZ)/%.o)
	clang $(FUZZ_CFLAGS) -fsanitize=fuzzer -o $@ $^ -ljansson -lmbedcrypto -lcrypto -lcurl

# One reader is a subcommand's.
$(FUZZ)/fuzz_attempts: $(addprefix $(FUZZ)/commands/,attempts.o command.o usage.o)

fuzz:
	@$(MAKE) -s -j$$(nproc) $(FUZZ_TARGETS:%=$(FUZZ)/fuzz_%)
	@tests/fuzz/run.sh $(FUZZ) $(SECONDS) $(FUZZ_TARGETS)

.PHONY: fuzz
.SECONDARY:
-include $(wildcard $(FUZZ)/*.d $(FUZZ)/*/*.d $(FUZZ)/*/*/*.d)

# Broken FastCGI records for the receiver with sanitizers.
fuzz-fastcgi:
	@$(MAKE) -s -j$$(nproc) SANITIZE=1 all
	@$(PYTHON) tests/fuzz/fuzz_fastcgi.py $(CURDIR)/build/sanitize/psapi-fcgi $(SECONDS)

# ---- constant time ----

check-constant-time: $(OUT)/verify.o
	@tests/constant_time.sh $(OUT)/verify.o $(OUT)/constant

.PHONY: fuzz-fastcgi check-constant-time

# ---- races: 64 clients, a rotating secret and log, the end under load; then the concurrent tests of the suite ----

check-race:
	@$(MAKE) -s -j$$(nproc) SANITIZE=thread all
	@$(PYTHON) tests/race.py $(CURDIR)/build/thread/psapi-fcgi $(SECONDS)
	@TSAN_OPTIONS=exitcode=66 $(MAKE) -s SANITIZE=thread check-e2e \
		PYTEST_FLAGS="--server socket -k 'consumers or many_at_once or duplicate or restart or test_secrets or kept_connections'"

.PHONY: check-race

# ---- soak: make soak MINUTES=n; SEED=n repeats a run ----

MINUTES = 2

soak: all
	@tools/deps.sh $(SOAK_PACKAGES)
	@PSAPI_BIN=$(abspath $(OUT_BIN)) $(PYTHON) tests/soak/soak.py $(MINUTES) $(SEED)

# ---- each promise of docs/promises.md, broken on purpose in a copy of the tree ----

check-promises:
	@$(PYTHON) tests/promises.py

# ---- the mbedTLS of Debian 13 ----

check-mbedtls3:
	@tests/mbedtls3.sh build/mbedtls3

.PHONY: soak check-promises check-mbedtls3

# ---- uninitialised memory (make check SANITIZE=1 finds leaks) ----

check-valgrind: $(UNIT_TESTS)
	@for test in $(UNIT_TESTS); do UNDER_VALGRIND=1 FULL= PSAPI_MODULE_DIR=$(abspath $(OUT_BIN)) \
		valgrind -q --fair-sched=try --error-exitcode=9 --soname-synonyms=somalloc=NONE \
		$$test >build/valgrind.log 2>&1 || { cat build/valgrind.log; exit 1; }; done
	@echo "valgrind: $(words $(UNIT_TESTS)) unit tests, nothing uninitialised"

.PHONY: check-valgrind

# ---- analysers, and the coverage of the tests ----

analyse:
	@tests/analyse.sh

# Lines that no test runs, of the files that should have none. In a separate build: there a failed allocation mostly hits
# gcov, which cannot handle it. Only the fault tests run the lines after a failed allocation.
COVERED = verify events receiver/receive $(call sources,store/spool)
COVERAGE = OUT=build/coverage BIN=build/coverage/ OUT_BIN=build/coverage HARDENING= \
	CFLAGS="-O0 -g --coverage" LDFLAGS=--coverage
COVERAGE_FAULTS = build/coverage/tests/faults

coverage:
	@rm -rf build/coverage && mkdir -p build/coverage
	@{ $(MAKE) -s $(COVERAGE) all check-unit fault-programs && \
		PSAPI_BIN=$(CURDIR)/build/coverage FAULTS_OUT=$(CURDIR)/$(COVERAGE_FAULTS) \
			$(PYTHON) tests/faults/each_call_fails.py && \
		$(MAKE) -s $(COVERAGE) check-e2e PYTEST_FLAGS="--server socket -k 'hold or bodies'"; \
	} >build/coverage/log 2>&1 || { cat build/coverage/log; exit 1; }
	@for name in $(COVERED); do \
		gcov -o build/coverage/$$(dirname $$name) $$name.c 2>/dev/null | sed -n "/File '$$name.c'/{n;s/^/$$name.c: /p}"; \
		grep '#####' $$(basename $$name).c.gcov | sed "s/^ *#####:/  $$name.c:/"; \
		rm -f *.gcov; \
	done

.PHONY: analyse coverage
