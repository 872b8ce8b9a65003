"""What systemd is for a unit of Type=notify: a datagram socket and what comes in on it. On a path, or in the abstract namespace (which belongs to the
network namespace of the service)."""

import os
import socket
import time


class Supervisor:
    """A message is a dict of its NAME=value lines."""

    def __init__(self, host, folder, abstract, watchdog=None):
        """`watchdog`: seconds between two beats at most."""
        self._path = None if abstract else os.path.join(folder, "notify")
        with host.inside():
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.bind(f"\0limpid-test-{os.getpid()}-{id(self)}" if abstract else self._path)
        name = self._socket.getsockname()
        self.environment = {**os.environ, "NOTIFY_SOCKET": self._path or "@" + name[1:].decode()}
        if watchdog:
            self.environment["WATCHDOG_USEC"] = str(int(watchdog * 1_000_000))

    def receive(self, seconds):
        """The next message, or None."""
        self._socket.settimeout(seconds)
        try:
            text = self._socket.recv(65536).decode()
        except TimeoutError:
            return None
        assert text.endswith("\n") and "\0" not in text
        return dict(line.split("=", 1) for line in text.splitlines())

    def await_message(self, key, seconds=15):
        """The next one with this key; whatever comes before it is passed over."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if (message := self.receive(left)) and key in message:
                return message
        raise AssertionError(f"no {key} within {seconds} s")

    def beats(self, seconds):
        """How many beats of the watchdog come in this time."""
        end, count = time.monotonic() + seconds, 0
        while (left := end - time.monotonic()) > 0:
            count += "WATCHDOG" in (self.receive(left) or {})
        return count

    def close(self):
        self._socket.close()
