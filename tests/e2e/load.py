"""Concurrent senders: once at the same moment (at_once), or in a loop until the end of a block (Load)."""

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


class Load:
    """`clients` threads that call job() repeatedly until the `with` block ends.

    results: what the jobs returned (or raised), in no order.
    """

    def __init__(self, job, clients=8):
        self.job, self.results, self.done = job, [], [0] * clients
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(clients)]

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

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()
