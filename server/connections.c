/*
 * Owns the table of connections and its lock, and the rules by which a slow request is cut off.
 * The sender gives up after 5 seconds, so a slower request is not one of its deliveries.
 */
#define _GNU_SOURCE
#include "server/connections.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"

enum {
	RATE_AFTER_MS = 5000,
	RATE_BYTES = 512,  /* a second */
	SLOW_MS = 1000,    /* a request that arrives for longer counts as slow */
	SLOW_MAX = 32,     /* slow requests of one address */
	SMALL = 64 * 1024  /* bytes that a request may always use, however much the others use */
};

struct connection {
	unsigned serial; /* tells it from the next connection that gets the descriptor */
	bool open;
	bool idle;   /* no byte of a request has arrived */
	bool served; /* a request of it was answered before */
	int64_t arriving_since; /* clock_milliseconds(); 0: nothing is arriving */
	size_t arrived;         /* bytes of it */
	uint64_t address;       /* of the client; 0: not known */
	struct arrival *arrival;
};

/* A request that is arriving slowly. */
struct slow {
	uint64_t address;
	int64_t since;
	int fd;
};

struct connections {
	struct connections_limits limits;
	pthread_mutex_t lock;
	bool stopping;
	long live;
	int used; /* no connection has had a descriptor from here on */
	struct connection *table; /* by descriptor */
	struct slow *slow;        /* room for all of them */
	atomic_size_t memory;
};

/* ---- begin and end ---- */

struct connections *
connections_new(const struct connections_limits *limits)
{
	struct connections *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->limits = *limits;
	c->table = calloc((size_t)limits->capacity, sizeof(*c->table));
	c->slow = calloc((size_t)limits->capacity, sizeof(*c->slow));
	pthread_mutex_init(&c->lock, NULL);
	if (c->table != NULL && c->slow != NULL)
		return c;
	connections_free(c);
	return NULL;
}

static void
free_arrival(struct connections *c, struct arrival *arrival)
{
	if (arrival == NULL)
		return;
	atomic_fetch_sub(&c->memory, arrival->counted);
	arrival_free(arrival);
}

void
connections_free(struct connections *c)
{
	if (c == NULL)
		return;
	for (int fd = 0; c->table != NULL && fd < c->used; fd++)
		if (c->table[fd].open)
			free_arrival(c, c->table[fd].arrival);
	pthread_mutex_destroy(&c->lock);
	free(c->table);
	free(c->slow);
	free(c);
}

long
connections_count(struct connections *c)
{
	pthread_mutex_lock(&c->lock);
	long live = c->live;
	pthread_mutex_unlock(&c->lock);
	return live;
}

bool
connections_have_room(struct connections *c)
{
	return connections_count(c) < c->limits.most;
}

int
connections_add(struct connections *c, int fd)
{
	struct arrival *arrival;

	if (fd >= c->limits.capacity)
		return EMFILE;
	arrival = arrival_new(c->limits.body_max, (int)c->limits.most);
	if (arrival == NULL)
		return ENOMEM;
	pthread_mutex_lock(&c->lock);
	c->table[fd] = (struct connection){.serial = c->table[fd].serial + 1, .open = true,
		.idle = true, .arriving_since = clock_milliseconds(), .arrival = arrival};
	c->live++;
	if (fd >= c->used)
		c->used = fd + 1;
	pthread_mutex_unlock(&c->lock);
	return 0;
}

void
connections_remove(struct connections *c, int fd, unsigned serial,
    struct arrival *arrival)
{
	pthread_mutex_lock(&c->lock);
	if (c->table[fd].serial == serial)
		c->table[fd] = (struct connection){.serial = serial};
	c->live--;
	pthread_mutex_unlock(&c->lock);
	free_arrival(c, arrival);
}

/* ---- a request arrives ---- */

struct arrival *
connections_take(struct connections *c, int fd, unsigned *serial)
{
	pthread_mutex_lock(&c->lock);
	struct connection *one = &c->table[fd];
	one->idle = false;
	if (one->arriving_since == 0)
		one->arriving_since = clock_milliseconds();
	*serial = one->serial;
	struct arrival *arrival = one->arrival;
	pthread_mutex_unlock(&c->lock);
	return arrival;
}

void
connections_arrived(struct connections *c, int fd)
{
	pthread_mutex_lock(&c->lock);
	c->table[fd].arriving_since = 0;
	pthread_mutex_unlock(&c->lock);
}

/*
 * The client's address as a number; 0: none. Of an IPv6 address only the network, the first 64
 * bits: one user has all addresses of it.
 */
