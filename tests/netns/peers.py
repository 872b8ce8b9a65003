"""What the tests' clients and servers do with their sockets: exchange, fill, drain, echo. Knows nothing of Limpid."""

import fcntl
import hashlib
import random
import selectors
import socket
import struct
import termios
import threading
import time

from lab import SECONDS


def wait_until(condition, what, seconds=SECONDS):
    """Returns the first true value of `condition()`. For what nobody notifies of: the kernel's tables, a log file."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.005)


def read_exactly(connection, count):
    """`count` bytes, or what came before the end."""
    received = bytearray()
    while len(received) < count:
        data = connection.recv(min(1 << 18, count - len(received)))
        if not data:
            break
        received += data
    return bytes(received)


def read_to_end(connection):
    received = bytearray()
    while data := connection.recv(1 << 18):
        received += data
    return bytes(received)


def read_to_reset(connection):
    """Everything that arrives before the reset. An orderly end is a failure."""
    received = bytearray()
    while True:
        try:
            data = connection.recv(1 << 18)
        except ConnectionResetError:
            return bytes(received)
        assert data, f"the connection ended in order after {len(received)} bytes instead of being reset"
        received += data


def bytes_of(seed, count):
    """The same pseudo-random bytes for the same seed."""
    return random.Random(seed).randbytes(count)


def exchange(one, other, seed=0, count=1000):
    """Sends different bytes each way and checks that they arrive."""
    for number, (sender, receiver) in enumerate(((one, other), (other, one))):
        data = bytes_of(seed * 2 + number, count)
        sender.sendall(data)
        assert read_exactly(receiver, count) == data


def reset(connection):
    """Closes with RST, once everything sent has been acknowledged: the kernel throws away what is still queued here."""
    wait_until(lambda: unacknowledged(connection) == 0, "the peer's kernel acknowledges everything")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def drip_on(connections):
    """One more octet on each of these non-blocking connections; those that have ended are closed and dropped from the list. True when none is left."""
    for each in list(connections):
        try:
            each.send(b"x")
            ended = each.recv(1000) == b""
        except BlockingIOError:
            ended = False
        except (BrokenPipeError, ConnectionResetError):
            ended = True
        if ended:
            connections.remove(each)
            each.close()
    return not connections


def unacknowledged(connection):
    """tcp(7), SIOCOUTQ."""
    return struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0\0\0\0"))[0]


class Pattern:
    """A long stream in which no two places look alike nearby: one random block of prime length, repeated."""

    def __init__(self, seed, length):
        self.length = length
        block = bytes_of(seed, 1048583)
        self._block = memoryview(block)

    def pieces(self):
        left = self.length
        while left:
            piece = self._block[:left]
            yield piece
            left -= len(piece)

    def digest(self):
        hashed = hashlib.sha256()
        for piece in self.pieces():
            hashed.update(piece)
        return hashed.hexdigest()

    def send(self, connection):
        for piece in self.pieces():
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)


def receive_digest(connection):
    """SHA-256 and length of everything up to the end."""
    hashed, length, buffer = hashlib.sha256(), 0, memoryview(bytearray(1 << 20))
    while count := connection.recv_into(buffer):
        hashed.update(buffer[:count])
        length += count
    return hashed.hexdigest(), length


class Background:
    """A function in a thread of its own; result() waits for it and raises what it raised."""

    def __init__(self, function, *arguments):
        self._outcome = None
        self._error = None

        def body():
            try:
                self._outcome = function(*arguments)
            except BaseException as error:  # pylint: disable=broad-except; handed over by result()
                self._error = error

        self._thread = threading.Thread(target=body, daemon=True)
        self._thread.start()

    def result(self, seconds=60):
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"still busy after {seconds} s"
        if self._error:
            raise self._error
        return self._outcome


class EchoServer:
    """Sends back whatever arrives on any of its connections, and remembers who connected. One thread, ends with stop()."""

    def __init__(self, listener):
        self.peers = []  # appended to by the thread only; a list's append is atomic
        self._listener = listener
        self._listener.setblocking(False)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self):
        self._wake_writer.send(b"x")
        self._thread.join(SECONDS)

    def _serve(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._wake_reader:
                        for other in list(selector.get_map().values()):
                            other.fileobj.close()
                        self._wake_writer.close()
                        return
                    if key.fileobj is self._listener:
                        self._accept(selector)
                    else:
                        self._echo(selector, key.fileobj)

    def _accept(self, selector):
        try:
            while True:
                connection, peer = self._listener.accept()
                self.peers.append(peer[:2])
                connection.settimeout(SECONDS)
                selector.register(connection, selectors.EVENT_READ)
        except BlockingIOError:
            pass

    @staticmethod
    def _echo(selector, connection):
        try:
            data = connection.recv(1 << 16)
            if data:
                connection.sendall(data)
                return
        except OSError:
            pass
        selector.unregister(connection)
        connection.close()
