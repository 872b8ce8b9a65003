"""A client that never stops asking, beside whatever a test does to Limpid."""

import threading
import time
from dataclasses import dataclass

from peers import read_exactly

PAUSE = 0.002  # the ports must last for as long as a test may take on a busy machine


@dataclass
class Attempt:
    """One connection: a question, its answer, the end."""

    started: float  # time.monotonic()
    ended: float
    local: tuple  # the client's address and port
    error: OSError | None


class ContinuousClient:
    """Connects, asks, hangs up, over and over, each time from another port that the kernel does not choose by itself."""

    def __init__(self, lab, port, ports):
        self.attempts = []  # appended to by the thread only
        self._lab = lab
        self._address = lab.server.address
        self._port = port
        self._ports = iter(ports)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def stop(self):
        self._stop.set()
        self._thread.join()
        return self.attempts

    def wait_for_more(self, count):
        """Until that many more attempts have ended."""
        wanted = len(self.attempts) + count
        deadline = time.monotonic() + 20
        while len(self.attempts) < wanted and time.monotonic() < deadline:
            self._stop.wait(0.005)
        assert len(self.attempts) >= wanted

    def _ask(self):
        for port in self._ports:
            if self._stop.is_set():
                return
            self._stop.wait(PAUSE)
            started, error, local = time.monotonic(), None, (self._lab.client.address, port)
            connection = self._lab.client.socket()
            try:
                connection.settimeout(3)
                connection.bind(("", port))
                connection.connect((self._address, self._port))
                connection.sendall(b"question")
                if read_exactly(connection, 8) != b"question":
                    raise ConnectionError("ended without an answer")
            except OSError as problem:
                error = problem
            finally:
                connection.close()
            self.attempts.append(Attempt(started, time.monotonic(), local, error))


def failures(attempts):
    return [attempt for attempt in attempts if attempt.error]
