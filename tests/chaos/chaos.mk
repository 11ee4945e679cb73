# The PostgreSQL store where hosts die and calls fail. Included by the Makefile; all are part of check-long.

# Three database nodes, two receivers, two drains, killed at random: make check-chaos MINUTES=n; SEED=n repeats a run.
check-chaos: MINUTES = 10
check-chaos: all
	@tools/deps.sh $(POSTGRESQL_PACKAGES)
	@PSAPI_BIN=$(abspath $(OUT_BIN)) $(PYTHON) tests/chaos/chaos.py $(MINUTES) $(SEED)

# docs/hosts.md as it is written, on hosts of this machine; then Patroni replaces the leader under load. And an import of
# 100,000 events. Three minutes; needs root.
check-hosts: all
	@tools/deps.sh $(POSTGRESQL_PACKAGES) $(HOSTS_PACKAGES)
	@PSAPI_BIN=$(abspath $(OUT_BIN)) $(PYTHON) -m pytest -q -p no:cacheprovider tests/e2e/test_hosts.py \
		tests/e2e/test_import.py --long -k 'test_hosts or killed_and_repeated' --timeout 600

# Each call of libpq fails, each answer is lost, and every second allocation fails, of which `make check` tries a sample.
# Four and a half minutes, most of it waiting.
check-postgresql-faults: all $(OUT)/tests/test_postgresql
	@tools/deps.sh $(POSTGRESQL_PACKAGES)
	@FULL=1 PSAPI_MODULE_DIR=$(abspath $(OUT_BIN)) timeout 1500 $(OUT)/tests/test_postgresql

.PHONY: check-chaos check-hosts check-postgresql-faults
