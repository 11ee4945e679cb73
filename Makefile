# make            ./psapi-fcgi and libpsapi.a
# make demo       see it work, on loopback, in a directory of its own
# make check      all tests, at most 10 minutes
# make check-long the same under sanitizers, and analysers
# make deps       what building and testing needs and is missing (apt-get; sudo if not root)
#
# SANITIZE=1 builds and tests with ASan and UBSan, in build/sanitize.

VERSION = 0.1.0
CC ?= cc
PYTHON = /usr/bin/python3

WARNINGS = -Wall -Wextra -Wshadow -Wconversion -Wformat=2 -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla
HARDENING = -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
CFLAGS = -O2 -g
LDFLAGS = -pie -Wl,-z,relro,-z,now
ALL_CFLAGS = -std=c11 -pthread $(WARNINGS) $(WERROR) $(HARDENING) $(CFLAGS) $(SANITIZER)
ALL_LDFLAGS = -pthread $(LDFLAGS) $(SANITIZER)

ifdef SANITIZE
OUT = build/sanitize
BIN = $(OUT)/
SANITIZER = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
HARDENING = -fPIE
CFLAGS = -O1 -g
else
OUT = build/plain
BIN =
endif

LIBRARY = log config verify secrets events spool attempts receive cgi listener responder check
LIBRARY_OBJECTS = $(LIBRARY:%=$(OUT)/%.o)
LIBRARIES = -lfcgi -ljansson -lmbedcrypto
UNIT_TESTS = $(patsubst tests/unit/%.c,$(OUT)/tests/%,$(wildcard tests/unit/test_*.c))

all: $(BIN)psapi-fcgi

$(BIN)libpsapi.a: $(LIBRARY_OBJECTS)
	rm -f $@ && $(AR) rcs $@ $^

$(BIN)psapi-fcgi: $(OUT)/psapi-fcgi.o $(BIN)libpsapi.a
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBRARIES)

$(OUT)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -DPSAPI_VERSION='"$(VERSION)"' -MMD -MP -c -o $@ $<

$(OUT)/tests/%: tests/unit/%.c $(BIN)libpsapi.a Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -I. -MMD -MP $(ALL_LDFLAGS) -o $@ $< $(BIN)libpsapi.a -lcmocka $(LIBRARIES)

clean:
	rm -rf build psapi-fcgi libpsapi.a

.PHONY: all clean
-include $(wildcard $(OUT)/*.d $(OUT)/tests/*.d)
