# make            ./psapi-fcgi, ./psapi and libpsapi.a
# make demo       shows how it works, on loopback, in a temporary directory
# make check      all tests, at most 10 minutes
# make check-long the same under sanitizers, and analysers
# make install    DESTDIR=, PREFIX= and the GNU directories (packaging/install.mk); make uninstall, make dist
# make bench      measures it beside limits and alternatives; make bench-memory MINUTES=n: whether memory stays constant
# make static     psapi-fcgi without shared libraries, psapi with two, in build/static: for CGI on hosts that lack them
# make soak MINUTES=n  load with all disturbances at once, for n minutes
# make deps       installs missing packages for building and testing (apt-get; sudo if not root)
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
ALL_LDFLAGS = -pthread $(LDFLAGS) $(SANITIZER)

DEFINES = -DPSAPI_VERSION='"$(VERSION)"' -DPSAPI_SYSCONFDIR='"$(sysconfdir)"' \
	-DPSAPI_LOCALSTATEDIR='"$(localstatedir)"' $(if $(STATIC),-DPSAPI_STATIC)

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

# The folders of the library: every source in them is built. CONTRIBUTING.md says what each owns. commands/ is part of
# psapi only.
FOLDERS = base secrets store store/spool receiver server drain send doctor
sources = $(patsubst %.c,%,$(wildcard $(1:%=%/*.c)))
LIBRARY = verify events $(call sources,$(FOLDERS))
LIBRARY_OBJECTS = $(LIBRARY:%=$(OUT)/%.o)
LIBRARIES = -lfcgi -ljansson -lmbedcrypto
# psapi also needs libcurl: send and doctor are HTTP clients. The receiver is none.
CLIENT_LIBRARIES = -lcurl
# psapi-fcgi also needs libseccomp, for its sandbox.
RECEIVER_LIBRARIES = -lseccomp
UNIT_TESTS = $(patsubst tests/unit/%.c,$(OUT)/tests/%,$(wildcard tests/unit/test_*.c))

COMMAND_OBJECTS = $(OUT)/psapi.o $(patsubst %,$(OUT)/%.o,$(call sources,commands))

all: $(BIN)psapi-fcgi $(BIN)psapi

$(BIN)libpsapi.a: $(LIBRARY_OBJECTS)
	rm -f $@ && $(AR) rcs $@ $^

$(BIN)psapi-fcgi: $(OUT)/psapi-fcgi.o $(BIN)libpsapi.a
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBRARIES) $(RECEIVER_LIBRARIES)

$(BIN)psapi: $(COMMAND_OBJECTS) $(BIN)libpsapi.a
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBRARIES) $(CLIENT_LIBRARIES)

$(OUT)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -I. -MMD -MP -c -o $@ $<

$(OUT)/tests/%: tests/unit/%.c $(BIN)libpsapi.a Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -I. -MMD -MP $(ALL_LDFLAGS) -o $@ $< $(BIN)libpsapi.a -lcmocka $(LIBRARIES) $(CLIENT_LIBRARIES)

# ---- static programs: a host may lack the shared libraries, and a CGI process loads them for each request ----

# psapi-fcgi needs nothing then, psapi libc and libcurl. The linker warns of gethostbyname(3): it is in libfcgi, and
# nobody calls it.
WHOLE = STATIC=1 SANITIZE= OUT=build/static BIN=build/static/ OUT_BIN=build/static

static:
	@$(MAKE) $(WHOLE) LDFLAGS='-static-pie -Wl,-z,relro,-z,now' build/static/psapi-fcgi
	@$(MAKE) $(WHOLE) LIBRARIES='-Wl,-Bstatic -lfcgi -ljansson -lmbedcrypto -Wl,-Bdynamic' build/static/psapi

# As classic CGI, for which they are made, and on a socket.
check-static: static
	PSAPI_BIN=$(CURDIR)/build/static $(PYTHON) -m pytest -q -p no:cacheprovider -n 4 --timeout 300 tests/e2e \
		--server cgi --server socket -k 'cgi or socket or command'

# ---- tests ----

# What building, the demo and the tests run with, on a bare Debian.
BUILD_PACKAGES = gcc libc6-dev make libfcgi-dev libmbedtls-dev libjansson-dev libseccomp-dev \
	libcurl4-openssl-dev
DEMO_PACKAGES = nginx curl openssl python3
CHECK_PACKAGES = libcmocka-dev python3-pytest python3-pytest-timeout python3-pytest-xdist spawn-fcgi strace procps \
	util-linux e2fsprogs jq mandoc bash-completion $(TRUST_PACKAGES) \
	apache2 apache2-suexec-pristine libapache2-mod-fcgid fcgiwrap lighttpd \
	lighttpd-mod-openssl caddy haproxy
# npm may be installed from another source, which conflicts with the package of Debian.
LONG_PACKAGES = patch valgrind clang-tidy cppcheck shellcheck $(if $(shell command -v npm),,nodejs npm)

deps:
	@tools/deps.sh $(BUILD_PACKAGES) $(DEMO_PACKAGES) $(CHECK_PACKAGES)

demo: deps
	@$(MAKE) -s all
	@tools/demo.sh

# The build comes after deps, in another make: a bare machine has no compiler before.
check: deps
	$(MAKE) WERROR=-Werror all static
	$(if $(SANITIZE),,$(MAKE) check-layout)
	$(MAKE) WERROR=-Werror check-unit
	$(MAKE) check-e2e
	$(if $(SANITIZE),,$(MAKE) WERROR=-Werror check-static check-trust)

check-unit: $(UNIT_TESTS)
	@for test in $(UNIT_TESTS); do echo "== $$test" && timeout 300 $$test || exit 1; done

check-e2e: all $(if $(SANITIZE),,build/hook/psapi-fcgi)
	PSAPI_BIN=$(CURDIR)/$(OUT_BIN) $(if $(SANITIZE),PSAPI_SANITIZED=1) \
		$(PYTHON) -m pytest -q -p no:cacheprovider -n 4 --timeout 300 tests/e2e $(PYTEST_FLAGS)

# With a million events: 4 GiB of disk and some minutes.
check-scale: all
	PSAPI_BIN=$(CURDIR)/$(OUT_BIN) $(PYTHON) tests/e2e/psapi_scale.py

# For the receiver all servers are alike: with sanitizers, one for each way in which requests arrive.
SANITIZED_SERVERS = socket cgi spawn-fcgi nginx-keepalive apache-fcgid apache-cgid

check-long: deps
	@tools/deps.sh $(LONG_PACKAGES)
	$(MAKE) check SANITIZE=1 PYTEST_FLAGS='$(PYTEST_FLAGS) --long $(SANITIZED_SERVERS:%=--server %)'
	$(MAKE) WERROR=-Werror check-cost analyse check-valgrind check-mbedtls3 check-bench check-promises check-race \
		check-trust soak FULL=1 SECONDS=30
	$(MAKE) check-install

include packaging/install.mk tests/trust.mk tests/install/install.mk bench/bench.mk

clean:
	rm -rf build psapi-fcgi psapi libpsapi.a

.PHONY: all deps static demo check check-unit check-e2e check-static check-scale check-long clean
-include $(wildcard $(OUT)/*.d $(OUT)/tests/*.d) $(patsubst %,$(OUT)/%.d,$(LIBRARY) $(call sources,commands))
