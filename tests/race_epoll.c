/*
 * epoll_ctl() for a program with ThreadSanitizer; make check-race links it in with --wrap.
 * EPOLL_CTL_MOD passes a connection to the thread that epoll_wait() wakes, which may close it.
 * ThreadSanitizer knows this order for EPOLL_CTL_ADD only, and took the call for a use of the
 * descriptor beside close(). So it does not see the call; what the threads do with the connection
 * before and after is in its sight.
 */
#define _GNU_SOURCE
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

int __real_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);

int
__wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
	if (operation == EPOLL_CTL_MOD)
		return (int)syscall(SYS_epoll_ctl, epoll, operation, fd, event);
	return __real_epoll_ctl(epoll, operation, fd, event);
}
