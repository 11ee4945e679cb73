/*
 * Owns the table of causes for which a program does not start, and the reading of what decides:
 * the first bytes of the file, the interpreter of a script, the program that env(1) is to find.
 * These may be scripts: each is read as well, until a program is found that is none.
 */
#define _GNU_SOURCE
#include "drain/program.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sysexits.h>
#include <unistd.h>

#include "drain/trust.h"

enum {
	FIRST_LINE_MAX = 256, /* what the kernel reads of a script: BINPRM_BUF_SIZE */
	/* Each the interpreter of the one before: fs/exec.c, exec_binprm(). After env the kernel counts
	 * anew, we do not: scripts may lead to each other for ever. */
	SCRIPTS_MAX = 5
};

#define BLANKS " \t"

/* ---- causes and remedies ---- */

enum program_fault {
	EMPTY, NO_FIRST_LINE, MARK, UTF16, LATE, CARRIAGE_RETURN, TOO_LONG, NO_INTERPRETER, RELATIVE,
	INTERPRETER_MISSING, INTERPRETER_LOOP, INTERPRETER_CLOSED, INTERPRETER_NO_FILE,
	INTERPRETER_NO_PROGRAM, INTERPRETER_NOEXEC, TOO_MANY, ONE_WORD, ENV_ALONE, ENV_ONE_WORD,
	ENV_MISSING, ENV_RELATIVE, LOADER_MISSING, OTHER_MACHINE, CUT_OFF
};

#define CORRECT_LINE "install it, or correct the first line"

/* Each row is provoked by a test of test_handler_checks.py. */
static const struct {
	const char *text; /* then comes the object, if there is one */
	const char *remedy;
} causes[] = {
    [EMPTY] = {"is empty", "write it; a handler with nothing to do is #!/bin/true"},
    [NO_FIRST_LINE] = {"has no first line with #!, and is no compiled program",
        "a script must begin with #!/bin/sh or the like"},
    [MARK] = {"begins with a byte order mark (BOM), so that its #! does not count",
        "save it as UTF-8 without BOM; or sed -i '1s/^\\xef\\xbb\\xbf//'"},
    [UTF16] = {"is text in UTF-16", "save it as UTF-8 without BOM"},
    [LATE] = {"has blanks or empty lines before its #!", "#! must be its first two bytes"},
    [CARRIAGE_RETURN] = {"has Windows line ends (CR LF): the first line names ",
        "dos2unix; or sed -i 's/\\r$//'"},
    [TOO_LONG] = {"has a first line of more than 255 bytes, which the kernel cuts",
        "shorten it, by a link to the interpreter for example"},
    [NO_INTERPRETER] = {"names no interpreter after #!", "for example #!/bin/sh"},
    [RELATIVE] = {"names its interpreter without a path: ",
        "write the whole path, or #!/usr/bin/env before the name"},
    [INTERPRETER_MISSING] = {"its interpreter is missing: ", CORRECT_LINE},
    [INTERPRETER_LOOP] = {"its interpreter is a link that leads in a circle: ", CORRECT_LINE},
    [INTERPRETER_CLOSED] = {"its interpreter cannot be reached by the running user: ",
        "chmod a+x its directories, or install it elsewhere"},
    [INTERPRETER_NO_FILE] = {"its interpreter is not a program: ", "correct the first line"},
    [INTERPRETER_NO_PROGRAM] = {"its interpreter is not executable: ",
        "chmod a+rx the interpreter, or correct the first line"},
    [INTERPRETER_NOEXEC] = {"its interpreter is on a file system that is mounted noexec: ",
        "install it elsewhere, or mount -o remount,exec"},
    [TOO_MANY] = {"more than 5 scripts lead to each other, by their first lines or env",
        "name a program that is no script in the first line"},
    [ONE_WORD] = {"the kernel passes the rest of its first line as one option, which the "
        "interpreter does not know: ",
        "write one word, as -eu for -e -u, or set -eu in the next line of a shell script"},
    [ENV_ALONE] = {"names no program after env", "for example #!/usr/bin/env python3"},
    [ENV_ONE_WORD] = {"env takes all words of the first line for one name or option: ",
        "write env -S before them"},
    [ENV_MISSING] = {"env finds no such program in PATH: ",
        "set PATH where psapi drain is started (crontab, unit), or write the program's whole path "
        "into the first line"},
    [ENV_RELATIVE] = {"env would look in the directory in which psapi drain is started: ",
        "write whole paths into PATH where psapi drain is started (crontab, unit), and into the "
        "first line"},
    [LOADER_MISSING] = {"its dynamic loader is missing: ",
        "it is built for another system: build it for this one, or link it statically"},
    [OTHER_MACHINE] = {"is compiled for another kind of machine",
        "build it for this one: uname -m"},
    [CUT_OFF] = {"is only a part of a compiled program", "copy it, or build it, again"},
};

