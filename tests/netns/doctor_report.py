"""`limpid doctor` as an object: what it found, by id, and its remedies, run as a user would paste them. And a proxy of the tests' own,
to put something wrong with it."""

import json
import os
import socket

import limpid_process
from lab import IP_TRANSPARENT, IPV6_TRANSPARENT

# What the machine under the tests has or lacks is not what these tests are about.
ABOUT_THE_MACHINE = {"privileges", "kernel", "limits"}


class Report:
    def __init__(self, text, status):
        self.document = json.loads(text)
        self.status = status
        assert self.document["schema"] == 1

    @property
    def findings(self):
        return self.document["findings"]

    def of(self, identifier, severity=None):
        return [f for f in self.findings if f["id"] == identifier and severity in (None, f["severity"])]

    def bad(self):
        """Warnings and failures that are not about the machine."""
        return [f for f in self.findings if f["severity"] in ("warning", "failure") and f["group"] not in ABOUT_THE_MACHINE]

    def only(self, identifier, severity):
        """The one finding of that kind; the test fails with the whole report where there is none or another."""
        found = self.of(identifier, severity)
        assert found, f"no {severity} {identifier} in:\n" + self.text()
        return found[0]

    def text(self):
        return "\n".join(f"{f['severity']} {f['id']} {f['subject']}: {f['summary']} {f['remedy']}" for f in self.findings
                         if f["group"] not in ABOUT_THE_MACHINE)


class Doctor:
    """doctor() examines the router and returns a Report."""

    def __init__(self, router):
        self.router = router

    def __call__(self, *arguments, **options):
        done = self.run("--json", *arguments, **options)
        assert done.returncode in (0, 1, 3), done.stderr
        assert not done.stderr, done.stderr
        report = Report(done.stdout, done.returncode)
        worst = {f["severity"] for f in report.findings}
        assert (done.returncode == 1) == ("failure" in worst)
        return report

    def run(self, *arguments, **options):
        return self.router.run(limpid_process.BINARY, "doctor", *arguments, check=False, timeout=60, **options)

    def content(self, *arguments):
        report = self(*arguments)
        assert not report.bad(), report.text()
        return report

    def paste(self, finding, host=None, leave_out=()):
        """Runs the remedy in a shell, with the program under test as `limpid`."""
        assert finding["remedy"], finding
        folder = os.path.dirname(limpid_process.BINARY)
        for line in finding["remedy"]:
            if not any(word in line for word in leave_out):
                (host or self.router).run("sh", "-ec", line, env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"})


class Proxy:
    """Listens as a proxy does, and as `how` says: "loopback" or "anywhere"; it accepts nothing, since a handshake is the kernel's."""

    def __init__(self, router, port, transparent=("ipv4", "ipv6"), families=("ipv4", "ipv6"), how="loopback"):
        self.sockets = []
        with router.inside():
            for family in families:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    self.sockets.append(self._open(family, kind, port, family in transparent, how))

    @staticmethod
    def _open(family, kind, port, transparent, how):
        made = socket.socket(socket.AF_INET if family == "ipv4" else socket.AF_INET6, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == "ipv6":
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if transparent:
            made.setsockopt(*((socket.SOL_IP, IP_TRANSPARENT) if family == "ipv4" else (socket.IPPROTO_IPV6, IPV6_TRANSPARENT)), 1)
        address = {"loopback": {"ipv4": "127.0.0.1", "ipv6": "::1"}, "anywhere": {"ipv4": "0.0.0.0", "ipv6": "::"}}[how][family]
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen(64)
        return made

    def close(self):
        for each in self.sockets:
            each.close()
