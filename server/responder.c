/*
 * Owns the threads of the FastCGI server, and what wakes them.
 *
 * A connection costs a descriptor, no thread, while nothing arrives and while a request is
 * not whole: all of them, and the listener, wait in one epoll set. A thread takes a connection
 * that is readable, reads what there is, and puts the connection back, until the request is
 * whole; then it answers. So slow uploads keep no other request waiting. libfcgi would pin a
 * thread to each connection that a web server keeps open.
 *
 * The main thread waits for signals and, while requests arrive, wakes every second to cut
 * off the slow ones (connections.c). A thread then reads the end of the stream, and can still
 * answer.
 */
#define _GNU_SOURCE
#include "server/responder.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/cgi.h"
#include "server/connections.h"
#include "server/fastcgi.h"

enum {
	DESCRIPTORS_MAX = 16384, /* connections are a table by descriptor */
	DESCRIPTORS_OWN = 32,    /* the program's and ours, other than connections */
	DESCRIPTORS_THREAD = 5,  /* that a thread may open for one request */
	STACK_BYTES = 256 * 1024,
	UPLOADS_BESIDE = 32,    /* as many whole bodies as threads, and these, may be in memory */
	SCAN_MS = 1000,      /* while a request is arriving */
	FULL_NAP_MS = 20,    /* between looks for room for one more connection */
	WARN_EVERY_MS = 60000,
	STOP_TICK_MS = 5,    /* while stopping */
	STOP_NEW_MS = 2000,  /* stopping: a new connection may take this long to say something */
	STOP_LIMIT_MS = 4500 /* stopping: the promise is 5 s */
};

/* What lets more threads run: [of files, else of processes][the number is fixed]. */
static const char *const remedies[2][2] = {
	{"raise the limit of processes (TasksMax=, ulimit -u), or lower PSAPI_THREADS",
	    "raise the limit of processes (TasksMax=, ulimit -u)"},
	{"raise the limit of open files (LimitNOFILE=, ulimit -n), or lower PSAPI_THREADS",
	    "raise the limit of open files (LimitNOFILE=, ulimit -n)"}};

struct responder {
	const struct service *service;
	struct listener *listener;
	struct connections *connections;
	int threads;
	int epoll;
	int wake; /* eventfd: threads wake the main thread when something begins to arrive */
	int quit; /* eventfd: threads end */
	int signals;
	atomic_bool watching; /* the main thread wakes every second to cut off slow requests */
	pthread_mutex_t lock; /* of the listener: */
	bool accepting;
	int64_t warned;        /* when the log last said that no more connections can be open */
	int64_t unwatched;     /* when it last said that one cannot be watched */
	atomic_llong crowded;  /* when it last said that uploads take too much memory */
};

struct worker {
	struct responder *responder;
	struct fastcgi *fastcgi; /* owned */
	pthread_t thread;
};

/* ---- connections ---- */

/* A request may be arriving: the main thread looks at it each second. */
static void
watch(struct responder *r)
{
	if (!atomic_exchange(&r->watching, true))
		eventfd_write(r->wake, 1);
}

/*
 * Arm the connection for its next event: a thread that is free then takes it. Returns 0, or an
 * errno: only a new one can fail, where the kernel has no memory or no watch for it.
 */
static int
wait_for_more(struct responder *r, int fd, int operation)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = fd};

	return epoll_ctl(r->epoll, operation, fd, &event) == 0 ? 0 : errno;
}

/* Whether *last is a minute ago, or never was; then it is now. The lock is held. */
static bool
may_warn(int64_t *last)
{
	int64_t now = clock_milliseconds();

	if (*last != 0 && now - *last < WARN_EVERY_MS)
		return false;
	*last = now;
	return true;
}

/* Log that connections wait in the backlog, at most once a minute. The lock is held. */
static void
warn_of_backlog(struct responder *r, int error)
{
	if (may_warn(&r->warned))
		log_line("%ld connections are open and more wait: %s: raise the limit of open files",
		    connections_count(r->connections), strerror(error));
}

