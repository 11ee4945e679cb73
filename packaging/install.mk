# make install, uninstall, dist, deb. Included by the Makefile.
#
# The directories are those of GNU, with two exceptions: configuration is in /etc and variable data in /var, whatever the
# prefix, beside the files of web servers and systemd. A changed prefix, libdir, sysconfdir or localstatedir must be given
# to `make` as well as to `make install`: the defaults of the settings, and where the module is, are compiled in.
#
# psapi-fcgi is in bindir, not in sbindir: it is also a CGI program for ordinary users.

PREFIX = /usr/local
prefix = $(PREFIX)
exec_prefix = $(prefix)
bindir = $(exec_prefix)/bin
libdir = $(exec_prefix)/lib
moduledir = $(libdir)/psapi-fcgi
datarootdir = $(prefix)/share
docdir = $(datarootdir)/doc/psapi-fcgi
mandir = $(datarootdir)/man
sysconfdir = /etc
localstatedir = /var
runstatedir = /run
# Directories of other programs: systemd, bash, zsh and logrotate read them, nginx and Apache include files from them.
systemddir = $(prefix)/lib
systemdunitdir = $(systemddir)/systemd/system
sysusersdir = $(systemddir)/sysusers.d
tmpfilesdir = $(systemddir)/tmpfiles.d
completionsdir = $(datarootdir)/bash-completion/completions
zshcompletionsdir = $(datarootdir)/zsh/site-functions
nginxdir = $(sysconfdir)/nginx/snippets
apachedir = $(sysconfdir)/apache2/conf-available
logrotatedir = $(sysconfdir)/logrotate.d

INSTALL = install
INSTALL_PROGRAM = $(INSTALL) -m 755
INSTALL_DATA = $(INSTALL) -m 644

# The files say /usr/local/bin, /etc, /var and /run; what is installed says where it is.
LOCATE = sed -e 's|/usr/local/bin/psapi|$(bindir)/psapi|g' -e 's|/etc/psapi\>|$(sysconfdir)/psapi|g' \
	-e 's|/var/spool/psapi|$(localstatedir)/spool/psapi|g' \
	-e 's|/var/lib/psapi|$(localstatedir)/lib/psapi|g' -e 's|/run/psapi|$(runstatedir)/psapi|g'

