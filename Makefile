# make            ./psapi-fcgi, ./psapi, ./psapi-web, libpsapi.a and, with libpq, ./psapi-fcgi-postgresql.so
# make demo       shows how it works, on loopback, in a temporary directory
# make check      the tests, about 12 minutes on two cores
# make check-long the same under sanitizers, the long tests, and analysers
# make install    DESTDIR=, PREFIX= and the GNU directories (packaging/install.mk); make uninstall
# make dist       the release's source tarball, in dist/; make deb: its Debian packages, in dist/
# make bench      measures it beside limits and alternatives; make bench-memory MINUTES=n: whether memory stays constant
# make static     psapi-fcgi without shared libraries, psapi with two, in build/static: for CGI on hosts that lack them
# make screenshots  the pictures of the page in docs/images
# make soak MINUTES=n  load with all disturbances at once, for n minutes
# make deps-build installs what building needs (apt-get; sudo if not root); deps-demo: what the demo needs, too (nginx);
#                 deps-check: what the tests need, too (compilers, web servers, PostgreSQL). None enables a service
#
# SANITIZE=1 builds and tests with ASan and UBSan, in build/sanitize; SANITIZE=thread with TSan.

VERSION = 0.1.0
CC ?= cc
PYTHON = /usr/bin/python3

WARNINGS = -Wall -Wextra -Wshadow -Wconversion -Wformat=2 -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla
HARDENING = -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
CFLAGS = -O2 -g
LDFLAGS = -pie -Wl,-z,relro,-z,now
ALL_CFLAGS = -std=c11 -pthread $(WARNINGS) $(WERROR) $(HARDENING) $(CFLAGS) $(SANITIZER) $(DEFINES)
# The module for PostgreSQL uses these functions of the program that loads it.
ALL_LDFLAGS = -pthread $(LDFLAGS) $(SANITIZER) $(if $(STATIC),,-Wl,--dynamic-list=store/postgresql/host.symbols)

DEFINES = -DPSAPI_VERSION='"$(VERSION)"' -DPSAPI_SYSCONFDIR='"$(sysconfdir)"' \
	-DPSAPI_LOCALSTATEDIR='"$(localstatedir)"' -DPSAPI_MODULEDIR='"$(moduledir)"' $(if $(STATIC),-DPSAPI_STATIC)

ifeq ($(SANITIZE),thread)
OUT = build/thread
BIN = $(OUT)/
OUT_BIN = $(OUT)
SANITIZER = -fsanitize=thread -fno-omit-frame-pointer
HARDENING = -fPIE
CFLAGS = -O1 -g
else ifdef SANITIZE
OUT = build/sanitize
BIN = $(OUT)/
OUT_BIN = $(OUT)
SANITIZER = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
HARDENING = -fPIE
CFLAGS = -O1 -g
else
OUT = build/plain
BIN =
OUT_BIN = .
endif

