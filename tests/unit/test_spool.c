/*
 * Owns what spool.h promises: names, the layout, the accept protocol and recovery.
 * It stands between spool.c and the kernel, so that the nth system call fails, or
 * something happens just before it.
 */
#include "helpers.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/crypto.h"
#include "store/spool/spool.h"
#include "verify.h"

/* ---- system calls of spool.c ---- */

enum call { FSYNC = 1, LINKAT = 2, WRITEV = 4, ANY = 7, UNLINKAT = 8, FLOCK = 16 };

static struct interference {
	int of;            /* which calls count */
	int nth;           /* this one of them, from 1, is met; 0: none */
	int error;         /* errno that it fails with; 0: it does not fail */
	void (*hook)(void); /* what happens just before it */
	int seen;
	size_t most;        /* bytes that a writev(2) takes; 0: all */
	int durable;        /* calls of writev(2) on what is open with O_DSYNC */
} interference;

static bool
interfere(enum call call)
{
	if (interference.nth == 0 || (interference.of & (int)call) == 0 ||
	    ++interference.seen != interference.nth)
		return false;
	int error = interference.error; /* the hook may arm the next one */
	if (interference.hook != NULL)
		interference.hook();
	errno = error;
	return error != 0;
}

int
fsync(int fd)
{
	return interfere(FSYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}

int
linkat(int from, const char *old, int to, const char *new, int flags)
{
	return interfere(LINKAT) ? -1 : (int)syscall(SYS_linkat, from, old, to, new, flags);
}

ssize_t
writev(int fd, const struct iovec *iov, int count)
{
	if (interfere(WRITEV))
		return -1;
	interference.durable += (fcntl(fd, F_GETFL) & O_DSYNC) != 0;
	if (interference.most == 0)
		return (ssize_t)syscall(SYS_writev, fd, iov, count);
	while (count > 1 && iov->iov_len == 0) {
		iov++;
		count--;
	}
	return write(fd, iov->iov_base, iov->iov_len < interference.most ? iov->iov_len : interference.most);
}

int
unlinkat(int dir, const char *name, int flags)
{
	return interfere(UNLINKAT) ? -1 : (int)syscall(SYS_unlinkat, dir, name, flags);
}

int
flock(int fd, int operation)
{
	return interfere(FLOCK) ? -1 : (int)syscall(SYS_flock, fd, operation);
}

/* ---- a spool of its own ---- */

enum { LINK_NAMED = 3 }; /* spool.c: a name in tmp/, where there is no O_TMPFILE */

static struct iovec contents[2] = {{(char *)(uintptr_t) "{\"event\":", 9}, {(char *)(uintptr_t) "1}\n", 3}};
#define CONTENTS "{\"event\":1}\n"

struct fixture {
	char path[256];
	struct spool spool;
	int descriptors; /* before it was opened */
};

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char why[256];
	void *path;

	if (f == NULL || sandbox_make(&path) != 0)
		return -1;
	memset(&interference, 0, sizeof(interference));
	snprintf(f->path, sizeof(f->path), "%s", (char *)path);
	free(path);
	f->descriptors = descriptors();
	*state = f;
	return spool_open(&f->spool, f->path, true, why, sizeof(why));
}

static int
teardown(void **state)
{
	struct fixture *f = *state;
	void *path = strdup(f->path);

	spool_close(&f->spool);
	int left = descriptors() - f->descriptors;
	free(f);
	return sandbox_remove(&path) != 0 || left != 0 ? -1 : 0;
}

#define SPOOL_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* The path of NAME in one of the directories; NAME "" is the directory. */
static const char *
at(struct fixture *f, enum spool_dir dir, const char *name)
{
	char relative[512];

	snprintf(relative, sizeof(relative), "%s/%s", spool_dir_names[dir], name);
	return in(f->path, relative);
}

static int
count(struct fixture *f, enum spool_dir dir)
{
	return names_in(at(f, dir, ""));
}

static ino_t
inode(struct fixture *f, enum spool_dir dir, const char *name)
{
	struct stat st;

	return lstat(at(f, dir, name), &st) == 0 ? st.st_ino : 0;
}

static enum spool_result
store(struct fixture *f, const char *name, enum spool_dir queue)
{
	return spool_store(&f->spool, name, queue, contents, 2);
}

static void
put(struct fixture *f, enum spool_dir dir, const char *name, const char *text)
{
	file_write(at(f, dir, name), text, 0640);
}

static void
expect_contents(struct fixture *f, enum spool_dir dir, const char *name, const char *text)
{
	size_t length;
	char *found = file_read(at(f, dir, name), &length);

	if (found == NULL)
		fail_msg("no %s/%s", spool_dir_names[dir], name);
	assert_int_equal(length, strlen(text));
	assert_memory_equal(found, text, length);
	free(found);
}

/* Run something whose log lines are expected; they are returned, the caller frees them. */
static char *
quietly(enum spool_result *result, struct fixture *f, const char *name, enum spool_dir queue)
{
	struct capture capture;

	capture_begin(&capture);
	*result = store(f, name, queue);
	return capture_end(&capture);
}

/* ---- names ---- */

static const char *
name_of(const void *id, size_t length)
{
	static char names[2][SPOOL_NAME_SIZE];
	static unsigned turn;
	char *name = names[turn++ % 2];

	assert_int_equal(spool_name(id, length, name), 0);
	return name;
}

TEST(a_name_is_the_id_with_every_other_byte_as_percent_and_hex)
{
	static const struct {
		const char *id;
		size_t length;
		const char *name;
	} rows[] = {
		{"msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", 31, "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W.json"},
		{"-", 1, "-.json"},
		{".", 1, "%2E.json"},
		{"..", 2, "%2E%2E.json"},
		{"../../etc/passwd", 16, "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd.json"},
		{"/", 1, "%2F.json"},
		{"%2F", 3, "%252F.json"},
		{".hidden", 7, "%2Ehidden.json"},
		{"a.json", 6, "a%2Ejson.json"},
		{"a\0b", 3, "a%00b.json"},
		{"a\nb ", 4, "a%0Ab%20.json"},
		{"\x7f\x80\xff", 3, "%7F%80%FF.json"},
		{"%sha256-", 8, "%25sha256-.json"},
	};

	for (size_t i = 0; i < ROWS(rows); i++)
		assert_string_equal(name_of(rows[i].id, rows[i].length), rows[i].name);
}