/* Take a connection that was accepted. Returns 0, or an errno: then it is closed. */
static int
add_connection(struct responder *r, int fd)
{
	int failed = connections_add(r->connections, fd), on = 1;
	unsigned serial;

	if (failed != 0) {
		close(fd);
		return failed;
	}
	/* Fails for unix sockets, which do not need it. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	failed = wait_for_more(r, fd, EPOLL_CTL_ADD);
	if (failed != 0) {
		struct arrival *arrival = connections_take(r->connections, fd, &serial);
		connections_remove(r->connections, fd, serial, arrival);
		close(fd);
		if (may_warn(&r->unwatched))
			log_line("a connection is closed: epoll_ctl: %s", strerror(failed));
		return failed;
	}
	watch(r);
	return 0;
}

/*
 * Accept one connection. Returns 0, or the errno of accept4() or epoll_ctl(); EAGAIN if no more are
 * accepted, EMFILE if as many are open as there is room for.
 */
static int
accept_one(struct responder *r)
{
	int failed = EAGAIN;

	pthread_mutex_lock(&r->lock);
	if (r->accepting && !connections_have_room(r->connections)) {
		failed = EMFILE;
	} else if (r->accepting) {
		int fd = accept4(r->listener->fd, NULL, NULL, SOCK_CLOEXEC);
		failed = fd < 0 ? errno : add_connection(r, fd);
	}
	if (failed == EMFILE || failed == ENFILE)
		warn_of_backlog(r, failed);
	pthread_mutex_unlock(&r->lock);
	return failed;
}

/* Whether accept_one() failed because something is used up, which may be free later. */
static bool
is_short(int failed)
{
	return failed == EMFILE || failed == ENFILE || failed == ENOMEM || failed == ENOSPC;
}

/*
 * The listener is readable, and armed for one thread at a time: accept a connection.
 * At the limit this thread alone waits for room; the connections wait in the backlog.
 */
static void
accept_all(struct responder *r)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = r->listener->fd};
	int failed = accept_one(r);

	if (is_short(failed))
		poll(NULL, 0, FULL_NAP_MS);
	epoll_ctl(r->epoll, EPOLL_CTL_MOD, r->listener->fd, &event);
}

/* ---- a request ---- */

/* Log it, at most once a minute. */
static void
warn_of_uploads(struct responder *r)
{
	long long now = clock_milliseconds(), last = atomic_load(&r->crowded);

	if ((last == 0 || now - last >= WARN_EVERY_MS) &&
	    atomic_compare_exchange_strong(&r->crowded, &last, now))
		log_line("unfinished uploads take as much memory as they may: large ones are cut off");
}

/* Read what there is, without waiting. */
static enum arrival_progress
read_more(struct responder *r, int fd, struct arrival *arrival)
{
	enum arrival_progress progress = arrival_read(arrival, fd);

	if (progress != ARRIVAL_UNFINISHED || connections_may_grow(r->connections, arrival))
		return progress;
	warn_of_uploads(r);
	return arrival_cut_off(arrival);
}

/* A body that has arrived, while the program reads it. */
struct upload {
	const unsigned char *data;
	size_t left;
	bool cut_off;
};

static ssize_t
read_body(void *stream, void *buffer, size_t size)
{
	struct upload *upload = stream;
	size_t n = size < upload->left ? size : upload->left;

	if (n == 0)
		return upload->cut_off ? -1 : 0;
	memcpy(buffer, upload->data, n);
	upload->data += n;
	upload->left -= n;
	return (ssize_t)n;
}

static void
answer(struct responder *r, struct fastcgi *fastcgi, struct upload *upload)
{
	struct request request = {
		.variables = fastcgi_variables(fastcgi), .read = read_body, .stream = upload};
	char header[CGI_HEADER_SIZE];
	struct reply reply;

	cgi_correct(fastcgi_variables(fastcgi));
	reply.bodiless = false;
	r->service->handle(r->service->context, &request, &reply);
	size_t length = cgi_header(&reply, header);
	if (length > 0) {
		fastcgi_write(fastcgi, header, length);
		if (!reply.bodiless)
			fastcgi_write(fastcgi, reply.body, reply.length);
	}
	reply_free(&reply);
}

