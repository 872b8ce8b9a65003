"""A client – router – server network of the tests' own: three network namespaces that only file descriptors hold open.

They have no names and no holder processes, so they end with pytest, however it ends; what runs in them gets SIGKILL then.
A socket stays in the namespace in which it was made: everything else here follows from that. Used by the fixtures only.

    client eth0 ---- lan router wan ---- eth0 server
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
IP_TRANSPARENT = 19  # include/uapi/linux/in.h
IPV6_TRANSPARENT = 75  # include/uapi/linux/in6.h
SECONDS = 10  # no socket operation of a test may take longer, unless the test says so
PROGRAM_SECONDS = 30  # nor any program: on a busy machine those that change the network wait for the kernel's own locks


def _checked(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _open_namespace():
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Host:
    """One network namespace and what was opened in it."""

    def __init__(self, name, resources):
        self.name = name
        self._resources = resources
        before = _open_namespace()
        try:
            _checked(_libc.unshare(_CLONE_NEWNET))
            self.namespace = _open_namespace()
        finally:
            _checked(_libc.setns(before, _CLONE_NEWNET))
            os.close(before)
        resources.callback(os.close, self.namespace)
        self.addresses = {}  # "ipv4" and "ipv6" → address
        self.family = "ipv4"

    @property
    def address(self):
        """The address of the family under test."""
        return self.addresses[self.family]

    @contextlib.contextmanager
    def inside(self):
        """Runs the calling thread in this namespace."""
        before = _open_namespace()
        _checked(_libc.setns(self.namespace, _CLONE_NEWNET))
        try:
            yield
        finally:
            _checked(_libc.setns(before, _CLONE_NEWNET))
            os.close(before)

    def start(self, argv, **options):
        """A program that runs beside the test. It dies with the lab."""
        before_exec = options.pop("before_exec", None)

        def prepare():
            _die_with_parent()
            if before_exec:
                before_exec()

        with self.inside():
            process = subprocess.Popen([str(argument) for argument in argv], preexec_fn=prepare, **options)
        self._resources.callback(_end, process)
        return process

    def run(self, *argv, check=True, timeout=PROGRAM_SECONDS, **options):
        """A program that runs to its end; returns what subprocess.run() does, with text output."""
        with self.inside():
            done = subprocess.run([str(argument) for argument in argv], capture_output=True, text=True, timeout=timeout,
                                  preexec_fn=_die_with_parent, **options)
        if check and done.returncode != 0:
            raise AssertionError(f"{self.name}: {argv}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def nft(self, rules):
        self.run("nft", "-f", "-", input=rules)

    def sysctl(self, key, value):
        with self.inside(), open("/proc/sys/" + key, "w", encoding="ascii") as file:
            file.write(str(value))

    def socket(self, family=None):
        """A TCP socket in this namespace, closed with the lab."""
        family = family or self.family
        with self.inside():
            made = socket.socket(socket.AF_INET if family == "ipv4" else socket.AF_INET6, socket.SOCK_STREAM)
        made.settimeout(SECONDS)
        self._resources.callback(made.close)
        return made

    def datagrams(self, port=0, address=None):
        """A UDP socket of the family under test, bound to `port` (0: the kernel chooses)."""
        family = socket.AF_INET if self.family == "ipv4" else socket.AF_INET6
        with self.inside():
            made = socket.socket(family, socket.SOCK_DGRAM)
        made.settimeout(SECONDS)
        self._resources.callback(made.close)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address or ("0.0.0.0" if family == socket.AF_INET else "::"), port))
        return made

    def listen(self, port, address=None, family=None):
        """A listener on `address`, by default on every address of the family under test."""
        listener = self.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address or ("0.0.0.0" if listener.family == socket.AF_INET else "::"), port))
        listener.listen(4096)
        return listener

    def connect(self, address, port, source_port=0, timeout=SECONDS):
        """A connection from here; `source_port` 0 lets the kernel choose."""
        connection = self.socket("ipv6" if ":" in address else "ipv4")
        connection.settimeout(timeout)
        if source_port:
            connection.bind(("", source_port))
        connection.connect((address, port))
        return connection


def _end(process):
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()


@dataclass
class Connection:
    """Both ends of a connection, the client's own address and port, and what the server sees as its peer."""

    client: socket.socket
    server: socket.socket
    local: tuple
    seen: tuple

    @property
    def was_forwarded(self):
        """True when the server sees the client's own address and port. Dial with a port outside of the range from which the
        kernel chooses, as Lab.dial() does, and a relayed connection cannot have it by chance."""
        return self.seen == self.local


