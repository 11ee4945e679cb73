/*
 * What the receiver gives up before it serves anybody, so that taking it over gains
 * next to nothing. What the kernel lacks is logged, and the receiver goes on without.
 * Nothing here can be undone, and threads inherit it: call it before there are any.
 */
#ifndef PSAPI_SANDBOX_H
#define PSAPI_SANDBOX_H

#include "store/spool/spool.h"

/*
 * What costs next to nothing, and so is for classic CGI as well: no new privileges, no
 * core dump, and nobody but root may trace the process or look into its memory.
 */
void sandbox_process(void);

/*
 * Landlock: of all files only the spool may be written, only what is in the secret
 * file's directory may be read, and only in the directory of socket_path (our own unix
 * socket; NULL if there is none) may a name be removed. Nothing may be executed; as far as
 * the kernel's ABI goes, no TCP port bound or connected to, and nobody signalled. What is
 * open stays as it is. Where the secret file is a symbolic link, the directory of its
 * target counts, too.
 */
void sandbox_files(const struct spool *spool, const char *secret_file, const char *socket_path);

/*
 * seccomp: the system calls that serving requests takes, and no others: no exec, no
 * fork, no further socket, no ptrace, no memory that is executable.
 */
void sandbox_calls(void);

#endif