/* Answer a request. Returns whether the connection is still open. */
static bool
answer_one(struct responder *r, struct fastcgi *fastcgi, int fd,
    struct arrival *arrival, bool is_cut_off)
{
	struct upload upload = {.cut_off = is_cut_off};
	size_t length;
	const unsigned char *head = fastcgi_reader_head(arrival->reader, &length);

	upload.data = fastcgi_reader_body(arrival->reader, &upload.left);
	connections_arrived(r->connections, fd);
	if (!fastcgi_begin(fastcgi, fd, head, length)) {
		close(fd);
		return false;
	}
	answer(r, fastcgi, &upload);
	bool open = fastcgi_end(fastcgi);
	arrival_next(arrival);
	connections_may_grow(r->connections, arrival);
	return open;
}

/* Serve a connection that is readable. */
static void
serve(struct responder *r, struct fastcgi *fastcgi, int fd)
{
	unsigned serial;
	struct arrival *arrival = connections_take(r->connections, fd, &serial);
	bool open = true, more = false, answered = false;

	watch(r);
	do {
		enum arrival_progress progress = read_more(r, fd, arrival);
		if (progress == ARRIVAL_UNFINISHED) {
			connections_wait(r->connections, fd, arrival);
			break;
		}
		if (progress == ARRIVAL_GONE) {
			connections_arrived(r->connections, fd);
			close(fd);
		}
		answered |= progress != ARRIVAL_GONE;
		open = progress != ARRIVAL_GONE &&
		    answer_one(r, fastcgi, fd, arrival, progress == ARRIVAL_CUT_OFF);
		more = open && arrival->rest != NULL;
		/* The last that this thread does with the arrival: the lock hands it on. */
		if (open && !more)
			connections_idle(r->connections, fd);
	} while (more);
	if (open)
		wait_for_more(r, fd, EPOLL_CTL_MOD);
	else
		connections_remove(r->connections, fd, serial, arrival);
	if (answered && r->service->after != NULL)
		r->service->after(r->service->context);
}

static void *
work(void *argument)
{
	struct worker *worker = argument;
	struct responder *r = worker->responder;
	struct epoll_event event;

	for (;;) {
		int n = epoll_wait(r->epoll, &event, 1, -1);
		if (n < 0 && errno != EINTR)
			log_line("epoll_wait: %s", strerror(errno));
		if (n < 1)
			continue;
		if (event.data.fd == r->quit)
			return NULL;
		if (event.data.fd == r->listener->fd)
			accept_all(r);
		else
			serve(r, worker->fastcgi, event.data.fd);
	}
}

/* ---- the main thread ---- */

/* Wait for the first signal. Returns its number. */
static int
wait_for_signal(struct responder *r)
{
	struct pollfd fds[] = {
		{.fd = r->signals, .events = POLLIN}, {.fd = r->wake, .events = POLLIN}};
	struct signalfd_siginfo info;
	eventfd_t count;
	bool awake = false;

	for (;;) {
		int n = poll(fds, 2, awake ? SCAN_MS : -1);
		if (n > 0 && fds[0].revents != 0 &&
		    read(r->signals, &info, sizeof(info)) == sizeof(info))
			return (int)info.ssi_signo;
		if (n > 0 && fds[1].revents != 0) {
			/* A request that has just begun is not slow yet; under load we wake once a second. */
			eventfd_read(r->wake, &count);
			awake = true;
			continue;
		}
		/* In this order: a request that begins to arrive after the scan wakes us again. */
		atomic_store(&r->watching, false);
		awake = connections_cut_off(r->connections);
		if (awake)
			atomic_store(&r->watching, true);
	}
}