TEST(only_plain_bytes_stand_for_themselves)
{
	char expected[16];

	for (int c = 0; c < 256; c++) {
		char byte = (char)c;
		if (c != 0 && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", c))
			snprintf(expected, sizeof(expected), "%c.json", c);
		else
			snprintf(expected, sizeof(expected), "%%%02X.json", (unsigned)c);
		assert_string_equal(name_of(&byte, 1), expected);
	}
}

TEST(over_200_bytes_encoded_the_name_is_the_hash)
{
	static const struct {
		size_t plain, encoded; /* bytes of the id that take one and three */
		bool hashed;
	} rows[] = {{199, 0, false}, {200, 0, false}, {201, 0, true}, {197, 1, false}, {198, 1, true},
	    {199, 1, true}, {2, 66, false}, {3, 66, true}, {0, 67, true}, {300, 0, true},
	    {0, 300, true}};
	char id[400], hex[65], expected[SPOOL_NAME_SIZE + 64];

	for (size_t i = 0; i < ROWS(rows); i++) {
		size_t length = rows[i].plain + rows[i].encoded;
		memset(id, 'a', rows[i].plain);
		memset(id + rows[i].plain, '/', rows[i].encoded);
		assert_int_equal(crypto_sha256_hex(id, length, hex), 0);
		snprintf(expected, sizeof(expected), "%%sha256-%s.json", hex);
		const char *name = name_of(id, length);
		assert_true(strlen(name) < SPOOL_NAME_SIZE);
		assert_int_equal(strcmp(name, expected) == 0, rows[i].hashed);
		if (!rows[i].hashed)
			assert_int_equal(strlen(name), rows[i].plain + 3 * rows[i].encoded + 5);
		assert_true(spool_name_valid(name));
	}
}

/* A small generator, so that a failure comes again. */
static uint32_t
next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

struct id {
	size_t length;
	char bytes[320];
	char name[SPOOL_NAME_SIZE];
};

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct id *)a)->name, ((const struct id *)b)->name);
}

/* Ids near each other: built of the pieces that encoding makes and takes. */
static void
invent(struct id *id, uint32_t *seed)
{
	static const char *const pieces[] = {"%", "2", "F", "f", "%2F", "/", "%25", ".", "..", "%2E",
		"%2e", ".json", "%sha256-", "a", "A", "_", "-", "\xff", " ", "%00", "\n"};
	size_t wanted = next_random(seed) % 8 == 0 ? 60 + next_random(seed) % 200 :
	                                             1 + next_random(seed) % 4;

	while (id->length < wanted) {
		const char *piece = pieces[next_random(seed) % ROWS(pieces)];
		memcpy(id->bytes + id->length, piece, strlen(piece));
		id->length += strlen(piece);
	}
}

TEST(distinct_ids_have_distinct_valid_names_that_stay_in_the_directory)
{
	enum { IDS = 20000 };
	struct id *ids = calloc(IDS, sizeof(*ids));
	uint32_t seed = 20250724;

	assert_non_null(ids);
	for (size_t i = 0; i < IDS; i++) {
		struct id *id = &ids[i];
		if (i % 4 == 1) {
			/* the name of the one before as an id, with and without its ending */
			id->length = strlen(id[-1].name) - (i % 8 == 1 ? 0 : 5);
			memcpy(id->bytes, id[-1].name, id->length);
		} else {
			invent(id, &seed);
		}
		assert_int_equal(spool_name(id->bytes, id->length, id->name), 0);
		if (!spool_name_valid(id->name) || strchr(id->name, '/') != NULL ||
		    id->name[0] == '.')
			fail_msg("%s", id->name);
	}
	qsort(ids, IDS, sizeof(*ids), by_name);
	for (size_t i = 1; i < IDS; i++)
		if (strcmp(ids[i].name, ids[i - 1].name) == 0 &&
		    (ids[i].length != ids[i - 1].length ||
		        memcmp(ids[i].bytes, ids[i - 1].bytes, ids[i].length) != 0))
			fail_msg("two ids of the name %s", ids[i].name);
	free(ids);
}

TEST(a_name_that_no_id_has_is_not_valid)
{
	static const char hash[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	static const char *const bad[] = {"", ".", "..", ".json", "json", "a", "a.", "a.jso", "a.JSON",
		"a.json ", "a.json.json", "a.b.json", "../a.json", "a/b.json", "a b.json", "\xff.json",
		"%.json", "%2.json", "%2", "%2f.json", "%2e%2e.json", "%GG.json", "% 2.json", "a%.json",
		"a%2.json", "%%2F.json", "%sha256-.json", "%sha256-ba7816bf.json", "%2Fa.json~",
		/* bytes that spool_name() leaves as they are */
		"%41.json", "%61.json", "%30.json", "%5F.json", "%2D.json", "msg%5F1.json"};
	char name[400];

	for (size_t i = 0; i < ROWS(bad); i++)
		if (spool_name_valid(bad[i]))
			fail_msg("\"%s\" is taken for a name", bad[i]);
	snprintf(name, sizeof(name), "%%sha256-%s.json", hash);
	assert_true(spool_name_valid(name));
	name[8] = 'B';
	assert_false(spool_name_valid(name));
	snprintf(name, sizeof(name), "%%sha256-%s0.json", hash);
	assert_false(spool_name_valid(name));
	snprintf(name, sizeof(name), "%%sha256-%sx.json", hash);
	assert_false(spool_name_valid(name));
	snprintf(name, sizeof(name), "%%sha256-%.63s.json", hash);
	assert_false(spool_name_valid(name));
	for (int length = 200; length <= 201; length++) {
		snprintf(name, sizeof(name), "%0*d.json", length, 0);
		assert_int_equal(spool_name_valid(name), length == 200);
	}
}

/* Every name of three bytes: valid if, and only if, it is the name of what it stands for. */
TEST(a_valid_name_is_exactly_one_that_spool_name_makes)
{
	static const char alphabet[] = "%0269AFaf_-./ \n\xff";
	char name[16], id[4];

	for (const char *a = alphabet; *a != '\0'; a++)
		for (const char *b = alphabet; *b != '\0'; b++)
			for (const char *c = alphabet; *c != '\0'; c++) {
				size_t length = 3;
				unsigned byte;
				snprintf(name, sizeof(name), "%c%c%c.json", *a, *b, *c);
				snprintf(id, sizeof(id), "%c%c%c", *a, *b, *c);
				if (*a == '%' && *b != ' ' && *b != '\n' && sscanf(id + 1, "%2x", &byte) == 1) {
					id[0] = (char)byte;
					length = 1;
				}
				bool made = strcmp(name_of(id, length), name) == 0;
				if (spool_name_valid(name) != made)
					fail_msg("\"%s\": made is %d", name, made);
			}
}

/* ---- open ---- */

TEST(open_makes_the_directories_for_the_group_whatever_the_umask)
{
	const char *path = in(*state, "spool");
	struct spool spool;
	char why[256];
	struct stat st;

	mode_t mask = umask(077);
	int result = spool_open(&spool, path, true, why, sizeof(why));
	umask(mask);
	assert_int_equal(result, 0);
	assert_int_equal(names_in(path), SPOOL_DIRS);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 02770);
	for (int i = 0; i < SPOOL_DIRS; i++) {
		assert_int_equal(fstat(spool.dir[i], &st), 0);
		assert_true(S_ISDIR(st.st_mode));
		assert_int_equal(st.st_mode & 07777, 02770);
		assert_true(fcntl(spool.dir[i], F_GETFD) & FD_CLOEXEC);
	}
	assert_true(fcntl(spool.root, F_GETFD) & FD_CLOEXEC);
	spool_close(&spool);
}

TEST(open_leaves_a_directory_that_is_there_as_it_is)
{
	const char *path = in(*state, "spool");
	struct spool spool;
	char why[256];
	struct stat st;

	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(mkdir(in(path, "new"), 0750), 0);
	assert_int_equal(spool_open(&spool, path, true, why, sizeof(why)), 0);
	assert_int_equal(fstat(spool.dir[SPOOL_NEW], &st), 0);
	assert_int_equal(st.st_mode & 07777, 0750);
	spool_close(&spool);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(spool_open(&spool, path, false, why, sizeof(why)), 0);
	spool_close(&spool);
}

