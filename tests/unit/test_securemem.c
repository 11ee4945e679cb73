/* Owns what securemem.h promises. munmap(2) is watched: it is too late to look afterwards. */
#include "helpers.h"

#include <sys/syscall.h>

#include "base/securemem.h"

enum { SIZE = 5000 };

static struct {
	void *memory;
	bool wiped;
} watched;

int
munmap(void *memory, size_t size)
{
	static const unsigned char zero[SIZE];

	if (memory == watched.memory && memory != NULL)
		watched.wiped = size == SIZE && memcmp(memory, zero, SIZE) == 0;
	return (int)syscall(SYS_munmap, memory, size);
}

/* Whether the region that begins at memory has this flag, proc(5), VmFlags of smaps. */
static bool
has_flag(const void *memory, const char *flag)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	char line[512], begin[32];
	bool there = false, has = false;

	assert_non_null(smaps);
	snprintf(begin, sizeof(begin), "%lx-", (unsigned long)(uintptr_t)memory);
	while (!has && fgets(line, sizeof(line), smaps) != NULL) {
		if (strncmp(line, begin, strlen(begin)) == 0)
			there = true;
		else if (there && strncmp(line, "VmFlags:", 8) == 0) {
			has = strstr(line, flag) != NULL;
			break;
		}
	}
	fclose(smaps);
	return has;
}

TEST(memory_is_zero_locked_and_not_dumped)
{
	static const char zero[SIZE];
	char *memory = securemem_new(SIZE);

	assert_non_null(memory);
	assert_memory_equal(memory, zero, SIZE);
	/* Valgrind 3.19 does not know mlock2(2), and has mappings of its own around. */
	if (getenv("UNDER_VALGRIND") == NULL) {
		assert_true(has_flag(memory, " dd"));
		assert_int_equal(has_flag(memory, " lo"), securemem_error() == 0);
	}
	securemem_free(memory, SIZE);
}

TEST(memory_is_wiped_before_it_is_given_back)
{
	watched.memory = securemem_new(SIZE);
	assert_non_null(watched.memory);
	memset(watched.memory, 'x', SIZE);
	securemem_free(watched.memory, SIZE);
	watched.memory = NULL;
	assert_true(watched.wiped);
}

TEST(nothing_can_be_given_back)
{
	securemem_free(NULL, SIZE);
}

TEST(memory_that_cannot_be_had_is_null)
{
	assert_null(securemem_new(SIZE_MAX / 2));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_is_zero_locked_and_not_dumped),
		cmocka_unit_test(memory_is_wiped_before_it_is_given_back),
		cmocka_unit_test(nothing_can_be_given_back),
		cmocka_unit_test(memory_that_cannot_be_had_is_null),
	};

	return cmocka_run_group_tests_name("securemem", tests, NULL, NULL);
}