/* Accept the connections in the backlog. Returns false if some may have to wait for room. */
static bool
accept_backlog(struct responder *r)
{
	int failed;

	do
		failed = accept_one(r);
	while (failed == 0 || failed == EINTR || failed == ECONNABORTED);
	return !is_short(failed);
}

/*
 * Serve the connections that are open and those in the backlog of our own socket, until
 * all are closed or the time is over. A second signal ends the process as signals do.
 */
static void
stop(struct responder *r)
{
	struct pollfd signals = {.fd = r->signals, .events = POLLIN};
	int64_t start = clock_milliseconds();
	bool hung_up = false;

	epoll_ctl(r->epoll, EPOLL_CTL_DEL, r->listener->fd, NULL);
	pthread_mutex_lock(&r->lock);
	r->accepting = !r->listener->inherited;
	pthread_mutex_unlock(&r->lock);
	listener_retire(r->listener);
	connections_hang_up(r->connections, false);
	while (!accept_backlog(r) && clock_milliseconds() - start < STOP_LIMIT_MS)
		poll(NULL, 0, STOP_TICK_MS);
	pthread_mutex_lock(&r->lock);
	r->accepting = false;
	pthread_mutex_unlock(&r->lock);
	while (connections_count(r->connections) > 0 && clock_milliseconds() - start < STOP_LIMIT_MS) {
		struct signalfd_siginfo info;
		if (poll(&signals, 1, STOP_TICK_MS) > 0 &&
		    read(r->signals, &info, sizeof(info)) == sizeof(info)) {
			log_line("second signal: %ld connection(s) dropped", connections_count(r->connections));
			_exit(128 + (int)info.ssi_signo);
		}
		connections_cut_off(r->connections);
		if (!hung_up && clock_milliseconds() - start > STOP_NEW_MS) {
			connections_hang_up(r->connections, true);
			hung_up = true;
		}
	}
}

/* ---- start and end ---- */

static sigset_t
signals_to_stop(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	return set;
}

static int
make_descriptors(struct responder *r, const sigset_t *set)
{
	struct epoll_event listening = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = r->listener->fd};
	struct epoll_event quitting = {.events = EPOLLIN};

	r->epoll = epoll_create1(EPOLL_CLOEXEC);
	r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->quit = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->signals = signalfd(-1, set, SFD_CLOEXEC);
	if (r->epoll < 0 || r->wake < 0 || r->quit < 0 || r->signals < 0)
		return -1;
	quitting.data.fd = r->quit;
	if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, r->quit, &quitting) != 0)
		return -1;
	return epoll_ctl(r->epoll, EPOLL_CTL_ADD, r->listener->fd, &listening);
}

/*
 * As many connections as the process may have descriptors (the soft limit is raised
 * to the hard one), less those that the requests themselves need.
 */
static int
make_table(struct responder *r)
{
	struct rlimit limit = {0};
	const struct service *service = r->service;
	struct connections_limits limits = {
		.read_timeout = service->read_timeout, .body_max = service->body_max};

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max < DESCRIPTORS_MAX ? limit.rlim_max : DESCRIPTORS_MAX;
	setrlimit(RLIMIT_NOFILE, &limit);
	getrlimit(RLIMIT_NOFILE, &limit);
	limits.capacity = limit.rlim_cur < DESCRIPTORS_MAX ? (int)limit.rlim_cur : DESCRIPTORS_MAX;
	limits.most = limits.capacity - DESCRIPTORS_OWN - DESCRIPTORS_THREAD * (long)r->threads;
	if (limits.most < 1)
		limits.most = 1;
	limits.memory = service->body_max * (size_t)(r->threads + UPLOADS_BESIDE);
	r->connections = connections_new(&limits);
	return r->connections != NULL ? 0 : -1;
}

/* Returns 0, or an errno. */
static int
start_worker(struct responder *r, struct worker *worker, const pthread_attr_t *attributes)
{
	*worker = (struct worker){.responder = r, .fastcgi = fastcgi_new()};
	if (worker->fastcgi == NULL)
		return errno;
	int error = pthread_create(&worker->thread, attributes, work, worker);
	if (error != 0)
		fastcgi_free(worker->fastcgi);
	return error;
}