TEST(a_spool_that_cannot_be_opened_is_named_with_the_remedy)
{
	const char *file = in(*state, "file"), *spool_path = in(*state, "spool");
	int before = descriptors();
	struct spool spool;
	char why[512];

	file_write(file, "", 0600);
	assert_int_equal(spool_open(&spool, file, true, why, sizeof(why)), -1);
	assert_non_null(strstr(why, "/file: Not a directory: make"));
	assert_int_equal(spool_open(&spool, in(*state, "a/b"), true, why, sizeof(why)), -1);
	assert_non_null(strstr(why, "/a/b: No such file"));
	assert_int_equal(spool_open(&spool, in(*state, "absent"), false, why, sizeof(why)), -1);
	assert_false(exists(in(*state, "absent")));

	assert_int_equal(mkdir(spool_path, 0700), 0);
	file_write(in(spool_path, "events"), "", 0600);
	assert_int_equal(spool_open(&spool, spool_path, true, why, sizeof(why)), -1);
	assert_non_null(strstr(why, "/spool/events: Not a directory: it must be"));
	assert_null(strchr(why, '\n'));
	assert_int_equal(descriptors(), before);
}

TEST(a_spool_of_another_format_is_refused)
{
	static const struct {
		const char *text, *why;
	} rows[] = {{"1\n", NULL}, {"1\nand a word to whoever reads it\n", NULL}, {"2\n", "has format 2, "},
		{"11\n", "has format 11, "}, {"", "has format , "}, {"1", NULL}};
	const char *path = in(*state, "spool"), *format = in(path, "format");
	int before = descriptors();
	struct spool spool;
	char why[512];

	assert_int_equal(mkdir(path, 0700), 0);
	for (size_t i = 0; i < ROWS(rows); i++) {
		file_write(format, rows[i].text, 0640);
		int result = spool_open(&spool, path, true, why, sizeof(why));
		assert_int_equal(result, rows[i].why == NULL ? 0 : -1);
		if (result == 0) {
			spool_close(&spool);
			continue;
		}
		assert_int_equal(errno, EPROTONOSUPPORT);
		assert_non_null(strstr(why, rows[i].why));
		assert_non_null(strstr(why, "this program knows 1"));
	}
	assert_int_equal(unlink(format), 0);
	assert_int_equal(symlink("new", format), 0);
	assert_int_equal(spool_open(&spool, path, true, why, sizeof(why)), -1);
	assert_int_equal(errno, ELOOP);
	assert_int_equal(descriptors(), before);
}

/* ---- accept ---- */

static void
accept_everywhere(struct fixture *f)
{
	struct stat st;

	assert_int_equal(spool_find(&f->spool, "a.json"), SPOOL_ABSENT);
	assert_int_equal(store(f, "a.json", SPOOL_NEW), SPOOL_STORED);
	assert_int_equal(store(f, "b.json", SPOOL_FAILED), SPOOL_STORED);
	assert_int_equal(store(f, "c.json", SPOOL_EVENTS), SPOOL_STORED);
	assert_int_equal(spool_find(&f->spool, "a.json"), SPOOL_DUPLICATE);
	assert_int_equal(count(f, SPOOL_NEW), 1);
	assert_int_equal(count(f, SPOOL_FAILED), 1);
	assert_int_equal(count(f, SPOOL_EVENTS), 3);
	assert_int_equal(count(f, SPOOL_TMP), 0);
	assert_int_equal(inode(f, SPOOL_NEW, "a.json"), inode(f, SPOOL_EVENTS, "a.json"));
	assert_int_equal(inode(f, SPOOL_FAILED, "b.json"), inode(f, SPOOL_EVENTS, "b.json"));
	expect_contents(f, SPOOL_EVENTS, "a.json", CONTENTS);
	expect_contents(f, SPOOL_EVENTS, "b.json", CONTENTS);
	expect_contents(f, SPOOL_EVENTS, "c.json", CONTENTS);
	assert_int_equal(stat(at(f, SPOOL_NEW, "a.json"), &st), 0);
	assert_int_equal(st.st_nlink, 2);
	assert_int_equal(st.st_mode & 07777 & ~0640U, 0);
}

TEST(an_event_is_one_file_in_its_queue_and_in_events)
{
	accept_everywhere(*state);
}

TEST(so_it_is_without_o_tmpfile)
{
	struct fixture *f = *state;

	f->spool.link_way = LINK_NAMED;
	accept_everywhere(f);
	assert_int_equal(f->spool.link_way, LINK_NAMED);
}

TEST(a_large_body_is_written_to_its_end)
{
	struct fixture *f = *state;
	size_t size = 8 << 20;
	char *large = malloc(size + 1);
	struct iovec pieces[3] = {{large, 1}, {large + 1, size - 1}, {large, 0}};

	for (size_t i = 0; i < size; i++)
		large[i] = (char)('a' + i % 26);
	large[size] = '\0';
	assert_int_equal(spool_store(&f->spool, "a.json", SPOOL_NEW, pieces, 3), SPOOL_STORED);
	expect_contents(f, SPOOL_NEW, "a.json", large);
	free(large);
}

TEST(a_write_that_is_interrupted_or_takes_a_part_is_continued)
{
	struct fixture *f = *state;
	struct iovec pieces[3] = {contents[0], {NULL, 0}, contents[1]};
	char name[64];

	for (size_t most = 1; most <= 12; most++) {
		snprintf(name, sizeof(name), "%zu.json", most);
		interference = (struct interference){
			.most = most, .of = WRITEV, .nth = (int)most % 3 + 1, .error = EINTR};
		assert_int_equal(spool_store(&f->spool, name, SPOOL_NEW, pieces, 3), SPOOL_STORED);
		interference.most = 0;
		expect_contents(f, SPOOL_NEW, name, CONTENTS);
	}
}

TEST(a_stored_event_costs_a_synchronous_write_and_a_sync)
{
	struct fixture *f = *state;

	for (int way = 0; way <= LINK_NAMED; way += LINK_NAMED) {
		f->spool.link_way = way;
		interference = (struct interference){.of = FSYNC, .nth = 100};
		assert_int_equal(store(f, way == 0 ? "a.json" : "b.json", SPOOL_NEW), SPOOL_STORED);
		assert_int_equal(interference.durable, 1);
		assert_int_equal(interference.seen, 1);
	}
}

/* As systemd's PathChanged= and inotifywait do: of an event they see its name appear, and nothing else. */
TEST(who_watches_a_queue_sees_a_name_appear_once)
{
	struct fixture *f = *state;
	_Alignas(struct inotify_event) char seen[4096];
	int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	assert_true(inotify_add_watch(watch, at(f, SPOOL_NEW, ""), IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE | IN_MODIFY) >= 0);
	assert_int_equal(store(f, "a.json", SPOOL_NEW), SPOOL_STORED);
	ssize_t n = read(watch, seen, sizeof(seen));
	const struct inotify_event *event = (const struct inotify_event *)(const void *)seen;
	assert_true(n > 0);
	assert_int_equal(n, sizeof(*event) + event->len);
	assert_int_equal(event->mask, IN_CREATE);
	assert_string_equal(event->name, "a.json");
	close(watch);
}

