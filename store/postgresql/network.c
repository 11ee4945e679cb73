/*
 * Owns what the sandbox must leave open for libpq: sockets, ports, files that it reads to
 * connect.
 */
#define _GNU_SOURCE
#include <netdb.h>
#include <netinet/in.h>
#include <pwd.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/postgresql/postgresql.h"

#define PLACES(member) ((int)(sizeof(network->member) / sizeof(network->member[0])))

static void
add_file(struct store_network *network, const char *path)
{
	for (int i = 0; i < PLACES(files); i++) {
		if (strcmp(network->files[i], path) == 0)
			return;
		if (network->files[i][0] != '\0')
			continue;
		snprintf(network->files[i], sizeof(network->files[i]), "%s", path);
		return;
	}
}

static void
add_port(struct store_network *network, const char *text)
{
	unsigned short port = (unsigned short)(text != NULL ? atoi(text) : 5432);

	for (int i = 0; i < PLACES(ports); i++) {
		if (network->ports[i] == port)
			return;
		if (network->ports[i] != 0)
			continue;
		network->ports[i] = port;
		return;
	}
}

/* Settings of libpq that name a file. What is not set is in the home directory. */
static const struct {
	const char *keyword, *below_home;
	bool tcp; /* only of a connection over TCP */
} files[] = {
	{"passfile", ".pgpass", false},
	{"sslcert", ".postgresql/postgresql.crt", true},
	{"sslkey", ".postgresql/postgresql.key", true},
	{"sslrootcert", ".postgresql/root.crt", true},
	{"sslcrl", ".postgresql/root.crl", true},
};

/* As libpq finds it. NULL: there is none. */
static const char *
home_directory(void)
{
	const char *home = getenv("HOME");
	const struct passwd *user = home == NULL || *home == '\0' ? getpwuid(geteuid()) : NULL;

	return user != NULL ? user->pw_dir : home;
}

static void
add_files(const struct postgresql *pg, struct store_network *network, bool tcp)
{
	const char *home = home_directory();
	char path[STORE_PATH_SIZE];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		const PQconninfoOption *o = pg->options;
		while (o->keyword != NULL && strcmp(o->keyword, files[i].keyword) != 0)
			o++;
		const char *value = o->keyword != NULL ? o->val : NULL;
		snprintf(path, sizeof(path), "%s/%s", home != NULL ? home : "", files[i].below_home);
		if (files[i].tcp && !tcp)
			continue;
		if (value != NULL && *value == '/')
			add_file(network, value);
		else if (home != NULL && *home == '/')
			add_file(network, path);
	}
}

/*
 * The resolver loads modules when it first needs them, which the sandbox would not allow. Here,
 * without a thread, it asks each server once, and waits for a second.
 */
static void
load_resolver(const char *name)
{
	struct addrinfo *found;

	if (res_init() == 0)
		_res.retrans = _res.retry = 1;
	if (getaddrinfo(name, NULL, NULL, &found) == 0)
		freeaddrinfo(found);
}

void
postgresql_network(void *engine, struct store_network *network)
{
	const struct postgresql *pg = engine;
	bool tcp = false;

	network->wanted = true;
	for (int i = 0; i < pg->host_count; i++) {
		const struct postgresql_host *host = &pg->hosts[i];
		if (host->address == NULL &&
		    (host->name == NULL || *host->name == '/' || *host->name == '@'))
			continue;
		tcp = true;
		add_port(network, host->port);
		if (host->address != NULL)
			continue;
		if (!network->names)
			load_resolver(host->name);
		network->names = true;
	}
	add_files(pg, network, tcp);
}