static uint64_t
address_of(const struct fastcgi_reader *reader)
{
	char text[INET6_ADDRSTRLEN];
	unsigned char bytes[16] = {0};
	uint64_t number = 0;
	size_t length;
	const char *value = fastcgi_reader_has_variables(reader) ?
	    fastcgi_reader_variable(reader, "REMOTE_ADDR", &length) : NULL;

	if (value == NULL || length >= sizeof(text))
		return 0;
	memcpy(text, value, length);
	text[length] = '\0';
	if (inet_pton(AF_INET, text, bytes + 4) != 1 && inet_pton(AF_INET6, text, bytes) != 1)
		return 0;
	for (int i = 0; i < 8; i++)
		number = number << 8 | bytes[i];
	return number;
}

/* The connection is idle. The lock is held. */
static void
make_idle(struct connections *c, int fd)
{
	struct connection *one = &c->table[fd];

	one->arriving_since = 0;
	one->arrived = 0;
	one->address = 0;
	one->served = true;
	one->idle = true;
	if (c->stopping)
		shutdown(fd, SHUT_RD);
}

void
connections_wait(struct connections *c, int fd, const struct arrival *arrival)
{
	bool begun = fastcgi_reader_has_begun(arrival->reader);
	uint64_t address = begun ? address_of(arrival->reader) : 0;

	pthread_mutex_lock(&c->lock);
	if (begun) {
		if (c->table[fd].arriving_since == 0) /* it arrived together with the previous one */
			c->table[fd].arriving_since = clock_milliseconds();
		c->table[fd].arrived = arrival->bytes;
		c->table[fd].address = address;
	} else {
		make_idle(c, fd);
	}
	pthread_mutex_unlock(&c->lock);
}

void
connections_idle(struct connections *c, int fd)
{
	pthread_mutex_lock(&c->lock);
	make_idle(c, fd);
	pthread_mutex_unlock(&c->lock);
}

bool
connections_may_grow(struct connections *c, struct arrival *arrival)
{
	size_t size = fastcgi_reader_size(arrival->reader), before = arrival->counted;

	arrival->counted = size;
	size_t all = atomic_fetch_add(&c->memory, size - before) + size - before;
	return size <= SMALL || all <= c->limits.memory;
}

/* ---- slow requests ---- */

static bool
is_too_slow(const struct connections *c, const struct connection *one, int64_t now)
{
	int64_t age = now - one->arriving_since;

	return age > c->limits.read_timeout * 1000LL ||
	    (age > RATE_AFTER_MS && (int64_t)one->arrived < age / 1000 * RATE_BYTES);
}

static int
compare(const void *a, const void *b)
{
	const struct slow *x = a, *y = b;

	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return x->since < y->since ? 1 : x->since > y->since ? -1 : 0;
}

/* Cut off the oldest slow requests of each address that has more than SLOW_MAX. */
static void
limit_each_address(struct connections *c, size_t count)
{
	size_t of_one = 0;

	qsort(c->slow, count, sizeof(*c->slow), compare);
	for (size_t i = 0; i < count; i++) {
		of_one = i > 0 && c->slow[i].address == c->slow[i - 1].address ? of_one + 1 : 1;
		if (of_one > SLOW_MAX)
			shutdown(c->slow[i].fd, SHUT_RD);
	}
}

bool
connections_cut_off(struct connections *c)
{
	int64_t now = clock_milliseconds();
	size_t slow = 0;
	bool any = false;

	pthread_mutex_lock(&c->lock);
	for (int fd = 0; fd < c->used; fd++) {
		const struct connection *one = &c->table[fd];
		if (!one->open || one->arriving_since == 0)
			continue;
		any = true;
		if (is_too_slow(c, one, now))
			shutdown(fd, SHUT_RD);
		else if (one->address != 0 && now - one->arriving_since > SLOW_MS)
			c->slow[slow++] = (struct slow){one->address, one->arriving_since, fd};
	}
	if (slow > SLOW_MAX)
		limit_each_address(c, slow);
	pthread_mutex_unlock(&c->lock);
	return any;
}

void
connections_hang_up(struct connections *c, bool all)
{
	pthread_mutex_lock(&c->lock);
	c->stopping = true;
	for (int fd = 0; fd < c->used; fd++) {
		const struct connection *one = &c->table[fd];
		if (one->open && one->idle && (one->served || all))
			shutdown(fd, SHUT_RD);
	}
	pthread_mutex_unlock(&c->lock);
}
