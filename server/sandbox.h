/*
 * The rights that a server gives up before it serves, so that an attacker who takes it over
 * gains next to nothing. What the kernel lacks is logged, and the server goes on without.
 * Nothing here can be undone, and threads inherit it: call it before there are any.
 */
#ifndef PSAPI_SANDBOX_H
#define PSAPI_SANDBOX_H

#include "store/store.h"

/*
 * No new privileges, no core dump, and only root may trace the process or read its memory.
 * This costs next to nothing, so classic CGI does it as well.
 */
void sandbox_process(void);

/*
 * Landlock: files may be written only beneath the directory spool, which may be a symbolic link
 * (a link in it gives no rights); read also in the directory of secret_file, and where that is
 * a symbolic link, of its target; and a name removed also in the directory of socket_path, our
 * own unix socket. The last two may be NULL: none. No file may be executed; as far as the
 * kernel's ABI goes, the process can bind or connect to no TCP port and signal no other process.
 * Files that are open stay usable.
 */
void sandbox_files(const char *spool, const char *secret_file, const char *socket_path);

/*
 * Before the two: what a shared store needs beside that. Sockets; TCP connections to its ports
 * alone, where the kernel's ABI can tell ports apart; reading what a connection is made with:
 * password file, certificates and, where hosts have names, the resolver's files. Without it
 * (network->wanted is false), nothing of that.
 */
void sandbox_network(const struct store_network *network);

/*
 * seccomp: only the system calls that serving requests takes; among others, no exec, no
 * fork, no further socket, no ptrace, no executable memory.
 */
void sandbox_calls(void);

#endif