TEST(an_event_that_was_handled_is_a_duplicate)
{
	static const enum spool_dir queues[] = {SPOOL_NEW, SPOOL_FAILED, SPOOL_EVENTS};
	struct fixture *f = *state;

	assert_int_equal(store(f, "a.json", SPOOL_NEW), SPOOL_STORED);
	ino_t first = inode(f, SPOOL_EVENTS, "a.json");
	assert_int_equal(unlink(at(f, SPOOL_NEW, "a.json")), 0);
	assert_int_equal(spool_find(&f->spool, "a.json"), SPOOL_DUPLICATE);
	for (size_t i = 0; i < ROWS(queues); i++) {
		assert_int_equal(store(f, "a.json", queues[i]), SPOOL_DUPLICATE);
		assert_int_equal(count(f, SPOOL_NEW), 0);
		assert_int_equal(count(f, SPOOL_FAILED), 0);
		assert_int_equal(count(f, SPOOL_TMP), 0);
		assert_int_equal(inode(f, SPOOL_EVENTS, "a.json"), first);
	}
}

TEST(an_event_that_waits_is_a_duplicate_and_keeps_its_file)
{
	struct fixture *f = *state;

	assert_int_equal(store(f, "a.json", SPOOL_NEW), SPOOL_STORED);
	ino_t first = inode(f, SPOOL_NEW, "a.json");
	assert_int_equal(store(f, "a.json", SPOOL_NEW), SPOOL_DUPLICATE);
	assert_int_equal(inode(f, SPOOL_NEW, "a.json"), first);
	assert_int_equal(inode(f, SPOOL_EVENTS, "a.json"), first);
	assert_int_equal(count(f, SPOOL_TMP), 0);
}

TEST(a_twin_whose_writer_died_before_recording_it_is_finished)
{
	static const enum spool_dir queues[] = {SPOOL_NEW, SPOOL_FAILED};
	struct fixture *f = *state;

	for (size_t i = 0; i < ROWS(queues); i++) {
		const char *name = i == 0 ? "a.json" : "b.json";
		put(f, queues[i], name, "the twin's\n");
		assert_int_equal(spool_find(&f->spool, name), SPOOL_ABSENT);
		interference = (struct interference){.of = FSYNC, .nth = 100};
		assert_int_equal(store(f, name, queues[i]), SPOOL_DUPLICATE);
		assert_int_equal(interference.seen, 1); /* the directory that names theirs */
		assert_int_equal(inode(f, SPOOL_EVENTS, name), inode(f, queues[i], name));
		expect_contents(f, SPOOL_EVENTS, name, "the twin's\n");
		assert_int_equal(count(f, SPOOL_TMP), 0);
	}
}

/* Whoever may write to the spool's group can put it there; a 200 would say that it is an event. */
TEST(what_is_no_file_in_the_place_of_a_twin_is_an_error)
{
	struct fixture *f = *state;

	file_write(in(f->path, "elsewhere"), CONTENTS, 0640);
	for (int what = 0; what < 4; what++) {
		const char *path = at(f, SPOOL_NEW, "a.json");
		struct capture capture;
		struct stat st;
		assert_int_equal(what == 0 ? symlink("../elsewhere", path) :
		        what == 1          ? symlink("../nowhere", path) :
		        what == 2          ? mkfifo(path, 0640) :
		                             mkdir(path, 0750), 0);
		capture_begin(&capture);
		enum spool_result result = store(f, "a.json", SPOOL_NEW);
		free(capture_end(&capture));
		assert_int_equal(result, SPOOL_ERROR);
		assert_int_equal(count(f, SPOOL_EVENTS), 0);
		assert_int_equal(count(f, SPOOL_TMP), 0);
		assert_int_equal(lstat(path, &st), 0); /* not ours to remove */
		assert_int_equal(remove(path), 0);
	}
	assert_int_equal(unlink(in(f->path, "elsewhere")), 0);
}

/* ---- what happens between the steps ---- */

static struct fixture *hooked;

static void
handle_it(void)
{
	assert_int_equal(unlink(at(hooked, SPOOL_NEW, "a.json")), 0);
}

/* Beside its writer, which is in the middle of a sync. */
static void
recover_it(void)
{
	struct spool other; /* another process's */
	char why[256];

	assert_int_equal(spool_open(&other, hooked->path, false, why, sizeof(why)), 0);
	assert_int_equal(spool_recover(&other), 1);
	spool_close(&other);
}

static void
accept_and_handle_a_twin(void)
{
	unlink(at(hooked, SPOOL_NEW, "a.json"));
	put(hooked, SPOOL_EVENTS, "a.json", "the twin's\n");
}

static void
queue_a_twin(void)
{
	put(hooked, SPOOL_NEW, "a.json", "the twin's\n");
}

static void
record_a_twin(void)
{
	put(hooked, SPOOL_EVENTS, "a.json", "the twin's\n");
}

TEST(whatever_happens_between_the_steps_it_is_queued_once_and_recorded)
{
	static const struct {
		const char *what;
		enum call of;
		int nth;
		void (*hook)(void);
		enum spool_result result;
		int queued, recorded; /* 1: our file; 2: the twin's; 0: none */
		int error; /* that the call meets */
	} rows[] = {
		{"a twin that was queued is recorded and handled before it is looked at", LINKAT, 1,
		    record_a_twin, SPOOL_DUPLICATE, 0, 2, EEXIST},
		{"a twin was recorded and handled after step 0", LINKAT, 1, record_a_twin,
		    SPOOL_DUPLICATE, 0, 2, 0},
		{"a twin was queued after step 0", LINKAT, 1, queue_a_twin, SPOOL_DUPLICATE, 2, 2, 0},
		{"a script handled it before it was synced", FSYNC, 1, handle_it, SPOOL_STORED, 0, 1, 0},
		{"a script handled it before it was recorded", LINKAT, 2, handle_it, SPOOL_STORED, 0, 1, 0},
		{"recovery recorded it", FSYNC, 1, recover_it, SPOOL_STORED, 1, 1, 0},
		{"it was handled, and a twin accepted and handled", FSYNC, 1, accept_and_handle_a_twin,
		    SPOOL_DUPLICATE, 0, 2, 0},
		{"a twin was recorded while it was synced", FSYNC, 1, record_a_twin, SPOOL_DUPLICATE, 0,
		    2, 0},
	};
	struct fixture *f = hooked = *state;

	for (int way = 0; way <= LINK_NAMED; way += LINK_NAMED)
		for (size_t i = 0; i < ROWS(rows); i++) {
			static const char *const texts[] = {NULL, CONTENTS, "the twin's\n"};
			/* The first event finds out how to link, with calls of its own. */
			f->spool.link_way = way;
			assert_int_equal(store(f, "first.json", SPOOL_NEW), SPOOL_STORED);
			interference = (struct interference){
				.of = (int)rows[i].of, .nth = rows[i].nth, .hook = rows[i].hook,
				.error = rows[i].error};
			enum spool_result result = store(f, "a.json", SPOOL_NEW);
			interference.nth = 0;
			if (result != rows[i].result ||
			    exists(at(f, SPOOL_NEW, "a.json")) != (rows[i].queued != 0))
				fail_msg("%s: result %d", rows[i].what, (int)result);
			if (rows[i].queued != 0)
				expect_contents(f, SPOOL_NEW, "a.json", texts[rows[i].queued]);
			expect_contents(f, SPOOL_EVENTS, "a.json", texts[rows[i].recorded]);
			assert_int_equal(count(f, SPOOL_TMP), 0);
			unlink(at(f, SPOOL_NEW, "a.json"));
			unlink(at(f, SPOOL_EVENTS, "a.json"));
			unlink(at(f, SPOOL_NEW, "first.json"));
			unlink(at(f, SPOOL_EVENTS, "first.json"));
		}
}