UNITS = $(wildcard packaging/systemd/*.socket packaging/systemd/*.service packaging/systemd/*.path packaging/systemd/*.timer)
MAN_PAGES = $(wildcard man/*.[1578])
# They are no texts: as they are.
PICTURES = $(wildcard docs/images/*.png)
DOCUMENTS = README.md NEWS.md SECURITY.md $(wildcard CONTRIBUTING.md docs/*.md)
# Examples to copy: DIRECTORY/FILE below docdir/examples.
example_path = $(docdir)/examples/$(patsubst Containerfile,container/Containerfile,$(patsubst packaging/%,%,$(1:examples/%=%)))
MONITORING = prometheus icinga nrpe zabbix
EXAMPLES = $(wildcard nginx/*.conf apache/*.conf apache/shared-hosting/* apache/shared-hosting/.htaccess \
	examples/Caddyfile examples/reconcile examples/*.conf examples/*/* Containerfile packaging/systemd/*.conf \
	$(MONITORING:%=packaging/%/*))

# cron looks for programs only in the PATH of the crontab.
LOCATE += $(if $(filter /usr/local/bin /usr/bin,$(bindir)),,-e 's|^PATH=/usr/local/sbin|PATH=$(bindir):/usr/local/sbin|')

# $(call put,FILE,PATH[,MODE]): installs FILE with the chosen directories in it.
define put
	@mkdir -p "$(DESTDIR)$(dir $(2))"
	@$(LOCATE) $(1) >"$(DESTDIR)$(2)" && chmod $(or $(3),644) "$(DESTDIR)$(2)" && echo "$(DESTDIR)$(2)"

endef

# The same for a file of the administrator: an existing one stays.
define put_configuration
	@if [ -e "$(DESTDIR)$(2)" ]; then echo "$(DESTDIR)$(2): is there, and stays as it is"; else \
		mkdir -p "$(DESTDIR)$(dir $(2))" && $(LOCATE) $(1) >"$(DESTDIR)$(2)" && \
		chmod 644 "$(DESTDIR)$(2)" && echo "$(DESTDIR)$(2)"; fi

endef

PROGRAMS = $(bindir)/psapi-fcgi $(bindir)/psapi $(bindir)/psapi-web $(if $(HAVE_PQ),$(moduledir)/$(MODULE))
# The files that `uninstall` removes.
INSTALLED = $(PROGRAMS) $(UNITS:packaging/systemd/%=$(systemdunitdir)/%) $(sysusersdir)/psapi-fcgi.conf \
	$(tmpfilesdir)/psapi-fcgi.conf $(foreach page,$(MAN_PAGES),$(call page_path,$(page))) \
	$(if $(wildcard packaging/completion/psapi),$(completionsdir)/psapi $(zshcompletionsdir)/_psapi) \
	$(DOCUMENTS:%=$(docdir)/%) $(PICTURES:%=$(docdir)/%) $(foreach example,$(EXAMPLES),$(call example_path,$(example)))
page_path = $(mandir)/man$(subst .,,$(suffix $(1)))/$(notdir $(1))
CONFIGURATION = $(sysconfdir)/psapi/psapi.conf $(nginxdir)/psapi.conf $(apachedir)/psapi.conf \
	$(nginxdir)/psapi-web.conf $(apachedir)/psapi-web.conf \
	$(logrotatedir)/psapi-fcgi

install: all
	$(INSTALL) -d "$(DESTDIR)$(bindir)" "$(DESTDIR)$(sysconfdir)/psapi/handlers.d" \
		"$(DESTDIR)$(sysconfdir)/psapi/batch.d"
	$(INSTALL_PROGRAM) $(BIN)psapi-fcgi $(BIN)psapi $(BIN)psapi-web "$(DESTDIR)$(bindir)"
	$(if $(HAVE_PQ),$(INSTALL) -d "$(DESTDIR)$(moduledir)" && \
		$(INSTALL_DATA) $(BIN)$(MODULE) "$(DESTDIR)$(moduledir)")
	$(foreach unit,$(UNITS),$(call put,$(unit),$(systemdunitdir)/$(notdir $(unit))))
	$(call put,packaging/systemd/psapi.sysusers,$(sysusersdir)/psapi-fcgi.conf)
	$(call put,packaging/systemd/psapi.tmpfiles,$(tmpfilesdir)/psapi-fcgi.conf)
	$(foreach page,$(MAN_PAGES),$(call put,$(page),$(call page_path,$(page))))
	$(if $(wildcard packaging/completion/psapi),$(call put,packaging/completion/psapi,$(completionsdir)/psapi))
	$(if $(wildcard packaging/completion/_psapi),$(call put,packaging/completion/_psapi,$(zshcompletionsdir)/_psapi))
	$(INSTALL) -d "$(DESTDIR)$(docdir)/docs/images"
	$(INSTALL_DATA) $(PICTURES) "$(DESTDIR)$(docdir)/docs/images"
	$(foreach document,$(DOCUMENTS),$(call put,$(document),$(docdir)/$(document)))
	$(foreach example,$(EXAMPLES),$(call put,$(example),$(call example_path,$(example)),$(if $(filter \
		examples/handlers/% examples/reconcile %.cgi %-loop,$(example)),755)))
	$(call put_configuration,packaging/etc/psapi.conf,$(sysconfdir)/psapi/psapi.conf)
	$(call put_configuration,nginx/psapi.conf,$(nginxdir)/psapi.conf)
	$(call put_configuration,-e 's/psapi-proxy\.conf/psapi.conf/' apache/psapi-proxy.conf,$(apachedir)/psapi.conf)
	$(call put_configuration,nginx/psapi-web.conf,$(nginxdir)/psapi-web.conf)
	$(call put_configuration,apache/psapi-web.conf,$(apachedir)/psapi-web.conf)
	$(call put_configuration,packaging/etc/psapi.logrotate,$(logrotatedir)/psapi-fcgi)

# Files that the administrator may have changed, the secret and the spool are not removed.
uninstall:
	rm -f $(INSTALLED:%="$(DESTDIR)%")
	-@cd "$(DESTDIR)$(docdir)" 2>/dev/null && find . -depth -type d -exec rmdir {} + 2>/dev/null
	-@rmdir "$(DESTDIR)$(docdir)" 2>/dev/null
	@for file in $(CONFIGURATION:%="$(DESTDIR)%"); do \
		[ ! -e "$$file" ] || echo "$$file: stays, for it may have been changed"; done

# What a release contains, in dist/: the commit as a tarball, always the same bytes for the same commit, and the Debian
# packages.
DIST = psapi-fcgi-$(VERSION)

dist:
	@mkdir -p dist
	git archive --format=tar --prefix=$(DIST)/ HEAD | gzip -9n >dist/$(DIST).tar.gz
	@echo dist/$(DIST).tar.gz

deb:
	@tools/deb.sh dist

.PHONY: install uninstall dist deb
