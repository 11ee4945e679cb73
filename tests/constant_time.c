/*
 * Whether time depends on a secret, in the style of ctgrind: under valgrind the keys
 * count as uninitialised, so that each branch and each index that depends on them is
 * an error. Only the outcome of the comparison is made public.
 */
#define MBEDTLS_ALLOW_PRIVATE_ACCESS /* to the states, in mbedTLS 3 */
#define _GNU_SOURCE
#include <string.h>
#include <valgrind/memcheck.h>

#include <mbedtls/constant_time.h>

#ifndef COMPARE
#define COMPARE mbedtls_ct_memcmp
#endif

static int
compare_and_publish(const void *a, const void *b, size_t n)
{
	int result = COMPARE(a, b, n);

	VALGRIND_MAKE_MEM_DEFINED(&result, sizeof(result));
	return result;
}

#define mbedtls_ct_memcmp compare_and_publish
#include "../verify.c"
#undef mbedtls_ct_memcmp

#include <stdio.h>

int
main(void)
{
	static const char secret[] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
	/* The first vector of the specification, and a forgery that agrees at its beginning. */
	static const char right[] = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
	static const char wrong[] = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF= v1,x v1a,y";
	struct message message = {"msg_p5jXN8AQM9LWM0D4loKWxJek", 28, "1614265330", 10,
		"{\"test\": 2432232314}", 20};
	struct keyring *keyring = verify_keyring_new();
	struct verification outcome;

	if (verify_keyring_add(keyring, secret, sizeof(secret) - 1) != SECRET_GOOD)
		return 2;
	VALGRIND_MAKE_MEM_UNDEFINED(keyring->keys[0].inner.state, sizeof(keyring->keys[0].inner.state));
	VALGRIND_MAKE_MEM_UNDEFINED(keyring->keys[0].outer.state, sizeof(keyring->keys[0].outer.state));
	enum verify_result good = verify(keyring, &message, right, sizeof(right) - 1, 1614265330, 300,
	    &outcome);
	enum verify_result bad = verify(keyring, &message, wrong, sizeof(wrong) - 1, 1614265330, 300,
	    &outcome);
	puts(good == VERIFY_OK && bad == VERIFY_MISMATCH ? "as expected" : "wrong");
	verify_keyring_free(keyring);
	return good == VERIFY_OK && bad == VERIFY_MISMATCH ? 0 : 1;
}