static void
handle_it_on_a_disk_that_fills(void)
{
	handle_it();
	interference = (struct interference){.of = WRITEV, .nth = 1, .error = ENOSPC};
}

TEST(what_was_handled_and_cannot_be_recorded_is_not_answered_as_stored)
{
	struct fixture *f = hooked = *state;

	assert_int_equal(store(f, "first.json", SPOOL_NEW), SPOOL_STORED);
	if (f->spool.link_way == LINK_NAMED)
		skip(); /* its name in tmp/ is still there to link */
	interference = (struct interference){
		.of = LINKAT, .nth = 2, .hook = handle_it_on_a_disk_that_fills};
	assert_int_equal(store(f, "a.json", SPOOL_NEW), SPOOL_FULL);
	interference.nth = 0;
	assert_int_equal(spool_find(&f->spool, "a.json"), SPOOL_ABSENT);
	assert_int_equal(count(f, SPOOL_TMP), 0);
	assert_int_equal(store(f, "a.json", SPOOL_NEW), SPOOL_STORED);
}

/* Somebody has recorded our file, and vouches for it; no link succeeds after that. */
static void
record_it_for_us(void)
{
	assert_int_equal(link(at(hooked, SPOOL_NEW, "a.json"), at(hooked, SPOOL_EVENTS, "a.json")), 0);
	interference = (struct interference){.of = LINKAT, .nth = 1, .error = EIO};
}

TEST(what_is_recorded_is_not_taken_back)
{
	struct fixture *f = hooked = *state;
	enum spool_result result;

	interference =
	    (struct interference){.of = FSYNC, .nth = 1, .hook = record_it_for_us, .error = EIO};
	free(quietly(&result, f, "a.json", SPOOL_NEW));
	interference.nth = 0;
	assert_int_equal(result, SPOOL_STORED);
	assert_int_equal(inode(f, SPOOL_NEW, "a.json"), inode(f, SPOOL_EVENTS, "a.json"));
	assert_int_not_equal(inode(f, SPOOL_NEW, "a.json"), 0);
}

/* The new file's writer may yet fail. */
static void
give_the_name_to_another_file(void)
{
	handle_it();
	queue_a_twin();
}

TEST(what_another_has_put_there_is_not_taken_back)
{
	struct fixture *f = hooked = *state;
	enum spool_result result;

	assert_int_equal(store(f, "first.json", SPOOL_NEW), SPOOL_STORED);
	interference =
	    (struct interference){.of = LINKAT, .nth = 2, .hook = give_the_name_to_another_file, .error = EIO};
	free(quietly(&result, f, "a.json", SPOOL_NEW));
	interference.nth = 0;
	assert_int_equal(result, SPOOL_ERROR);
	expect_contents(f, SPOOL_NEW, "a.json", "the twin's\n");
	assert_false(exists(at(f, SPOOL_EVENTS, "a.json")));
}

/* Whoever records a.json has the lock on it, and nobody can withdraw it. */
static void
expect_it_locked(void)
{
	int fd = open(at(hooked, SPOOL_NEW, "a.json"), O_RDONLY | O_CLOEXEC);

	assert_int_equal(syscall(SYS_flock, fd, LOCK_EX | LOCK_NB), -1);
	assert_int_equal(errno, EWOULDBLOCK);
	close(fd);
}

TEST(who_records_the_file_of_another_has_its_lock)
{
	static const enum call calls[] = {FSYNC, LINKAT};
	struct fixture *f = hooked = *state;

	assert_int_equal(store(f, "first.json", SPOOL_NEW), SPOOL_STORED);
	for (size_t i = 0; i < ROWS(calls); i++) {
		queue_a_twin();
		/* Of a store's links the first meets the twin's name, the second records it. */
		int nth = calls[i] == LINKAT ? 2 : 1;
		interference = (struct interference){.of = (int)calls[i], .nth = nth, .hook = expect_it_locked};
		assert_int_equal(store(f, "a.json", SPOOL_NEW), SPOOL_DUPLICATE);
		assert_int_equal(interference.seen, nth);
		assert_int_equal(unlink(at(f, SPOOL_EVENTS, "a.json")), 0);
		interference = (struct interference){.of = (int)calls[i], .nth = 1, .hook = expect_it_locked};
		assert_int_equal(spool_recover(&f->spool), 1);
		assert_true(interference.seen >= 1);
		assert_int_equal(unlink(at(f, SPOOL_EVENTS, "a.json")), 0);
		assert_int_equal(unlink(at(f, SPOOL_NEW, "a.json")), 0);
	}
}

/* Its name is recorded, so it is on the disk: 63 twins that wait for the lock need not sync it again. */
TEST(a_twin_that_is_recorded_is_not_synced_again)
{
	struct fixture *f = *state;

	put(f, SPOOL_NEW, "a.json", CONTENTS);
	put(f, SPOOL_EVENTS, "a.json", CONTENTS);
	interference = (struct interference){.of = FSYNC, .nth = 1, .error = EIO};
	assert_int_equal(store(f, "a.json", SPOOL_NEW), SPOOL_DUPLICATE);
	assert_int_equal(interference.seen, 0);
}

TEST(a_file_that_takes_a_twin_s_name_while_that_is_synced_is_not_recorded_for_its_writer)
{
	struct fixture *f = hooked = *state;
	enum spool_result result;

	put(f, SPOOL_NEW, "a.json", "a");
	interference = (struct interference){.of = FSYNC, .nth = 1, .hook = give_the_name_to_another_file};
	free(quietly(&result, f, "a.json", SPOOL_NEW));
	interference.nth = 0;
	assert_int_equal(result, SPOOL_ERROR);
	assert_false(exists(at(f, SPOOL_EVENTS, "a.json")));
	expect_contents(f, SPOOL_NEW, "a.json", "the twin's\n");
}

static pthread_t recorder;

/* Somebody has the lock on a.json, and records it before it is given up. */
static void *
record_slowly(void *lock)
{
	poll(NULL, 0, 100);
	long result = syscall(SYS_linkat, hooked->spool.dir[SPOOL_NEW], "a.json", hooked->spool.dir[SPOOL_EVENTS],
	    "a.json", 0);
	close((int)(intptr_t)lock);
	return result == 0 ? lock : NULL;
}

static void
begin_to_record_it(void)
{
	int lock = open(at(hooked, SPOOL_NEW, "a.json"), O_RDONLY | O_CLOEXEC);

	assert_int_equal(syscall(SYS_flock, lock, LOCK_EX | LOCK_NB), 0);
	assert_int_equal(pthread_create(&recorder, NULL, record_slowly, (void *)(intptr_t)lock), 0);
}

TEST(who_withdraws_waits_for_who_records)
{
	struct fixture *f = hooked = *state;
	enum spool_result result;
	void *recorded;

	interference = (struct interference){.of = FSYNC, .nth = 1, .hook = begin_to_record_it, .error = EIO};
	free(quietly(&result, f, "a.json", SPOOL_NEW));
	pthread_join(recorder, &recorded);
	assert_non_null(recorded);
	assert_int_equal(result, SPOOL_STORED);
	assert_int_equal(inode(f, SPOOL_NEW, "a.json"), inode(f, SPOOL_EVENTS, "a.json"));
}

