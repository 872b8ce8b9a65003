"""Other people's proxies as upstreams: microsocks, Dante, tinyproxy, Squid; HAProxy and nginx where the PROXY protocol is spoken. And one of
the tests' own that answers as no honest server would."""

import contextlib
import os
import socket
import subprocess
import threading

from lab import SECONDS
from peers import wait_until
from real_proxies import squid

USER, PASSWORD = "limpid", "s3cret:/?@"
QUOTED = "s3cret%3A%2F%3F%40"
NEEDS = {"microsocks": ("microsocks", "microsocks"), "danted": ("danted", "dante-server"), "tinyproxy": ("tinyproxy", "tinyproxy-bin"),
         "squid": ("squid", "squid"), "haproxy": ("haproxy", "haproxy"), "nginx": ("nginx", "nginx")}


def at(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Peer:
    """A program on a host of the lab that listens on `port`."""

    def __init__(self, host, folder, name, port, argv):
        self.host, self.name, self.port = host, name, port
        self._said = folder / f"{name}-{port}.said"
        with open(self._said, "ab") as said:
            self.process = host.start(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
        wait_until(self._listens, f"{name} listens on {port}", 60)

    def _listens(self):
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.said()}"
        return f":{self.port} " in self.host.run("ss", "-Hltn").stdout

    def said(self):
        return self._said.read_text(errors="replace")[-3000:]

    def kill(self):
        """All of it, with its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait()
        wait_until(lambda: f":{self.port} " not in self.host.run("ss", "-Hltn").stdout, f"{self.name} is gone")


def microsocks(host, folder, port, password=False):
    access = ["-u", USER, "-P", PASSWORD] if password else []
    return Peer(host, folder, "microsocks", port, ["microsocks", "-i", "::" if host.family == "ipv6" else "0.0.0.0", "-p", str(port), *access])


def danted(host, folder, port, wrapper=()):
    configuration = folder / f"danted-{port}.conf"
    passes = "".join(f"{who} pass {{ from: {everything} to: {everything} }}\n" for who in ("client", "socks") for everything in ("0.0.0.0/0", "::/0"))
    configuration.write_text(f"logoutput: stderr\nerrorlog: stderr\ninternal.protocol: ipv4 ipv6\nexternal.protocol: ipv4 ipv6\n"
                             f"internal: eth0 port = {port}\nexternal: eth0\nclientmethod: none\nsocksmethod: none\n"
                             f"user.privileged: root\nuser.unprivileged: root\n{passes}")
    return Peer(host, folder, "danted", port, [*wrapper, "danted", "-f", configuration, "-p", folder / f"danted-{port}.pid"])


def tinyproxy(host, folder, port, password=False, wrapper=()):
    configuration = folder / f"tinyproxy-{port}.conf"
    access = f"BasicAuth {USER} simple\n" if password else ""
    configuration.write_text(f"Port {port}\nListen {host.address}\nTimeout 600\nMaxClients 100\nDisableViaHeader Yes\n{access}")
    return Peer(host, folder, "tinyproxy", port, [*wrapper, "tinyproxy", "-d", "-c", configuration])


def squid_connect(host, folder, port):
    configuration = folder / "squid-upstream.conf"
    configuration.write_text(f"http_port {at(host.address, port)}\nhttp_access allow all\ncache deny all\naccess_log none\ncache_log /dev/null\n"
                             "pid_filename none\nvisible_hostname upstream\nshutdown_lifetime 0 seconds\npinger_enable off\nnetdb_filename none\n"
                             "cache_store_log none\nlogfile_rotate 0\nmax_filedescriptors 1024\n")
    return Peer(host, folder, "squid", port, squid(f"up{os.getpid()}", configuration))


def haproxy(host, folder, port, body):
    configuration = folder / f"haproxy-{port}.cfg"
    configuration.write_text(f"global\n    maxconn 100\ndefaults\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n{body}")
    return Peer(host, folder, "haproxy", port, ["haproxy", "-db", "-f", configuration])


def nginx(host, folder, port, server):
    configuration = folder / f"nginx-{port}.conf"
    logs = "error_log stderr;" + "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    configuration.write_text(f"daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr; events {{}}\n"
                             f"http {{ {logs} access_log off; server {{ {server} }} }}\n")
    return Peer(host, folder, "nginx", port, ["nginx", "-p", folder, "-c", configuration])


def http_get(connection):
    """The body of the answer."""
    connection.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
    received = bytearray()
    while data := connection.recv(4096):
        received += data
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0], received
    return body.decode()


def through(lab, listener):
    """A connection that the upstream has made: the server sees its own address."""
    connection = lab.dial(listener)
    assert connection.seen[0] == lab.server.address
    return connection


def is_reset(lab):
    """The client's connection, at once or as soon as the upstream has answered."""
    try:
        return lab.client.connect(lab.server.address, 80).recv(1) is None
    except ConnectionResetError:
        return True


class HostileServer:
    """Accepts, and lets `behave(connection)` do what it wants with each, in a thread of its own."""

    def __init__(self, host, port, behave):
        self._listener = host.listen(port)
        self._listener.settimeout(None)
        self._open = []
        self.accepted = 0
        self._behave = behave
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            connection.settimeout(SECONDS)
            self._open.append(connection)
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection):
        with contextlib.suppress(OSError):
            self._behave(connection)
        connection.close()

    def stop(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()
