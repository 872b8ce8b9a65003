"""Programs of the router's own, as several users, and a server that tells them as whom it saw them. For the tests of --local."""

import os
import subprocess
import sys
import threading

from lab import SECONDS
from peers import read_to_end

PORT = 80
ALICE, BOB = 2001, 2002  # user and group numbers that no system has

# Connects, sends what its standard input says, prints what comes back and as whom it was seen.
TALK = """
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
s = socket.socket(family); s.settimeout(10)
s.connect((sys.argv[1], int(sys.argv[2])))
s.sendall(b'hello'); s.shutdown(socket.SHUT_WR)
sys.stdout.write(str(s.getsockname()[1]) + ' ' + s.recv(100).decode())
"""


def as_user(number):
    def change():
        os.setgroups([])
        os.setgid(number)
        os.setuid(number)
    return change


class Teller:
    """A TCP server on the lab's server that tells each peer its port as seen here, after it has finished sending."""

    def __init__(self, lab, port=PORT):
        self._listener = lab.server.listen(port)
        self.received = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, peer = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=self._tell, args=(connection, peer), daemon=True).start()

    def _tell(self, connection, peer):
        connection.settimeout(SECONDS)
        try:
            with connection:
                self.received.append(read_to_end(connection))
                connection.sendall(f"{peer[0]} {peer[1]}".encode())
        except OSError:
            pass


def talk(lab, user=0, port=PORT, wrapper=(), check=True):
    """Runs TALK on the router. Returns (own port, address seen, port seen)."""
    with lab.router.inside():
        done = subprocess.run([*wrapper, sys.executable, "-c", TALK, lab.server.address, str(port)], capture_output=True, text=True,
                              timeout=2 * SECONDS, preexec_fn=as_user(user) if user else None)
    if not check:
        return done
    assert done.returncode == 0, done.stderr
    own, address, seen = done.stdout.split()
    return int(own), address, int(seen)


def was_relayed(lab, user=0, **options):
    own, address, seen = talk(lab, user, **options)
    assert address == lab.wan
    return own != seen