static void
refuse_the_lock(void)
{
	interference = (struct interference){.of = FLOCK, .nth = 1, .error = ENOLCK};
}

TEST(what_cannot_be_locked_is_not_withdrawn)
{
	struct fixture *f = hooked = *state;
	enum spool_result result;

	assert_int_equal(store(f, "first.json", SPOOL_NEW), SPOOL_STORED);
	interference = (struct interference){.of = LINKAT, .nth = 2, .hook = refuse_the_lock, .error = EIO};
	free(quietly(&result, f, "a.json", SPOOL_NEW));
	interference.nth = 0;
	assert_int_equal(result, SPOOL_ERROR);
	expect_contents(f, SPOOL_NEW, "a.json", CONTENTS);
	assert_false(exists(at(f, SPOOL_EVENTS, "a.json")));
	assert_int_equal(store(f, "a.json", SPOOL_NEW), SPOOL_DUPLICATE); /* the next try finishes it */
	assert_int_equal(inode(f, SPOOL_NEW, "a.json"), inode(f, SPOOL_EVENTS, "a.json"));
}

/* ---- failures ---- */

static void
fail_another_sync(void)
{
	hooked->spool.distrusted = true;
}

/* The kernel tells one of several of an error: it may have been about our name. */
TEST(a_sync_beside_one_that_failed_is_not_trusted)
{
	struct fixture *f = hooked = *state;
	enum spool_result result;

	interference = (struct interference){.of = FSYNC, .nth = 1, .hook = fail_another_sync};
	free(quietly(&result, f, "a.json", SPOOL_NEW));
	interference.nth = 0;
	assert_int_equal(result, SPOOL_ERROR);
	assert_int_equal(count(f, SPOOL_NEW), 0);
	assert_int_equal(count(f, SPOOL_EVENTS), 0);
}

TEST(whichever_call_fails_it_is_stored_or_nothing_is_left)
{
	static const enum spool_dir queues[] = {SPOOL_NEW, SPOOL_FAILED, SPOOL_EVENTS};
	static const int errors[] = {EIO, ENOSPC, EDQUOT, EMLINK};
	struct fixture *f = *state;

	for (size_t k = 0; k < ROWS(queues) * ROWS(errors) * 2; k++) {
		enum spool_dir queue = queues[k % ROWS(queues)];
		int error = errors[k / ROWS(queues) % ROWS(errors)], way = k % 2 == 0 ? 0 : LINK_NAMED;
		bool done = false;
		int failures = 0;
		for (int nth = 1; !done; nth++) {
			enum spool_result result;
			char name[64];
			snprintf(name, sizeof(name), "%zu-%d.json", k, nth);
			f->spool.link_way = way;
			interference = (struct interference){.of = ANY, .nth = nth, .error = error};
			char *logged = quietly(&result, f, name, queue);
			done = interference.seen < nth;
			interference.nth = 0;
			bool queued = exists(at(f, queue, name)),
			     recorded = exists(at(f, SPOOL_EVENTS, name));
			if (result == SPOOL_STORED) {
				assert_true(queued && recorded);
				assert_int_equal(logged[0], '\0');
			} else {
				if (queued || recorded)
					fail_msg("call %d of %s: left over", nth, name);
				assert_int_equal(result,
				    error == ENOSPC || error == EDQUOT ? SPOOL_FULL : SPOOL_ERROR);
				assert_int_equal(logged[0] != '\0',
				    result == SPOOL_ERROR || f->spool.distrusted);
				failures++;
			}
			assert_int_equal(count(f, SPOOL_TMP), 0);
			f->spool.distrusted = false; /* as a restart */
			free(logged);
		}
		/* write and fsync at the least; a link that fails may have another way */
		assert_true(failures >= 2);
	}
}

TEST(after_a_failed_sync_of_a_directory_nothing_is_accepted)
{
	struct fixture *f = *state;
	enum spool_result result;

	interference = (struct interference){.of = FSYNC, .nth = 1, .error = EIO};
	char *logged = quietly(&result, f, "a.json", SPOOL_NEW);
	assert_int_equal(result, SPOOL_ERROR);
	assert_non_null(strstr(logged, "nothing is accepted until a restart"));
	free(logged);
	assert_int_equal(store(f, "b.json", SPOOL_NEW), SPOOL_ERROR);
	assert_int_equal(count(f, SPOOL_NEW), 0);
	assert_int_equal(count(f, SPOOL_EVENTS), 0);
	/* What was stored before is still known. */
	put(f, SPOOL_EVENTS, "c.json", "");
	assert_int_equal(spool_find(&f->spool, "c.json"), SPOOL_DUPLICATE);
}

TEST(a_failed_sync_of_a_file_is_that_file_s_alone)
{
	struct fixture *f = *state;
	enum spool_result result;

	interference = (struct interference){.of = WRITEV, .nth = 1, .error = EIO};
	char *logged = quietly(&result, f, "a.json", SPOOL_NEW);
	assert_int_equal(result, SPOOL_ERROR);
	assert_non_null(strstr(logged, "a.json"));
	free(logged);
	assert_int_equal(store(f, "a.json", SPOOL_NEW), SPOOL_STORED);
}

static bool
write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	close(fd);
	return written;
}

/* A mount namespace of this process's own, which an ordinary user may have, too. */
static bool
may_mount(void)
{
	uid_t uid = geteuid();
	char users[64], groups[64];

	snprintf(users, sizeof(users), "%u %u 1", (unsigned)uid, (unsigned)uid);
	snprintf(groups, sizeof(groups), "%u %u 1", (unsigned)getegid(), (unsigned)getegid());
	if (unshare(CLONE_NEWNS | (uid == 0 ? 0 : CLONE_NEWUSER)) != 0)
		return false;
	if (uid != 0 &&
	    (!write_to("/proc/self/uid_map", users) ||
	        !write_to("/proc/self/setgroups", "deny") ||
	        !write_to("/proc/self/gid_map", groups)))
		return false;
	return mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0;
}

/* In a process of its own: what a file system without room does. Returns what failed, or NULL. */
static const char *
fill_a_disk(const char *path, const char *options)
{
	struct spool spool;
	char why[256], name[SPOOL_NAME_SIZE];
	static char large[16384];
	struct iovec piece = {large, sizeof(large)};
	int stored = 0;

	if (mount("psapi-test", path, "tmpfs", 0, options) != 0)
		return "mount";
	if (spool_open(&spool, path, true, why, sizeof(why)) != 0)
		return "open";
	enum spool_result result;
	do {
		snprintf(name, sizeof(name), "%d.json", stored);
		result = spool_store(&spool, name, SPOOL_NEW, &piece, 1);
	} while (result == SPOOL_STORED && ++stored < 100);
	if (result != SPOOL_FULL)
		return "the result is not SPOOL_FULL";
	if (exists(in(path, "new")) && names_in(in(path, "new")) != stored)
		return "new/ holds something of the event that was refused";
	if (names_in(in(path, "events")) != stored)
		return "events/ holds something of the event that was refused";
	if (names_in(in(path, "tmp")) != 0)
		return "tmp/ is not empty";
	if (!spool_is_full(&spool, 1 << 20))
		return "spool_is_full() does not see it";
	spool_close(&spool);
	return NULL;
}

