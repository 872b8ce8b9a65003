"""The dashboard as programs see it: HTTP over TCP from inside the lab, with any header that somebody might forge."""

import http.client
import json
import re
import socket

PORT = 9080
TOKEN = "0123456789abcdef" * 2


class DashboardClient:
    """`host`: whose program asks; `address`: whom."""

    def __init__(self, host, address="127.0.0.1", port=PORT, timeout=15):
        self._host = host
        self._address = address
        self._port = port
        self._timeout = timeout
        self.name = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    def connect(self):
        with self._host.inside():
            return socket.create_connection((self._address, self._port), self._timeout)

    def ask(self, method, target, body=None, token=None, **headers):
        """Status, headers by lower-case name, and text. An underscore in a header's name stands for a dash; one that is None is left out."""
        connection = http.client.HTTPConnection(self._address, self._port, timeout=self._timeout)
        connection.sock = self.connect()
        try:
            all_headers = {"Host": self.name, **({"Authorization": f"Bearer {token}"} if token else {}),
                           **{name.replace("_", "-"): value for name, value in headers.items()}}
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            payload = json.dumps(body).encode() if body is not None else b""
            for name, value in {**all_headers, "Content-Length": str(len(payload))}.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(payload)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
        finally:
            connection.close()

    def status_of(self, *arguments, **headers):
        return self.ask(*arguments, **headers)[0]

    def get(self, target, **headers):
        status, _, text = self.ask("GET", target, **headers)
        assert status == 200, (status, text)
        return json.loads(text)


def write_token(folder, mode=0o600, text=TOKEN):
    path = folder / "dashboard-token"
    path.write_text(text + "\n", encoding="ascii")
    path.chmod(mode)
    return path


def nonce_in(policy):
    return re.search(r"script-src 'nonce-([0-9a-f]{32})'", policy).group(1)
