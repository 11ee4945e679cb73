"""Concurrent senders: once at the same moment (at_once), or in a loop until the end of a block (Load). What acts at random
times (Repeating)."""

import threading

from receiver import wait_for


def at_once(jobs):
    """Run the functions at the same moment, a thread each; their results, or the first error."""
    jobs = list(jobs)
    barrier = threading.Barrier(len(jobs))
    results = [None] * len(jobs)

    def run(index, job):
        barrier.wait()
        try:
            results[index] = job()
        except Exception as error:   # raised again in the caller's thread
            results[index] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


class Threads:
    """They run until the `with` block ends, which sets `stopping`."""

    def __init__(self, targets):
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=target, args=arguments) for target, *arguments in targets]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


class Load(Threads):
    """`clients` threads that call job() repeatedly until the `with` block ends.

    results: what the jobs returned (or raised), in no order.
    """

    def __init__(self, job, clients=8):
        self.job, self.results, self.done = job, [], [0] * clients
        super().__init__((self._run, i) for i in range(clients))

    def _run(self, index):
        while not self.stopping.is_set():
            try:
                result = self.job()
            except Exception as error:
                result = error
            self.results.append(result)
            self.done[index] += 1

    def turn(self, times=1):
        """Wait until every client has finished its current job, and `times - 1` more."""
        goal = [count + times for count in self.done]
        wait_for(lambda: all(d >= g for d, g in zip(self.done, goal)), "the load goes on", 60)


class Repeating:
    """A disturbance, or a client, that acts again and again until `stop`, in a thread and with random numbers of its own.

    disturbance: has disturb(rng) and every, the shortest and the longest time between two calls."""

    def __init__(self, disturbance, rng, stop, record):
        self.disturbance, self.rng, self.stop, self.record = disturbance, rng, stop, record
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.stop.wait(self.rng.uniform(*self.disturbance.every)):
                self.disturbance.disturb(self.rng)
        except BaseException as error:      # a fault of the test itself must be seen
            self.record.complain(f"{type(self.disturbance).__name__}: {error!r}")