TEST(a_full_disk_is_told_from_an_error_and_nothing_is_left)
{
	static const char *const options[] = {"size=64k", "nr_inodes=8,size=512k", "nr_inodes=9,size=512k",
		"nr_inodes=10,size=512k"};

	for (size_t i = 0; i < ROWS(options); i++) {
		int status;
		pid_t child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			if (!may_mount())
				_exit(77);
			const char *failed = fill_a_disk(*state, options[i]);
			if (failed != NULL)
				fprintf(stderr, "%s: %s\n", options[i], failed);
			_exit(failed == NULL ? 0 : strcmp(failed, "mount") == 0 ? 77 : 1);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
			print_message("a tmpfs cannot be mounted here\n");
			skip();
		}
		assert_int_equal(status, 0);
	}
}

TEST(the_floor_of_free_space_is_in_bytes)
{
	struct fixture *f = *state;

	assert_false(spool_is_full(&f->spool, 0));
	assert_false(spool_is_full(&f->spool, 1));
	assert_true(spool_is_full(&f->spool, 1LL << 60));
}

/* ---- twins ---- */

enum { TWINS = 64 };

static struct {
	struct spool *spools[2];
	pthread_barrier_t barrier;
	atomic_int stored, duplicates;
} race;

static void *
race_once(void *number)
{
	struct spool *spool = race.spools[(uintptr_t)number % 2];

	pthread_barrier_wait(&race.barrier);
	enum spool_result result = spool_find(spool, "twin.json");
	if (result == SPOOL_ABSENT)
		result = spool_store(spool, "twin.json", SPOOL_NEW, contents, 2);
	if (result == SPOOL_STORED)
		race.stored++;
	if (result == SPOOL_DUPLICATE)
		race.duplicates++;
	return NULL;
}

TEST(of_64_twins_exactly_one_is_stored)
{
	struct fixture *f = *state;
	struct spool other;
	char why[256];

	/* Two processes, as it were: neither knows the other's descriptors. */
	assert_int_equal(spool_open(&other, f->path, false, why, sizeof(why)), 0);
	/* valgrind runs one thread at a time, of which some look whether the lock is free. */
	int rounds = getenv("UNDER_VALGRIND") != NULL ? 4 : 20;
	for (int round = 0; round < rounds; round++) {
		pthread_t threads[TWINS];
		int before = descriptors();
		memset(&race, 0, sizeof(race));
		race.spools[0] = &f->spool;
		race.spools[1] = round % 2 == 0 ? &f->spool : &other;
		f->spool.link_way = other.link_way = round % 4 < 2 ? 0 : LINK_NAMED;
		pthread_barrier_init(&race.barrier, NULL, TWINS);
		for (uintptr_t i = 0; i < TWINS; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, race_once, (void *)i), 0);
		for (int i = 0; i < TWINS; i++)
			pthread_join(threads[i], NULL);
		pthread_barrier_destroy(&race.barrier);
		assert_int_equal(race.stored, 1);
		assert_int_equal(race.duplicates, TWINS - 1);
		assert_int_equal(count(f, SPOOL_NEW), 1);
		assert_int_equal(count(f, SPOOL_EVENTS), 1);
		assert_int_equal(inode(f, SPOOL_NEW, "twin.json"), inode(f, SPOOL_EVENTS, "twin.json"));
		expect_contents(f, SPOOL_NEW, "twin.json", CONTENTS);
		assert_int_equal(count(f, SPOOL_TMP), 0);
		assert_int_equal(descriptors(), before);
		assert_int_equal(unlink(at(f, SPOOL_NEW, "twin.json")), 0);
		assert_int_equal(unlink(at(f, SPOOL_EVENTS, "twin.json")), 0);
	}
	spool_close(&other);
}

/* ---- recovery ---- */

TEST(recovery_records_what_the_queues_hold_and_events_lacks)
{
	struct fixture *f = *state;

	put(f, SPOOL_NEW, "a.json", "a");
	put(f, SPOOL_FAILED, "b.json", "b");
	assert_int_equal(store(f, "c.json", SPOOL_NEW), SPOOL_STORED);
	put(f, SPOOL_NEW, "notes.txt", "nothing of ours");
	put(f, SPOOL_NEW, ".hidden", "nothing of ours");
	assert_int_equal(spool_recover(&f->spool), 2);
	assert_int_equal(inode(f, SPOOL_EVENTS, "a.json"), inode(f, SPOOL_NEW, "a.json"));
	assert_int_equal(inode(f, SPOOL_EVENTS, "b.json"), inode(f, SPOOL_FAILED, "b.json"));
	assert_int_equal(count(f, SPOOL_EVENTS), 3);
	assert_int_equal(count(f, SPOOL_NEW), 4);
	assert_int_equal(spool_recover(&f->spool), 0);
}

TEST(recovery_leaves_a_record_that_is_another_file)
{
	struct fixture *f = *state;

	put(f, SPOOL_NEW, "a.json", "restored from a backup");
	put(f, SPOOL_EVENTS, "a.json", "recorded");
	assert_int_equal(spool_recover(&f->spool), 0);
	expect_contents(f, SPOOL_EVENTS, "a.json", "recorded");
	expect_contents(f, SPOOL_NEW, "a.json", "restored from a backup");
}

TEST(recovery_takes_thousands_of_names)
{
	struct fixture *f = *state;
	char name[64];

	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "msg_%d_with_a_name_of_some_length.json", i);
		put(f, SPOOL_NEW, name, "");
	}
	assert_int_equal(spool_recover(&f->spool), 3000);
	assert_int_equal(count(f, SPOOL_EVENTS), 3000);
}

TEST(recovery_removes_what_is_older_than_an_hour_from_tmp)
{
	static const struct {
		const char *name;
		int age; /* seconds */
		bool stays;
	} rows[] = {{"now", 0, true}, {"minutes", 3500, true}, {"hour", 3700, false},
	    {"year", 31536000, false}, {"tomorrow", -86400, true}};
	struct fixture *f = *state;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	for (size_t i = 0; i < ROWS(rows); i++) {
		struct timespec times[2] = {{now.tv_sec - rows[i].age, 0}, {now.tv_sec - rows[i].age, 0}};
		put(f, SPOOL_TMP, rows[i].name, "");
		assert_int_equal(utimensat(AT_FDCWD, at(f, SPOOL_TMP, rows[i].name), times, 0), 0);
	}
	assert_int_equal(spool_recover(&f->spool), 0);
	for (size_t i = 0; i < ROWS(rows); i++)
		if (exists(at(f, SPOOL_TMP, rows[i].name)) != rows[i].stays)
			fail_msg("%s", rows[i].name);
}

TEST(recovery_syncs_the_queues_before_it_records)
{
	struct fixture *f = *state;
	struct capture capture;

	put(f, SPOOL_NEW, "a.json", "a");
	interference = (struct interference){.of = FSYNC, .nth = 1, .error = EIO};
	capture_begin(&capture);
	long result = spool_recover(&f->spool);
	char *logged = capture_end(&capture);
	assert_int_equal(result, -1);
	assert_non_null(strstr(logged, "recovery"));
	free(logged);
	assert_int_equal(count(f, SPOOL_EVENTS), 0);
}

