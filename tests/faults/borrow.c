/*
 * A receiver that lives on: borrow FILE. Reads the secret file three times as requests
 * do. Whatever fails once, the last request must have both secrets.
 */
#include "base/log.h"
#include "secrets/secrets.h"

int
main(int argc, char **argv)
{
	size_t keys = 0;
	struct secrets *secrets = argc == 2 ? secrets_open(argv[1]) : NULL;

	log_program("borrow");
	if (secrets == NULL)
		return 0; /* it did not start: nobody was refused */
	for (int i = 0; i < 3; i++) {
		const struct keyring *keyring = secrets_borrow(secrets);
		keys = keyring == NULL ? 0 : verify_keyring_size(keyring);
		secrets_return(secrets, keyring);
	}
	secrets_close(secrets);
	return keys == 2 ? 0 : 1;
}
