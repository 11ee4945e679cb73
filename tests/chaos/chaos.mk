# Chaos: database nodes, receivers and drains killed at random, and an automatic failover with Patroni. Included by the
# Makefile; part of check-long. make check-chaos MINUTES=n; SEED=n repeats a run.

CHAOS_PACKAGES = postgresql
FAILOVER_PACKAGES = postgresql patroni python3-etcd etcd-server haproxy nginx iproute2 openssl

check-chaos: MINUTES = $(if $(FULL),10,1)
check-chaos: all
	@tools/deps.sh $(CHAOS_PACKAGES)
	@PSAPI_BIN=$(CURDIR)/$(OUT_BIN) $(PYTHON) tests/chaos/chaos.py $(MINUTES) $(SEED)

# Patroni replaces the leader under load, behind the balancer of docs/hosts.md. Needs root.
check-failover: all
	@tools/deps.sh $(FAILOVER_PACKAGES)
	@PSAPI_BIN=$(CURDIR)/$(OUT_BIN) $(PYTHON) tests/chaos/failover.py $(SEED)

.PHONY: check-chaos check-failover