TEST(recovery_vouches_for_no_file_that_has_the_name_since_its_sync)
{
	struct fixture *f = hooked = *state;

	put(f, SPOOL_NEW, "a.json", "a");
	put(f, SPOOL_NEW, "b.json", "b");
	interference = (struct interference){.of = FSYNC, .nth = 1, .hook = give_the_name_to_another_file};
	assert_int_equal(spool_recover(&f->spool), 1);
	assert_false(exists(at(f, SPOOL_EVENTS, "a.json")));
	expect_contents(f, SPOOL_EVENTS, "b.json", "b");
	assert_int_equal(spool_recover(&f->spool), 1);
	expect_contents(f, SPOOL_EVENTS, "a.json", "the twin's\n");
}

/* Two full batches, and a rest in which what is recorded already is in between. */
TEST(recovery_syncs_once_for_many)
{
	struct fixture *f = *state;
	char name[32];

	for (int i = 0; i < 2 * 64 + 5; i++) {
		snprintf(name, sizeof(name), "%d.json", i);
		put(f, SPOOL_NEW, name, "");
	}
	for (int i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "recorded-%d.json", i);
		assert_int_equal(store(f, name, SPOOL_NEW), SPOOL_STORED);
	}
	int before = descriptors();
	interference = (struct interference){.of = FSYNC, .nth = 100};
	assert_int_equal(spool_recover(&f->spool), 2 * 64 + 5);
	assert_int_equal(interference.seen, 3 + 1 + 1); /* new/, failed/, events/ */
	assert_int_equal(descriptors(), before);
	assert_int_equal(count(f, SPOOL_EVENTS), 2 * 64 + 10);
}

/* ---- the rest ---- */

TEST(a_probe_goes_through_all_and_leaves_nothing)
{
	struct fixture *f = *state;
	const char *step = NULL;

	for (int way = 0; way <= LINK_NAMED; way += LINK_NAMED) {
		f->spool.link_way = way;
		assert_int_equal(spool_probe(&f->spool, &step), 0);
		assert_int_equal(count(f, SPOOL_TMP), 0);
		for (int nth = 1;; nth++) {
			f->spool.link_way = way;
			interference = (struct interference){.of = ANY, .nth = nth, .error = EIO};
			int result = spool_probe(&f->spool, &step);
			bool met = interference.seen >= nth;
			interference.nth = 0;
			assert_int_equal(count(f, SPOOL_TMP), 0);
			if (!met)
				break;
			if (result != 0)
				assert_int_equal(errno, EIO);
		}
		assert_int_equal(spool_probe(&f->spool, &step), 0);
	}
}

TEST(state_is_replaced_whole)
{
	struct fixture *f = *state;

	assert_int_equal(spool_write_state(&f->spool, "a.json", "{\"tries\":0,\"reason\":\"long\"}"), 0);
	assert_int_equal(spool_write_state(&f->spool, "a.json", "{}"), 0);
	expect_contents(f, SPOOL_STATE, "a.json", "{}");
	assert_int_equal(count(f, SPOOL_TMP), 0);
	interference = (struct interference){.of = WRITEV, .nth = 1, .error = ENOSPC};
	assert_int_equal(spool_write_state(&f->spool, "a.json", "{\"tries\":1}"), -1);
	assert_int_equal(errno, ENOSPC);
	expect_contents(f, SPOOL_STATE, "a.json", "{}");
	assert_int_equal(count(f, SPOOL_TMP), 0);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_is_the_id_with_every_other_byte_as_percent_and_hex),
		cmocka_unit_test(only_plain_bytes_stand_for_themselves),
		cmocka_unit_test(over_200_bytes_encoded_the_name_is_the_hash),
		cmocka_unit_test(distinct_ids_have_distinct_valid_names_that_stay_in_the_directory),
		cmocka_unit_test(a_name_that_no_id_has_is_not_valid),
		cmocka_unit_test(a_valid_name_is_exactly_one_that_spool_name_makes),
		SANDBOX_TEST(open_makes_the_directories_for_the_group_whatever_the_umask),
		SANDBOX_TEST(open_leaves_a_directory_that_is_there_as_it_is),
		SANDBOX_TEST(a_spool_that_cannot_be_opened_is_named_with_the_remedy),
		SANDBOX_TEST(a_spool_of_another_format_is_refused),
		SPOOL_TEST(an_event_is_one_file_in_its_queue_and_in_events),
		SPOOL_TEST(so_it_is_without_o_tmpfile),
		SPOOL_TEST(a_large_body_is_written_to_its_end),
		SPOOL_TEST(a_write_that_is_interrupted_or_takes_a_part_is_continued),
		SPOOL_TEST(a_stored_event_costs_a_synchronous_write_and_a_sync),
		SPOOL_TEST(who_watches_a_queue_sees_a_name_appear_once),
		SPOOL_TEST(an_event_that_was_handled_is_a_duplicate),
		SPOOL_TEST(an_event_that_waits_is_a_duplicate_and_keeps_its_file),
		SPOOL_TEST(a_twin_whose_writer_died_before_recording_it_is_finished),
		SPOOL_TEST(what_is_no_file_in_the_place_of_a_twin_is_an_error),
		SPOOL_TEST(whatever_happens_between_the_steps_it_is_queued_once_and_recorded),
		SPOOL_TEST(what_was_handled_and_cannot_be_recorded_is_not_answered_as_stored),
		SPOOL_TEST(what_is_recorded_is_not_taken_back),
		SPOOL_TEST(what_another_has_put_there_is_not_taken_back),
		SPOOL_TEST(who_records_the_file_of_another_has_its_lock),
		SPOOL_TEST(a_twin_that_is_recorded_is_not_synced_again),
		SPOOL_TEST(a_file_that_takes_a_twin_s_name_while_that_is_synced_is_not_recorded_for_its_writer),
		SPOOL_TEST(who_withdraws_waits_for_who_records),
		SPOOL_TEST(what_cannot_be_locked_is_not_withdrawn),
		SPOOL_TEST(a_sync_beside_one_that_failed_is_not_trusted),
		SPOOL_TEST(whichever_call_fails_it_is_stored_or_nothing_is_left),
		SPOOL_TEST(after_a_failed_sync_of_a_directory_nothing_is_accepted),
		SPOOL_TEST(a_failed_sync_of_a_file_is_that_file_s_alone),
		SANDBOX_TEST(a_full_disk_is_told_from_an_error_and_nothing_is_left),
		SPOOL_TEST(the_floor_of_free_space_is_in_bytes),
		SPOOL_TEST(of_64_twins_exactly_one_is_stored),
		SPOOL_TEST(recovery_records_what_the_queues_hold_and_events_lacks),
		SPOOL_TEST(recovery_leaves_a_record_that_is_another_file),
		SPOOL_TEST(recovery_takes_thousands_of_names),
		SPOOL_TEST(recovery_removes_what_is_older_than_an_hour_from_tmp),
		SPOOL_TEST(recovery_syncs_the_queues_before_it_records),
		SPOOL_TEST(recovery_vouches_for_no_file_that_has_the_name_since_its_sync),
		SPOOL_TEST(recovery_syncs_once_for_many),
		SPOOL_TEST(a_probe_goes_through_all_and_leaves_nothing),
		SPOOL_TEST(state_is_replaced_whole),
	};

	return cmocka_run_group_tests_name("spool", tests, NULL, NULL);
}