class Lab:
    """Three hosts, both families, static routes, forwarding on. `family` only says which addresses the tests ask for."""

    def __init__(self, family):
        self.family = family
        self._resources = contextlib.ExitStack()
        self.client = Host("client", self._resources)
        self.router = Host("router", self._resources)
        self.server = Host("server", self._resources)
        self.hosts = (self.client, self.router, self.server)
        for host in self.hosts:
            host.family = family
        self.client.addresses = {"ipv4": "192.0.2.2", "ipv6": "2001:db8:1::2"}
        self.server.addresses = {"ipv4": "198.51.100.2", "ipv6": "2001:db8:2::2"}
        self.router.addresses = {"ipv4": "192.0.2.1", "ipv6": "2001:db8:1::1"}  # lan
        self.router.wan_addresses = {"ipv4": "198.51.100.1", "ipv6": "2001:db8:2::1"}
        self._next_port = 10001  # below the range of net.ipv4.ip_local_port_range
        self._wire()

    def _wire(self):
        def end_of(host):
            return f"/proc/{os.getpid()}/fd/{host.namespace}"

        def configure(host, *lines):
            host.run("ip", "-batch", "-", input="\n".join(("link set lo up", *lines)))

        for host in self.hosts:
            for setting in ("all", "default"):
                host.sysctl(f"net/ipv6/conf/{setting}/accept_dad", 0)
                host.sysctl(f"net/ipv6/conf/{setting}/accept_ra", 0)
        self.router.sysctl("net/ipv4/conf/all/forwarding", 1)
        self.router.sysctl("net/ipv6/conf/all/forwarding", 1)
        configure(self.router,
                  f"link add lan type veth peer name eth0 netns {end_of(self.client)}",
                  f"link add wan type veth peer name eth0 netns {end_of(self.server)}",
                  "link set lan up", "link set wan up",
                  "addr add 192.0.2.1/24 dev lan", "addr add 2001:db8:1::1/64 dev lan nodad",
                  "addr add 198.51.100.1/24 dev wan", "addr add 2001:db8:2::1/64 dev wan nodad")
        configure(self.client, "link set eth0 up",
                  "addr add 192.0.2.2/24 dev eth0", "addr add 2001:db8:1::2/64 dev eth0 nodad",
                  "route add default via 192.0.2.1", "route add default via 2001:db8:1::1")
        configure(self.server, "link set eth0 up",
                  "addr add 198.51.100.2/24 dev eth0", "addr add 2001:db8:2::2/64 dev eth0 nodad",
                  "route add default via 198.51.100.1", "route add default via 2001:db8:2::1")
        self._await_carrier("lan", "wan")

    def _await_carrier(self, *interfaces):
        """Ends that were switched on first get their carrier later, and with it routes that a comparison would find new."""
        deadline = time.monotonic() + SECONDS
        for interface in interfaces:
            while "state UP" not in self.router.run("ip", "-o", "link", "show", interface).stdout:
                assert time.monotonic() < deadline, f"{interface} does not become operational"

    @property
    def wan(self):
        """The router's address on the server's side, of the family under test."""
        return self.router.wan_addresses[self.family]

    @property
    def nowhere(self):
        """An address that no host has and the router has no route to."""
        return {"ipv4": "203.0.113.9", "ipv6": "2001:db8:9::9"}[self.family]

    def client_port(self):
        """A port that no other connection of this lab uses and no kernel chooses by itself."""
        self._next_port += 1
        return self._next_port

    def dial(self, listener, address=None, port=None, timeout=SECONDS):
        """Connects the client to the server's `listener` (or to where it will end up) and accepts it there."""
        client = self.client.connect(address or self.server.address, port or listener.getsockname()[1],
                                     source_port=self.client_port(), timeout=timeout)
        client.settimeout(SECONDS)
        server, seen = listener.accept()
        server.settimeout(SECONDS)
        self._resources.callback(server.close)
        return Connection(client, server, client.getsockname()[:2], seen[:2])

    def dial_relayed(self, listener):
        """The same, and fails the test if Limpid was not in the path."""
        connection = self.dial(listener)
        assert not connection.was_forwarded, "it was forwarded, not relayed"
        return connection

    def another_host(self, name):
        """One more namespace, not connected to anything yet."""
        host = Host(name, self._resources)
        host.family = self.family
        return host

    def close(self):
        self._resources.close()