/* Returns how many could be started; if not all, with the reason in errno. */
static int
start_workers(struct responder *r, struct worker *workers)
{
	pthread_attr_t attributes;
	int started = 0, error = 0;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	while (started < r->threads && error == 0) {
		error = start_worker(r, &workers[started], &attributes);
		started += error == 0 ? 1 : 0;
	}
	pthread_attr_destroy(&attributes);
	errno = error;
	return started;
}

static void
stop_workers(struct responder *r, struct worker *workers, int started)
{
	eventfd_write(r->quit, 1);
	for (int i = 0; i < started; i++) {
		pthread_join(workers[i].thread, NULL);
		fastcgi_free(workers[i].fastcgi);
	}
}

void
responder_own_signals(void)
{
	sigset_t set = signals_to_stop();

	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a limit of file sizes is an error of write(2), no end */
}

/* Serve until a signal, and until all is answered. Returns 0, or -1 with an error. */
static int
run(struct responder *r, struct worker *workers, struct error *error)
{
	int started = start_workers(r, workers);
	const char *remedy = remedies[errno == EMFILE || errno == ENFILE][r->service->threads_fixed];

	if (started == 0) {
		error_set(error, EX_OSERR, remedy, "no thread can be started: %s", strerror(errno));
		return -1;
	}
	if (started < r->threads)
		log_line("only %d of %d threads could be started: %s: %s", started, r->threads,
		    strerror(errno), remedy);
	wait_for_signal(r);
	stop(r);
	if (connections_count(r->connections) > 0) {
		/* A thread waits for the disk, or the like: its request is not acknowledged. */
		log_line("stopped with %ld request(s) unanswered", connections_count(r->connections));
		_exit(0);
	}
	stop_workers(r, workers, started);
	return 0;
}

int
responder_threads(int wanted, bool fixed, struct error *error)
{
	struct rlimit limit = {0};

	getrlimit(RLIMIT_NOFILE, &limit);
	long files = limit.rlim_max < DESCRIPTORS_MAX ? (long)limit.rlim_max : DESCRIPTORS_MAX;
	long possible = (files - DESCRIPTORS_OWN) / (DESCRIPTORS_THREAD + 1);
	if (possible >= wanted)
		return wanted;
	if (possible < 0)
		possible = 0;
	error_set(error, EX_OSERR, remedies[true][fixed],
	    "%ld files may be open, enough for %ld of %d threads", files, possible,
	    wanted);
	return (int)possible;
}

static int
serve_all(const struct service *service, struct listener *listener, int threads,
    struct error *error)
{
	struct responder r = {.service = service, .listener = listener, .accepting = true,
		.threads = threads, .epoll = -1, .wake = -1, .quit = -1, .signals = -1};
	const int *const descriptors[] = {&r.epoll, &r.wake, &r.quit, &r.signals};
	struct worker *workers = calloc((size_t)threads, sizeof(*workers));
	sigset_t set = signals_to_stop();
	int result = -1;

	responder_own_signals();
	pthread_mutex_init(&r.lock, NULL);
	if (workers == NULL || fastcgi_init() != 0 || make_table(&r) != 0 ||
	    make_descriptors(&r, &set) != 0)
		error_set(error, EX_OSERR, "raise the limits of memory and open files", "cannot start: %s",
		    strerror(errno));
	else
		result = run(&r, workers, error);
	for (int i = 0; i < 4; i++)
		if (*descriptors[i] >= 0)
			close(*descriptors[i]);
	free(workers);
	connections_free(r.connections);
	pthread_mutex_destroy(&r.lock);
	return result;
}

int
responder_run(const struct service *service, struct listener *listener, struct error *error)
{
	int threads = responder_threads(service->threads, service->threads_fixed, error);

	if (threads == 0)
		return -1;
	if (threads < service->threads)
		error_log(error);
	return serve_all(service, listener, threads, error);
}
