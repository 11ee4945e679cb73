# make bench: throughput, latency and cost, beside limits and alternatives; writes bench/RESULTS.md. Included by the
# Makefile. ROUNDS, and SECONDS for each measurement, set its length. QUICK=1 only shows that it works, and writes
# build/bench/RESULTS.md.

BENCH_PACKAGES = wrk nginx fcgiwrap php-fpm gunicorn python3-flask python3 e2fsprogs \
	$(if $(shell command -v npm),,nodejs npm)
BENCH = build/bench
BENCH_TOOLS = $(addprefix $(BENCH)/,sign store null)
ROUNDS = 3

$(BENCH)/%: bench/%.c bench/put.h bench/bench.mk $(BIN)libpsapi.a
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE $(WARNINGS) $(WERROR) -O2 -I. -o $@ $< $(BIN)libpsapi.a $(LIBRARIES) \
		$(RECEIVER_LIBRARIES) -pthread

bench:
	@tools/deps.sh $(BUILD_PACKAGES) $(BENCH_PACKAGES)
	@$(MAKE) -s all static $(BENCH_TOOLS)
	@$(PYTHON) bench/run.py --tools $(BENCH) $(if $(QUICK),--quick,--rounds $(ROUNDS) --seconds $(BENCH_SECONDS)) \
		$(if $(ONLY),--only '$(ONLY)') --out $(if $(QUICK)$(ONLY),$(BENCH)/RESULTS.md,bench/RESULTS.md)

bench-memory: MINUTES = 60

# Whether memory stays constant over MINUTES; writes bench/MEMORY.md (with QUICK=1 build/bench/MEMORY.md).
bench-memory:
	@tools/deps.sh $(BUILD_PACKAGES) $(BENCH_PACKAGES)
	@$(MAKE) -s all $(BENCH_TOOLS)
	@$(PYTHON) bench/memory.py --tools $(BENCH) --minutes $(MINUTES) $(if $(QUICK),--quick) \
		--out $(if $(QUICK),$(BENCH),bench)/MEMORY.md

# The fuzzers use SECONDS as well, with another default.
BENCH_SECONDS = $(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),3)

# Part of check-long: shows that the benchmark works. The figures mean nothing.
check-bench:
	@mkdir -p $(BENCH)
	@$(MAKE) -s bench QUICK=1 >$(BENCH).log 2>&1 || { cat $(BENCH).log; exit 1; }
	@grep -c '^| accept' $(BENCH)/RESULTS.md
	@$(MAKE) -s bench-memory QUICK=1 MINUTES=2 >$(BENCH).log 2>&1 || { cat $(BENCH).log; exit 1; }
	@grep -c '^| [12] |' $(BENCH)/MEMORY.md

# psapi metrics and check with EVENTS in the archive, of which a tenth waits: bounds are 0.5 s of processor time, 64 MiB.
bench-monitoring: EVENTS = 1000000
bench-monitoring:
	@$(MAKE) -s all
	@$(PYTHON) tests/e2e/psapi_scale.py --quick --events $(EVENTS) --new $$(($(EVENTS) / 10))

.PHONY: bench bench-memory bench-monitoring check-bench

# ---- the PostgreSQL store: bench/postgresql.py. Some minutes; QUICK=1 only shows that it works ----

$(BENCH)/postgresql: bench/postgresql.c bench/bench.mk
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARNINGS) $(WERROR) -O2 $$(pkg-config --cflags libpq) -o $@ $< $$(pkg-config --libs libpq) -pthread

# bench/store.c over the module, which uses functions of the program that loads it.
$(BENCH)/store-postgresql: bench/store.c bench/put.h bench/bench.mk $(BIN)libpsapi.a
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARNINGS) $(WERROR) -O2 -I. -Wl,--dynamic-list=store/postgresql/host.symbols -o $@ $< \
		$(BIN)libpsapi.a $(LIBRARIES) -pthread

bench-postgresql:
	@tools/deps.sh $(BUILD_PACKAGES) $(POSTGRESQL_PACKAGES) wrk nginx
	@$(MAKE) -s all $(BENCH)/postgresql $(BENCH)/store-postgresql $(BENCH)/sign
	@$(PYTHON) bench/postgresql.py --tools $(BENCH) $(if $(QUICK),--quick,--rounds $(ROUNDS) --seconds $(BENCH_SECONDS)) \
		$(if $(ONLY),--only '$(ONLY)') --out $(BENCH)/POSTGRESQL.md

.PHONY: bench-postgresql
