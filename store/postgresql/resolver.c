/*
 * Owns the look-up of hosts' names. getaddrinfo(3) has no deadline: without an answer of the
 * resolver it takes 10 seconds a name and more. So a thread looks a name up, one at a time for
 * each host, and the caller waits for that thread until its own deadline.
 *
 * What was found last is used while the resolver does not answer. It is asked each time, so a
 * name that moves to another address is followed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/clock.h"
#include "store/postgresql/postgresql.h"

enum { KNOWN_MS = 100 }; /* to wait for a resolver, if an address is known */

/* Of one host. The engine has a reference to it, and the thread while it runs. */
struct postgresql_lookup {
	pthread_mutex_t lock;
	pthread_cond_t answered;
	char name[256];
	int references;
	bool running;
	unsigned answers;
	int failure; /* of the last answer: EAI_*, or 0 */
	struct postgresql_addresses found;
};

static void
release(struct postgresql_lookup *lookup)
{
	pthread_mutex_lock(&lookup->lock);
	bool last = --lookup->references == 0;
	pthread_mutex_unlock(&lookup->lock);
	if (!last)
		return;
	pthread_cond_destroy(&lookup->answered);
	pthread_mutex_destroy(&lookup->lock);
	free(lookup);
}

static void
copy_addresses(struct postgresql_addresses *to, const struct addrinfo *list)
{
	to->count = 0;
	for (const struct addrinfo *a = list; a != NULL && to->count < POSTGRESQL_ADDRESSES;
	     a = a->ai_next)
		if (getnameinfo(a->ai_addr, a->ai_addrlen, to->text[to->count], sizeof(to->text[0]), NULL,
		    0, NI_NUMERICHOST) == 0)
			to->count++;
}

static void *
look_up(void *data)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct postgresql_addresses found = {.count = 0};
	struct postgresql_lookup *lookup = data;
	struct addrinfo *list = NULL;
	int failure = getaddrinfo(lookup->name, NULL, &hints, &list);

	if (failure == 0) {
		copy_addresses(&found, list);
		freeaddrinfo(list);
	}
	pthread_mutex_lock(&lookup->lock);
	lookup->failure = failure == 0 && found.count == 0 ? EAI_NONAME : failure;
	if (found.count > 0)
		lookup->found = found;
	lookup->running = false;
	lookup->answers++;
	pthread_cond_broadcast(&lookup->answered);
	pthread_mutex_unlock(&lookup->lock);
	release(lookup);
	return NULL;
}

/* With its lock held. A thread that has all signals blocked: they are the program's. */
static bool
start(struct postgresql_lookup *lookup)
{
	pthread_attr_t detached;
	sigset_t all, before;
	pthread_t thread;

	if (lookup->running)
		return true;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	lookup->running = pthread_create(&thread, &detached, look_up, lookup) == 0;
	lookup->references += lookup->running ? 1 : 0;
	pthread_attr_destroy(&detached);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return lookup->running;
}

/* The one of that host, made the first time. NULL without memory. */
static struct postgresql_lookup *
lookup_of(struct postgresql *pg, int host)
{
	pthread_mutex_lock(&pg->lock);
	struct postgresql_lookup *lookup = pg->lookups[host];
	if (lookup == NULL && (lookup = calloc(1, sizeof(*lookup))) != NULL) {
		snprintf(lookup->name, sizeof(lookup->name), "%s", pg->hosts[host].name);
		pthread_mutex_init(&lookup->lock, NULL);
		pthread_cond_init(&lookup->answered, &pg->monotonic);
		lookup->references = 1;
		pg->lookups[host] = lookup;
	}
	pthread_mutex_unlock(&pg->lock);
	return lookup;
}

/* Returns 0, EAI_* of the answer, or -1: no answer in time. Known addresses are good enough. */
static int
wait_answer(struct postgresql_lookup *lookup, int64_t deadline,
    struct postgresql_addresses *addresses)
{
	int64_t soon = postgresql_deadline(KNOWN_MS);
	int failure = -1;

	pthread_mutex_lock(&lookup->lock);
	if (lookup->found.count > 0 && soon < deadline)
		deadline = soon;
	const struct timespec until = {.tv_sec = deadline / 1000,
	    .tv_nsec = deadline % 1000 * 1000000};
	unsigned before = lookup->answers;
	bool running = start(lookup);
	while (running && lookup->answers == before &&
	    pthread_cond_timedwait(&lookup->answered, &lookup->lock, &until) == 0)
		continue;
	if (lookup->answers != before)
		failure = lookup->failure;
	*addresses = lookup->found;
	if (addresses->count > 0 && failure != EAI_NONAME)
		failure = 0;
	pthread_mutex_unlock(&lookup->lock);
	return failure;
}

/* Whether libpq has nothing to look up. */
static bool
is_no_name(const struct postgresql_host *host)
{
	struct in6_addr address;

	return host->address != NULL || host->name == NULL || *host->name == '/' ||
	    *host->name == '@' || inet_pton(AF_INET, host->name, &address) == 1 ||
	    inet_pton(AF_INET6, host->name, &address) == 1;
}

int
postgresql_resolver_find(struct postgresql *pg, int host, int64_t deadline,
    struct postgresql_addresses *addresses, struct error *error)
{
	addresses->count = 0;
	if (is_no_name(&pg->hosts[host]))
		return 0;
	struct postgresql_lookup *lookup = lookup_of(pg, host);
	int failure = lookup == NULL ? EAI_MEMORY : wait_answer(lookup, deadline, addresses);
	if (failure == 0)
		return 0;
	postgresql_refused(pg, host, error, "could not translate host name: %s", failure == -1 ?
	    "no answer of the resolver in time" : gai_strerror(failure));
	return -1;
}

void
postgresql_resolver_close(struct postgresql *pg)
{
	for (int i = 0; i < POSTGRESQL_HOSTS; i++)
		if (pg->lookups[i] != NULL)
			release(pg->lookups[i]);
}
