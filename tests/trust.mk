# What shows the promises by exhaustion: faults, power cuts, fuzzing, constant time, races,
# analysers. Included by the Makefile. FULL=1 exhausts what is otherwise sampled.

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
	PSAPI_BIN=$(CURDIR)/$(OUT_BIN) FAULTS_OUT=$(CURDIR)/$(FAULTS) FULL=$(FULL) \
		$(PYTHON) tests/faults/faults.py

.PHONY: check-faults
