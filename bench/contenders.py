# The contenders: how each proxy is put into the path on the router, and taken out again.
#
# Every contender keeps the client's address towards the server. Whether it really is in the path is measured, not assumed: see
# Path in measure.py.
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

PEERS = pathlib.Path(__file__).parent / "peers"
PORTS = "80,5201"
UDP_PORT = "7007"
REDIRECT = """
table ip bench_redirect {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    tcp dport 5201 ip daddr SERVER redirect to :50081
    tcp dport 80 ip daddr SERVER redirect to :50082
    udp dport 7007 ip daddr SERVER redirect to :50083
  }
}
"""


def wait_until(condition, what, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds} s")
        time.sleep(0.01)


def with_children(pid):
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


class Contender:
    """One way through the router. start() returns when traffic can run; stop() leaves nothing behind. What it cannot do is not
    measured: `traffic` says what it can ("tcp", "http", "udp", and "idle" for thousands of connections at one
    time); HTTP alone is what a cache does."""

    name = "forwarding"
    relays = False
    traffic = ("tcp", "http", "udp", "idle")
    only = None  # these measurements alone; None: every one that `traffic` allows

    def __init__(self, lab, limpid, workers):
        self.lab, self.limpid, self.workers = lab, limpid, workers
        self.directory = tempfile.TemporaryDirectory(prefix="limpid-bench-")
        self.process = None

    def takes(self, measurement):
        return measurement.traffic in self.traffic and (self.only is None or measurement.name in self.only)

    def start(self):
        pass

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=40)
            self.process = None

    def pids(self):
        """The proxy's process and its children."""
        return [] if self.process is None else with_children(self.process.pid)

    def configuration(self, template):
        text = (PEERS / template).read_text()
        values = {"WORKERS": str(self.workers), "DIRECTORY": self.directory.name, "SERVER": self.lab.server_ipv4}
        path = pathlib.Path(self.directory.name) / template
        path.write_text(re.sub("@([A-Z]+)@", lambda match: values[match[1]], text))
        return str(path)

    def spawn(self, *command):
        log = open(os.path.join(self.directory.name, "log"), "w+b")
        self.process = self.lab.spawn("router", *command, stdout=log, stderr=log)

    def log(self):
        return pathlib.Path(self.directory.name, "log").read_text(errors="replace")

    def wait_for_listener(self, port):
        def listens():
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {self.log()}")
            return f":{port} " in self.lab.output("router", "ss", "-Hltn")

        wait_until(listens, f"{self.name} listens on {port}")

    def rules(self, verb, *flags):
        self.lab.output("router", self.limpid, "rules", verb, *flags)


class Limpid(Contender):
    name = "limpid"
    relays = True
    backend = "nftables"
    flags = ()
    wrapper = ()

    def start(self):
        self.spawn(*self.wrapper, self.limpid, "run", "--tcp", PORTS, "--udp", UDP_PORT, "--workers", str(self.workers), "--drain-timeout", "2s",
                   "--backend", self.backend, *self.flags)
        wait_until(lambda: "msg=intercepting" in self.log() or self.process.poll() is not None, "limpid is ready")
        if self.process.poll() is not None:
            raise RuntimeError(self.log())


def limpid_over(backend):
    """Limpid with another interception backend: what differs is what each packet costs before it reaches the proxy."""
    # As every host with systemd has it: without it, a client's port that comes again costs it a second (docs/ebpf.md), and there are only 28,000.
    wrapper = ("unshare", "--mount", "sh", "-c", 'mount -t bpf bpf /sys/fs/bpf && exec "$@"', "sh") if backend == "ebpf" else ()
    return type(f"LimpidOver_{backend}", (Limpid,), {"name": f"limpid {backend}", "backend": backend, "wrapper": wrapper,
                                                     "only": ("bulk up, 8 streams", "connections", "UDP echo, 64 bytes")})


class CutThrough(Limpid):
    """Flows leave the relay as soon as nothing is left to decide about them."""

    name = "limpid cut-through"
    flags = ("--cut-through", "auto")

    def stop(self):
        super().stop()
        last = self.log().rpartition("msg=stopped")[2]
        left = {name: int(count) for name, count in re.findall(r"\b(udp_sessions_total|(?:udp_)?cut_through)=(\d+)", last)}
        if not left.get("cut_through") or (left["udp_sessions_total"] and not left["udp_cut_through"]):
            raise RuntimeError(f"nothing was cut through: {self.log()[-2000:]}")


class HAProxy(Contender):
    name = "haproxy"
    relays = True
    traffic = ("tcp", "http", "idle")

    def start(self):
        self.spawn("/usr/sbin/haproxy", "-db", "-f", self.configuration("haproxy.cfg"))
        self.wait_for_listener(50080)
        self.rules("apply", "--tcp", PORTS, "--listen-port", "50080", "--ipv4-only")

    def stop(self):
        self.rules("remove")
        super().stop()


class Nginx(Contender):
    name = "nginx"
    relays = True
    # Not "idle": with REDIRECT, a target leg that happens to have the port of another connection of the same client is one tuple with it for
    # conntrack, and is lost. With 4,000 connections of one client that is every second one.
    traffic = ("tcp", "http", "udp")

    def start(self):
        self.spawn("/usr/sbin/nginx", "-c", self.configuration("nginx.conf"))
        self.wait_for_listener(50082)
        # Only for the rule that delivers the servers' replies; nothing listens on the port named here.
        self.rules("apply", "--tcp", "9", "--udp", "9", "--listen-port", "50099", "--ipv4-only")
        nft = REDIRECT.replace("SERVER", self.lab.server_ipv4)
        subprocess.run(self.lab.command("router", "/usr/sbin/nft", "-f", "-"), input=nft.encode(), check=True)

    def stop(self):
        self.lab.output("router", "/usr/sbin/nft", "delete", "table", "ip", "bench_redirect")
        self.rules("remove")
        super().stop()


class Squid(Contender):
    name = "squid"
    relays = True
    traffic = ("http",)

    def start(self):
        os.chmod(self.directory.name, 0o777)  # it gives up root
        # Shared memory of its own: what it leaves there when it is killed goes with its mount namespace.
        self.spawn("unshare", "--mount", "sh", "-ec", 'mount -t tmpfs none /dev/shm; exec "$@"', "sh", "/usr/sbin/squid", "-N", "-n", f"bench{os.getpid()}", "-f", self.configuration("squid.conf"))
        self.wait_for_listener(50084)
        self.rules("apply", "--tcp", "80", "--listen-port", "50084", "--ipv4-only")

    def stop(self):
        self.rules("remove")
        super().stop()


BACKENDS = tuple(limpid_over(backend) for backend in ("iptables-nft", "iptables-legacy", "ebpf"))
ALL = {contender.name: contender for contender in (Contender, HAProxy, Nginx, Squid, Limpid, CutThrough, *BACKENDS)}