static int
refuse(struct error *error, const char *path, enum program_fault cause, const char *object)
{
	error_set(error, EX_CONFIG, causes[cause].remedy, "%s: %s%s", path, causes[cause].text, object);
	return -1;
}

/* What the number says; NULL: nothing more than its text. */
static const char *
remedy_of(int error_number)
{
	switch (error_number) {
	case ENOEXEC:
		return "it is compiled for another kind of machine";
	case ENOENT:
		return "it, or the interpreter that its first line names, is missing";
	case EACCES:
	case EPERM:
		return "a security module (SELinux, AppArmor) may forbid it: look into the audit log";
	case ETXTBSY:
		return "it is being written: put a new version into its place with mv";
	case ELIBBAD:
		return "its dynamic loader cannot be used: build it for this system";
	default:
		return NULL;
	}
}

/* ---- looking a program up ---- */

static bool
is_program(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/*
 * Take the first directory of a PATH, "." for an empty one. False: there was none; *search is NULL
 * after the last.
 */
static bool
take_directory(const char **search, char *dir, size_t size)
{
	if (*search == NULL)
		return false;
	size_t length = strcspn(*search, ":");
	snprintf(dir, size, "%.*s", length > 0 ? (int)length : 1, length > 0 ? *search : ".");
	*search = (*search)[length] == '\0' ? NULL : *search + length + 1;
	return true;
}

/* An empty PATH is set: execvp(3) then looks in the current directory. */
static const char *
search_or_default(const char *search)
{
	return search == NULL ? "/bin:/usr/bin" : search;
}

int
program_find(const char *word, const char *search, char *path, size_t size)
{
	if (strchr(word, '/') != NULL) {
		snprintf(path, size, "%s", word);
		return is_program(path) ? 0 : -1;
	}
	char dir[PATH_MAX];
	search = search_or_default(search);
	while (take_directory(&search, dir, sizeof(dir)))
		if (snprintf(path, size, "%s/%s", dir, word) < (int)size && is_program(path))
			return 0;
	return -1;
}

/* ---- the interpreter ---- */

static int read_first_line(int fd, const char *path, int scripts, struct program *program,
    struct error *error);

/*
 * An interpreter that is a script has one itself, which runs with the same rights. One that cannot
 * be read, but executed, is no script. scripts: so many led here.
 */
static int
check_script(const char *path, const char *what, const struct trust *trust, const char *interpreter,
    int scripts, struct error *error)
{
	char named[2 * PATH_MAX], start[2] = "";
	struct program program;
	int result = 0;
	int fd = openat(trust->directory, trust->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);

	snprintf(named, sizeof(named), "%s: %s %s", path, what, interpreter);
	if (fd >= 0 && pread(fd, start, 2, 0) == 2 && memcmp(start, "#!", 2) == 0)
		result = scripts < SCRIPTS_MAX ? read_first_line(fd, named, scripts, &program, error) :
		    refuse(error, path, TOO_MANY, "");
	if (fd >= 0)
		close(fd);
	return result;
}

/* Others could change the program that what names. */
static int
refuse_trust(const char *path, const char *what, const struct error *cause, const char *remedy,
    struct error *error)
{
	error_set(error, EX_CONFIG, remedy, "%s: %s: %s", path, what, cause->text);
	return -1;
}

/* It runs with the same rights: nobody else may change it. The program is what names it. */
static int
check_interpreter(const char *path, const char *what, const char *interpreter, int scripts,
    struct error *error)
{
	struct error cause;
	struct statvfs mount;
	struct trust trust;
	int result = -1;

	if (*interpreter != '/')
		return refuse(error, path, RELATIVE, interpreter);
	switch (trust_open(&trust, NULL, interpreter, &cause)) {
	case TRUST_OK:
		break;
	case TRUST_REFUSED:
		return refuse_trust(path, what, &cause, cause.remedy, error);
	case TRUST_FAILED:
		return refuse(error, path, errno == EACCES ? INTERPRETER_CLOSED :
		    errno == ELOOP ? INTERPRETER_LOOP : INTERPRETER_MISSING, interpreter);
	}
	if (trust.file < 0)
		refuse(error, path, INTERPRETER_NO_FILE, interpreter);
	else if (trust_check_file(&trust, interpreter, &cause) != TRUST_OK)
		refuse_trust(path, what, &cause, cause.remedy, error);
	else if (fstatvfs(trust.file, &mount) == 0 && (mount.f_flag & ST_NOEXEC) != 0)
		refuse(error, path, INTERPRETER_NOEXEC, interpreter);
	else if (!is_program(interpreter))
		refuse(error, path, INTERPRETER_NO_PROGRAM, interpreter);
	else
		result = check_script(path, what, &trust, interpreter, scripts, error);
	trust_close(&trust);
	return result;
}

/* ---- env ---- */

/*
 * What env is to split, in its first argument: after -S, maybe with -i and -v before it, or after
 * --split-string=, which may be shortened. NULL: it has no such option.
 */
static char *
text_to_split(char *argument)
{
	size_t length = strcspn(argument, "=");

	if (length > 2 && argument[length] == '=' && strncmp(argument, "--split-string", length) == 0)
		return argument + length + 1;
	length = *argument == '-' ? 1 + strspn(argument + 1, "iv") : 0;
	return length > 0 && argument[length] == 'S' ? argument + length + 1 : NULL;
}

/*
 * The program in the words that env is to split: not an option, not a variable; "" if there is
 * none. NULL where that is not plain: an option may take the next word or be split as well, and
 * PATH=... among them says where env looks.
 */
static const char *
find_word(char *words)
{
	char *rest = words, *word;
	bool plain = true;

	if (strpbrk(words, "\\\"'$#") != NULL)
		return NULL;
	while ((word = strtok_r(rest, BLANKS, &rest)) != NULL) {
		if ((*word != '-' && strchr(word, '=') == NULL) || text_to_split(word) != NULL)
			return plain && *word != '-' ? word : NULL;
		plain = plain && *word != '-' && strncmp(word, "PATH=", 5) != 0;
	}
	return "";
}

#define FOUND "the program that env finds"

/*
 * A directory of PATH in which env looks: others could put another program of the name there after
 * this check, also where it is not now. In one that env only passes, the group may write: older
 * Debian systems have /usr/local/bin with mode 2775 and the group staff. Returns 0, or -1 with the
 * error.
 */
static int
check_search_directory(const char *path, const char *dir, bool hit, struct error *error)
{
	enum trust_result result;
	struct error cause;
	struct trust trust;

	if (*dir != '/')
		return refuse(error, path, ENV_RELATIVE, dir);
	result = hit ? trust_open(&trust, NULL, dir, &cause) : trust_open_group(&trust, dir, &cause);
	if (result == TRUST_FAILED && trust.shared) {
		error_set(&cause, EX_CONFIG, NULL, "%s: is missing, and other users can make it", dir);
		result = TRUST_REFUSED;
	}
	if (result == TRUST_OK && trust.file < 0)
		result = trust_check_directory(&trust, &cause);
	trust_close(&trust);
	return result != TRUST_REFUSED ? 0 : refuse_trust(path, FOUND, &cause,
	    "let root and this user alone write there, or take it out of PATH where psapi drain is "
	    "started (crontab, unit)", error);
}

/* Look the word up as env does, in a PATH; NULL: none is set. Returns 0, or -1 with the error. */
static int
search(const char *path, const char *where, const char *word, char found[PATH_MAX],
    struct error *error)
{
	const char *rest = search_or_default(where);
	char dir[PATH_MAX];

	if (*word != '/' && strchr(word, '/') != NULL)
		return refuse(error, path, ENV_RELATIVE, word);
	if (*word == '/')
		return snprintf(found, PATH_MAX, "%s", word) < PATH_MAX && is_program(found) ? 0 :
		    refuse(error, path, ENV_MISSING, word);
	while (take_directory(&rest, dir, sizeof(dir))) {
		bool hit = snprintf(found, PATH_MAX, "%s/%s", dir, word) < PATH_MAX && is_program(found);
		if (check_search_directory(path, dir, hit, error) != 0)
			return -1;
		if (hit)
			return 0;
	}
	return refuse(error, path, ENV_MISSING, word);
}

/*
 * argument: what follows `env`, which gets it as one word. With an option that is none to split,
 * or without a program in what is, env would end, or run the handler again for ever: the next word
 * is the handler's path.
 */
static int
check_env(const char *path, char *argument, int scripts, struct program *program,
    struct error *error)
{
	char *words = text_to_split(argument);

	if (words == NULL && strpbrk(argument, BLANKS) != NULL)
		return refuse(error, path, ENV_ONE_WORD, argument);
	bool cleared = words != NULL && argument[strspn(argument, "-v")] == 'i';
	const char *word = words != NULL ? find_word(words) :
	    *argument == '-' || strchr(argument, '=') != NULL ? "" : argument;
	if (word == NULL)
		return 0;
	if (*word == '\0')
		return refuse(error, path, ENV_ALONE, "");
	if (search(path, cleared ? NULL : getenv("PATH"), word, program->found, error) != 0) {
		program->found[0] = '\0';
		return -1;
	}
	return check_interpreter(path, FOUND, program->found, scripts, error);
}

/* ---- the file ---- */

/* Whether the kernel may run a machine's programs on the other, where it has them enabled. */
static bool
is_relative(unsigned machine, unsigned other)
{
	static const unsigned pairs[][2] = {{EM_X86_64, EM_386}, {EM_AARCH64, EM_ARM},
		{EM_PPC64, EM_PPC}, {EM_SPARCV9, EM_SPARC}};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if ((machine == pairs[i][0] && other == pairs[i][1]) ||
		    (machine == pairs[i][1] && other == pairs[i][0]))
			return true;
	return machine == other;
}

/* Whether an emulator is registered: binfmt_misc(5) has a file for each, beside two of its own. */
static bool
has_emulator(void)
{
	DIR *formats = opendir("/proc/sys/fs/binfmt_misc");
	const struct dirent *entry;
	int count = 0;

	while (formats != NULL && (entry = readdir(formats)) != NULL)
		count += entry->d_name[0] != '.' && strcmp(entry->d_name, "register") != 0 &&
		    strcmp(entry->d_name, "status") != 0;
	if (formats != NULL)
		closedir(formats);
	return count > 0;
}

/* Its machine is not this program's. Where that cannot be read, the kernel says it. */
static bool
is_foreign(const Elf64_Ehdr *head)
{
	Elf64_Ehdr own;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	bool known = fd >= 0 && pread(fd, &own, sizeof(own), 0) == (ssize_t)sizeof(own);

	if (fd >= 0)
		close(fd);
	return known && !is_relative(own.e_machine, head->e_machine) && !has_emulator();
}

/* The part that names its dynamic loader, as the kernel looks it up. */
static int
check_loader(int fd, const char *path, const Elf64_Phdr *part, struct error *error)
{
	char loader[PATH_MAX];

	if (part->p_filesz == 0 || part->p_filesz > sizeof(loader))
		return 0;
	ssize_t n = pread(fd, loader, part->p_filesz, (off_t)part->p_offset);
	if (n != (ssize_t)part->p_filesz || loader[n - 1] != '\0' || access(loader, F_OK) == 0)
		return 0;
	return refuse(error, path, LOADER_MISSING, loader);
}

/* A compiled program; the parts only of one for this word size. */
static int
check_compiled(int fd, const char *path, struct error *error)
{
	Elf64_Ehdr head = {.e_type = ET_NONE};
	Elf64_Phdr part;
	struct stat st;

	if (pread(fd, &head, sizeof(head), 0) < (ssize_t)sizeof(Elf32_Ehdr) || fstat(fd, &st) != 0)
		return refuse(error, path, CUT_OFF, "");
	if (is_foreign(&head))
		return refuse(error, path, OTHER_MACHINE, "");
	if (sizeof(void *) != 8 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
	    head.e_phentsize != sizeof(part))
		return 0;
	for (int i = 0; i < head.e_phnum; i++) {
		off_t at = (off_t)(head.e_phoff + (size_t)i * sizeof(part));
		if (pread(fd, &part, sizeof(part), at) != (ssize_t)sizeof(part) ||
		    (part.p_type == PT_LOAD && part.p_offset + part.p_filesz > (size_t)st.st_size))
			return refuse(error, path, CUT_OFF, "");
		if (part.p_type == PT_INTERP && check_loader(fd, path, &part, error) != 0)
			return -1;
	}
	return 0;
}

/* The file does not begin with #!. */
static int
check_other(int fd, const char *path, const char *start, size_t length, struct error *error)
{
	if (length == 0)
		return refuse(error, path, EMPTY, "");
	if (memcmp(start, ELFMAG, SELFMAG) == 0)
		return check_compiled(fd, path, error);
	if (memcmp(start, "\xef\xbb\xbf", 3) == 0)
		return refuse(error, path, MARK, "");
	if (memcmp(start, "\xff\xfe", 2) == 0 || memcmp(start, "\xfe\xff", 2) == 0)
		return refuse(error, path, UTF16, "");
	start += strspn(start, " \t\r\n");
	return refuse(error, path, memcmp(start, "#!", 2) == 0 ? LATE : NO_FIRST_LINE, "");
}

/*
 * Whether an interpreter refuses options of several words, which the kernel passes as one. Others
 * take them: Perl and Ruby read the first line themselves. Python takes what follows -W and -X for
 * their value, with its blank.
 */
static bool
needs_one_word(const char *name, const char *argument)
{
	static const char *const names[] = {"sh", "dash", "bash", "zsh", "python", "python3"};
	size_t first = strcspn(argument, BLANKS);

	if (*argument != '-' || argument[first] == '\0' ||
	    (strncmp(name, "python", 6) == 0 && strcspn(argument, "WX") < first))
		return false;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* line: what follows #!, without its end; it is cut into words. */
static int
check_line(const char *path, char *line, int scripts, struct program *program,
    struct error *error)
{
	line += strspn(line, BLANKS);
	if (*line == '\0')
		return refuse(error, path, NO_INTERPRETER, "");
	for (char *end = line + strlen(line); strchr(BLANKS, end[-1]) != NULL;)
		*--end = '\0';
	size_t length = strcspn(line, BLANKS);
	char *argument = line + length + strspn(line + length, BLANKS);
	line[length] = '\0';
	if (check_interpreter(path, "its interpreter", line, scripts, error) != 0)
		return -1;
	const char *name = strrchr(line, '/') + 1;
	if (strcmp(name, "env") == 0)
		return check_env(path, argument, scripts, program, error);
	if (needs_one_word(name, argument))
		return refuse(error, path, ONE_WORD, argument);
	return 0;
}

/* scripts: so many led here. */
static int
read_first_line(int fd, const char *path, int scripts, struct program *program,
    struct error *error)
{
	char start[FIRST_LINE_MAX + 4] = "";
	ssize_t n = pread(fd, start, FIRST_LINE_MAX, 0);

	*program = (struct program){0};
	if (n < 0) {
		error_set(error, EX_CONFIG, NULL, "%s: %s", path, strerror(errno));
		return -1;
	}
	if (memcmp(start, "#!", 2) != 0)
		return check_other(fd, path, start, (size_t)n, error);
	size_t length = strcspn(start, "\n");
	if (length == FIRST_LINE_MAX)
		return refuse(error, path, TOO_LONG, "");
	start[length] = '\0';
	size_t plain = strcspn(start, "\r");
	if (plain == length)
		return check_line(path, start + 2, scripts + 1, program, error);
	/* With the CR, as the kernel takes it for the interpreter or its argument. */
	start[plain + 1] = '\0';
	return refuse(error, path, CARRIAGE_RETURN, start + 2 + strspn(start + 2, BLANKS));
}

int
program_check(int fd, const char *path, struct program *program, struct error *error)
{
	return read_first_line(fd, path, 0, program, error);
}

void
program_explain(const char *path, int error_number, struct error *error)
{
	struct program program;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	bool told = fd >= 0 && program_check(fd, path, &program, error) != 0;

	if (fd >= 0)
		close(fd);
	if (!told)
		error_set(error, EX_CONFIG, remedy_of(error_number), "%s: cannot be started: %s", path,
		    strerror(error_number));
}
