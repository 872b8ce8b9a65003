"""The control API as its clients see it: HTTP/1.1 over the instance's Unix socket, and the verbs."""

import http.client
import json
import os
import socket

import limpid_process


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("limpid", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def control_path(name="limpid"):
    return os.path.join(os.environ["LIMPID_RUN_DIRECTORY"], "ctl.sock" if name == "limpid" else f"ctl-{name}.sock")


class Control:
    """One instance's API."""

    def __init__(self, path=None, timeout=15):
        self.path = path or control_path()
        self._timeout = timeout

    def ask(self, method, target, body=None):
        """Status and text."""
        connection = _UnixConnection(self.path, self._timeout)
        try:
            connection.request(method, target, body=json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def get(self, target):
        status, text = self.ask("GET", target)
        assert status == 200, (status, text)
        return json.loads(text)

    def flows(self, **arguments):
        return self.get("/v1/flows?" + "&".join(f"{key}={value}" for key, value in arguments.items()))

    def every_flow(self, **arguments):
        """Page by page, as the documentation says."""
        flows, after = [], None
        while True:
            page = self.flows(**arguments, **({"after": after} if after else {}))
            flows += page["flows"]
            after = page["next"]
            if after is None:
                return flows

    def metrics(self):
        """Name with labels → value."""
        status, text = self.ask("GET", "/metrics")
        assert status == 200
        return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")), text

    def connect(self):
        """A bare connection, to say something else than HTTP."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(self._timeout)
        made.connect(self.path)
        return made


def verb(lab, *arguments, **options):
    """One call of the program on the router; its outcome."""
    return lab.router.run(limpid_process.BINARY, *arguments, check=False, **options)
