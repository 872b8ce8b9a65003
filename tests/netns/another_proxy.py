"""A proxy that is not ours: what `limpid rules` is for, reduced to its listener and two copies of bytes."""

import selectors
import socket
import threading


IP_TRANSPARENT = 19
IPV6_TRANSPARENT = 75


class TransparentProxy:
    """On the router, on the loopback address and `port`. Dials where the client wanted to go, as the router itself."""

    def __init__(self, lab, port, transparent=True):
        self._lab = lab
        self._listener = lab.router.socket()
        if transparent:
            level, option = {"ipv4": (socket.IPPROTO_IP, IP_TRANSPARENT), "ipv6": (socket.IPPROTO_IPV6, IPV6_TRANSPARENT)}[lab.family]
            self._listener.setsockopt(level, option, 1)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(({"ipv4": "127.0.0.1", "ipv6": "::1"}[lab.family], port))
        self._listener.listen(100)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self):
        self._listener.settimeout(0.1)
        while not self._ended.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._relay, args=(client,)))
            self._threads[-1].start()

    def _relay(self, client):
        with client:
            try:
                target = self._lab.router.connect(*client.getsockname()[:2])
            except OSError:
                return
            with target, selectors.DefaultSelector() as selector:
                selector.register(client, selectors.EVENT_READ, target)
                selector.register(target, selectors.EVENT_READ, client)
                try:
                    while not self._ended.is_set():
                        for key, _ in selector.select(0.1):
                            data = key.fileobj.recv(65536)
                            if not data:
                                return
                            key.data.sendall(data)
                except OSError:
                    return
