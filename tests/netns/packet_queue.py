"""A program that reads a queue of packets (nfqueue), as intrusion prevention does: it keeps a packet, and gives it back when it is told."""

import socket
import struct
import threading

_SUBSYSTEM = 3  # NFNL_SUBSYS_QUEUE, linux/netfilter/nfnetlink.h; what follows is of linux/netfilter/nfnetlink_queue.h
_PACKET, _VERDICT, _CONFIG = 0, 1, 2
_PACKET_HEADER, _VERDICT_HEADER = 1, 2
_COMMAND, _PARAMETERS = 1, 2
_SO_RCVBUFFORCE = 33
_BIND, _COPY_META, _ACCEPT = 1, 1, 1


class PacketQueue:
    def __init__(self, host, number):
        self._number = number
        with host.inside():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)  # a packet that is not told of waits for ever
        self._socket.bind((0, 0))
        self._send(_CONFIG, _COMMAND, struct.pack("!BBH", _BIND, 0, 0))
        self._send(_CONFIG, _PARAMETERS, struct.pack("!IB", 0, _COPY_META))

    def take(self, seconds):
        """Waits for a packet; its number."""
        self._socket.settimeout(seconds)
        while True:
            message = self._socket.recv(65536)
            kind = struct.unpack_from("=H", message, 4)[0]
            if kind == (_SUBSYSTEM << 8 | _PACKET):
                break
        at = 20
        while at + 4 <= len(message):
            length, attribute = struct.unpack_from("=HH", message, at)
            if attribute == _PACKET_HEADER:
                return struct.unpack_from("!I", message, at + 4)[0]
            at += (length + 3) & ~3
        raise AssertionError("a packet without a number")

    def give_back(self, packet):
        self._send(_VERDICT, _VERDICT_HEADER, struct.pack("!II", _ACCEPT, packet))

    def close(self):
        self._socket.close()

    def _send(self, kind, attribute, value):
        padded = value + bytes(-len(value) % 4)
        body = struct.pack("!BBH", 0, 0, self._number) + struct.pack("=HH", 4 + len(value), attribute) + padded
        self._socket.send(struct.pack("=IHHII", 16 + len(body), _SUBSYSTEM << 8 | kind, 1, 0, 0) + body)


class Reordering:
    """Gives the packets that it is sent back in another order: each with the one behind it, or alone when none comes within a few milliseconds."""

    def __init__(self, host, number):
        self._queue = PacketQueue(host, number)
        self._over = False
        self.swapped = 0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _take(self, seconds):
        try:
            return self._queue.take(seconds)
        except TimeoutError:
            return None

    def _work(self):
        while not self._over:
            first = self._take(0.2)
            if first is None:
                continue
            second = self._take(0.005)
            if second is not None:
                self._queue.give_back(second)
                self.swapped += 1
            self._queue.give_back(first)

    def close(self):
        self._over = True
        self._thread.join()
        self._queue.close()
