"""HTTP/3 with ngtcp2's programs: a server with a file, and a client that fetches it."""

import subprocess

from peers import bytes_of, wait_until
from udp_exchange import listens_on_udp

BLOB = bytes_of(7, 3_000_000)


def serve_http3(lab, tmp_path):
    """On the lab's server, until the lab ends. Returns what tells what it has logged so far."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "blob").write_bytes(BLOB)
    key, certificate, log = (tmp_path / name for name in ("key.pem", "certificate.pem", "server.log"))
    lab.server.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                   "-subj", "/CN=www.example.org", "-keyout", key, "-out", certificate)
    with open(log, "wb") as out:
        lab.server.start(["gtlsserver", "--no-quic-dump", "--no-http-dump", "-d", site, "*", "443", key, certificate],
                         stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    wait_until(lambda: listens_on_udp(lab.server, 443), "gtlsserver listens")
    return lambda: log.read_text(errors="replace")


def fetch(lab, tmp_path, *flags):
    """What the client got, and what it said."""
    folder = tmp_path / "fetched"
    folder.mkdir()
    done = lab.client.run("gtlsclient", "--no-quic-dump", "--no-http-dump", "--exit-on-all-streams-close", "--timeout=8s",
                          "--sni=www.example.org", f"--download={folder}", *flags, lab.server.address, "443",
                          "https://www.example.org/blob", timeout=30)
    return (folder / "blob").read_bytes(), done.stdout + done.stderr