# The folders of the library: every source in them is built. docs/design.md says what each owns. commands/ is part of
# psapi only.
FOLDERS = base secrets store store/spool receiver server metrics drain send doctor web
sources = $(patsubst %.c,%,$(wildcard $(1:%=%/*.c)))
LIBRARY = verify events $(call sources,$(FOLDERS))
LIBRARY_OBJECTS = $(LIBRARY:%=$(OUT)/%.o)
ifeq ($(SANITIZE),thread)
LIBRARY_OBJECTS += $(OUT)/tests/race_epoll.o
ALL_LDFLAGS += -Wl,--wrap=epoll_ctl
endif
LIBRARIES = -lfcgi -ljansson -lmbedcrypto -ldl
# psapi also needs libcurl: send and doctor are HTTP clients. The receiver is none.
CLIENT_LIBRARIES = -lcurl
# psapi-fcgi also needs libseccomp, for its sandbox.
RECEIVER_LIBRARIES = -lseccomp
# The module for PSAPI_STORE, which alone needs libpq (of PostgreSQL 14 or later); built where that is.
PQ_INCLUDE := $(shell pkg-config --variable=includedir libpq 2>/dev/null || pg_config --includedir 2>/dev/null)
HAVE_PQ := $(if $(STATIC),,$(shell grep -qs LIBPQ_HAS_PIPELINING "$(PQ_INCLUDE)/libpq-fe.h" && echo yes))
MODULE = psapi-fcgi-postgresql.so
MODULES = $(if $(HAVE_PQ),$(BIN)$(MODULE))
MODULE_OBJECTS = $(patsubst %,$(OUT)/%.o,$(call sources,store/postgresql))
UNIT_TESTS = $(patsubst tests/unit/%.c,$(OUT)/tests/%,$(wildcard tests/unit/test_*.c))

COMMAND_OBJECTS = $(OUT)/psapi.o $(patsubst %,$(OUT)/%.o,$(call sources,commands))

all: $(BIN)psapi-fcgi $(BIN)psapi $(BIN)psapi-web $(MODULES)

$(BIN)libpsapi.a: $(LIBRARY_OBJECTS)
	rm -f $@ && $(AR) rcs $@ $^

$(BIN)psapi-fcgi: $(OUT)/psapi-fcgi.o $(BIN)libpsapi.a
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBRARIES) $(RECEIVER_LIBRARIES)

$(BIN)psapi: $(COMMAND_OBJECTS) $(BIN)libpsapi.a
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBRARIES) $(CLIENT_LIBRARIES)

$(BIN)psapi-web: $(OUT)/psapi-web.o $(BIN)libpsapi.a
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBRARIES) $(CLIENT_LIBRARIES) $(RECEIVER_LIBRARIES)

# The page's files are in it: no compiler tells make of .incbin.
$(OUT)/web/static.o: $(wildcard web/static/*)

# Position-independent, and one symbol of it is seen.
$(OUT)/store/postgresql/%.o: store/postgresql/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(filter-out -fPIE,$(ALL_CFLAGS)) -fPIC -I$(PQ_INCLUDE) -I. -MMD -MP -c -o $@ $<

$(BIN)$(MODULE): $(MODULE_OBJECTS) store/postgresql/module.symbols
	$(CC) -shared -pthread $(filter-out -pie,$(LDFLAGS)) $(SANITIZER) \
		-Wl,--version-script=store/postgresql/module.symbols -o $@ $(MODULE_OBJECTS) -lpq -ljansson

$(OUT)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -I. -MMD -MP -c -o $@ $<

$(OUT)/tests/%: tests/unit/%.c $(BIN)libpsapi.a Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -I. -MMD -MP $(ALL_LDFLAGS) -o $@ $< $(BIN)libpsapi.a -lcmocka $(LIBRARIES) $(CLIENT_LIBRARIES)

# Its own functions are found before libpq's.
$(OUT)/tests/test_postgresql: ALL_LDFLAGS += -Wl,--export-dynamic-symbol=PQ*
$(OUT)/tests/test_postgresql: $(MODULES)

# ---- static programs: a host may lack the shared libraries, and a CGI process loads them for each request ----

# psapi-fcgi needs nothing then, psapi libc and libcurl. The linker warns of gethostbyname(3): it is in libfcgi, and
# nobody calls it.
WHOLE = STATIC=1 SANITIZE= OUT=build/static BIN=build/static/ OUT_BIN=build/static

static:
	@$(MAKE) $(WHOLE) LDFLAGS='-static-pie -Wl,-z,relro,-z,now' build/static/psapi-fcgi
	@$(MAKE) $(WHOLE) LIBRARIES='-Wl,-Bstatic -lfcgi -ljansson -lmbedcrypto -Wl,-Bdynamic' build/static/psapi

# As classic CGI, for which they are made, and on a socket. The page is not among them.
check-static: static
	PSAPI_BIN=$(CURDIR)/build/static $(PYTHON) -m pytest -q -p no:cacheprovider -n 4 --timeout 300 tests/e2e \
		--server cgi --server socket --store spool -k 'cgi or socket or command' --ignore tests/e2e/test_web_api.py

# ---- tests ----

# What building, the demo and the tests run with, on a bare Debian.
BUILD_PACKAGES = gcc libc6-dev make libfcgi-dev libmbedtls-dev libjansson-dev libseccomp-dev \
	libcurl4-openssl-dev libpq-dev
DEMO_PACKAGES = nginx curl openssl python3
CHECK_PACKAGES = ca-certificates libcmocka-dev python3-pytest python3-pytest-timeout python3-pytest-xdist spawn-fcgi strace procps \
	util-linux e2fsprogs jq inotify-tools mandoc bash-completion zsh msmtp sqlite3 $(TRUST_PACKAGES) \
	apache2 apache2-suexec-pristine libapache2-mod-fcgid fcgiwrap lighttpd \
	lighttpd-mod-openssl caddy haproxy $(POSTGRESQL_PACKAGES) $(WEB_PACKAGES)
# For the page: a smoke test is in check, the whole of it in check-long.
WEB_PACKAGES = chromium chromium-driver python3-selenium fonts-dejavu-core
POSTGRESQL_PACKAGES = postgresql
# They read the files in packaging/ that are for them.
MONITOR_PACKAGES = prometheus prometheus-node-exporter icinga2-bin icinga2-common nagios-nrpe-server nagios-nrpe-plugin \
	zabbix-agent sudo
# For docs/hosts.md, with automatic failover.
HOSTS_PACKAGES = patroni python3-etcd etcd-server etcd-client haproxy nftables nginx openssl iproute2
# npm may be installed from another source, which conflicts with the package of Debian.
LONG_PACKAGES = patch logrotate valgrind clang-tidy cppcheck shellcheck $(MONITOR_PACKAGES) $(if $(shell command -v npm),,nodejs npm)

deps-build:
	@tools/deps.sh $(BUILD_PACKAGES)

deps-demo:
	@tools/deps.sh $(BUILD_PACKAGES) $(DEMO_PACKAGES)

deps-check deps:
	@tools/deps.sh $(BUILD_PACKAGES) $(DEMO_PACKAGES) $(CHECK_PACKAGES)

demo: deps-demo
	@$(MAKE) -s -j$$(nproc) all
	@tools/demo.sh

# The build comes after deps, in another make: a bare machine has no compiler before.
check:
	@tests/readable.sh
	@$(MAKE) -s deps-check
	$(MAKE) -j$$(nproc) WERROR=-Werror all static
	$(if $(SANITIZE),,$(MAKE) check-layout)
	$(MAKE) -j$$(nproc) WERROR=-Werror check-unit
	$(MAKE) check-e2e
	$(if $(SANITIZE),,$(MAKE) WERROR=-Werror check-static check-trust)

# First of all, in one line, instead of three hundred failures.
check-readable:
	@tests/readable.sh

check-unit: $(UNIT_TESTS)
	@for test in $(UNIT_TESTS); do echo "== $$test" && \
		PSAPI_MODULE_DIR=$(abspath $(OUT_BIN)) timeout 300 $$test || exit 1; done

check-e2e: check-readable all $(if $(SANITIZE),,build/hook/psapi-fcgi)
	PSAPI_BIN=$(abspath $(OUT_BIN)) $(if $(SANITIZE),PSAPI_SANITIZED=1) \
		$(PYTHON) -m pytest -q -p no:cacheprovider -n 4 --timeout 300 tests/e2e $(PYTEST_FLAGS)

# The page in a real browser, behind nginx and Apache, over both stores.
check-web: all
	PSAPI_BIN=$(abspath $(OUT_BIN)) $(PYTHON) -m pytest -q -p no:cacheprovider -n 2 --timeout 300 --long \
		tests/e2e/test_web_api.py tests/e2e/test_web_browser.py

# Honest deliveries beside 200 slow uploads, one server after the other: their p99 is for a build without sanitizers.
check-slow-load: all
	PSAPI_BIN=$(abspath $(OUT_BIN)) $(PYTHON) -m pytest -q -p no:cacheprovider --timeout 300 --long tests/e2e/test_slow_load.py

# The pictures of the documents.
screenshots: all
	PSAPI_BIN=$(abspath $(OUT_BIN)) $(PYTHON) tests/e2e/screenshots.py docs/images

# With a million events: 4 GiB of disk and some minutes.
check-web-scale: all
	PSAPI_BIN=$(abspath $(OUT_BIN)) $(PYTHON) tests/e2e/web_scale.py

# With a million events: 4 GiB of disk and some minutes.
check-scale: all
	PSAPI_BIN=$(abspath $(OUT_BIN)) $(PYTHON) tests/e2e/psapi_scale.py

# For the receiver all servers are alike: with sanitizers, one for each way in which requests arrive.
SANITIZED_SERVERS = socket cgi nginx-keepalive

# Two rows that take about as long. The ten minutes of check-chaos, which mostly waits, are beside both.
LONG = WERROR=-Werror FULL=1 SECONDS=10
LONG_ROW_1 = $(LONG) check-trust check-promises analyse check-race check-bench
LONG_ROW_2 = check-install check-releases check-container $(LONG) check-postgresql-faults soak check-valgrind check-mbedtls3
long = MAKE='$(MAKE)' LOGS=build/long tests/long.sh

# Parts that measure, or that depend on Patroni's time-outs, run alone.
check-long:
	@tests/readable.sh
	@$(MAKE) -s deps-check
	@tools/deps.sh $(LONG_PACKAGES) $(HOSTS_PACKAGES) $(BENCH_PACKAGES) $(SOAK_PACKAGES) $(RELEASES_PACKAGES) \
		$(INSTALL_PACKAGES) $(CONTAINER_PACKAGES)
	$(MAKE) check SANITIZE=1 PYTEST_FLAGS='$(PYTEST_FLAGS) --long $(SANITIZED_SERVERS:%=--server %)'
	@$(long) '$(LONG) check-cost check-slow-load check-hosts'
	@$(long) '$(LONG_ROW_1)' '$(LONG_ROW_2)' '$(LONG) check-chaos'

include packaging/install.mk tests/trust.mk tests/install/install.mk tests/container/container.mk tests/releases/releases.mk tests/chaos/chaos.mk bench/bench.mk

clean:
	rm -rf build dist psapi-fcgi psapi psapi-web libpsapi.a $(MODULE)

.PHONY: all deps deps-build deps-demo deps-check static demo check check-readable check-unit check-e2e check-static check-scale check-web \
	check-slow-load \
	check-web-scale screenshots check-long clean
-include $(wildcard $(OUT)/*.d $(OUT)/tests/*.d) $(patsubst %,$(OUT)/%.d,psapi-web $(LIBRARY) $(call sources,commands store/postgresql))
