#!/usr/bin/python3
"""Records what real programs send first, on loopback, into entries recorded_*.txt beside this file; what is to be found in them is what
the command line says. Run by hand when a program's newer version is to be recorded: record.py [PART OF A NAME …]
Debian packages: openssl curl gnutls-bin ngtcp2-client nghttp2-client openssh-client bind9-dnsutils chromium."""
import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile

from entry import write

HOST = "www.example.com"
PATIENCE = 20  # seconds until a program has sent something: Chromium is slow to start
PAUSE = 0.4  # of silence, after which a first flight is over


class Recorder:
    """A socket on loopback that never answers."""

    def __init__(self, kind):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "stream" else socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        if kind == "stream":
            self.socket.listen(8)
        self.port = self.socket.getsockname()[1]
        self.socket.settimeout(PATIENCE)

    def stream(self, wanted):
        """The first connection whose bytes are what is wanted: browsers open some for other reasons."""
        while True:
            connection, _ = self.socket.accept()
            data = b""
            with connection, contextlib.suppress(TimeoutError):
                connection.settimeout(PAUSE)
                while piece := connection.recv(65536):
                    data += piece
            if data and wanted(data):
                return data

    def datagrams(self):
        """Those of the first flight; repetitions come later than the pause."""
        data = [self.socket.recv(65536)]
        self.socket.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            while True:
                data.append(self.socket.recv(65536))
        return data


def record(name, command, kind="stream", wanted=lambda data: True, about=None, **expected):
    if sys.argv[1:] and not any(part in name for part in sys.argv[1:]):
        return
    if not shutil.which(command[0]):
        print(f"{name}: skipped, there is no {command[0]}")
        return
    recorder = Recorder(kind)
    with tempfile.TemporaryDirectory() as directory:
        command = [word.replace("PORT", str(recorder.port)).replace("DIRECTORY", directory) for word in command]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=directory)
        try:
            data = recorder.stream(wanted) if kind == "stream" else recorder.datagrams()
        finally:
            process.kill()
            process.wait()
    version = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}", PACKAGES[command[0]]], capture_output=True, text=True,
                             check=True).stdout
    write(f"recorded_{name}", about or f"{version}: {' '.join(command[:1] + [word for word in command[1:] if directory not in word])}",
          data, kind=kind, **expected)


PACKAGES = {"openssl": "openssl", "curl": "curl", "gnutls-cli": "gnutls-bin", "gtlsclient": "ngtcp2-client", "nghttp": "nghttp2-client",
            "ssh": "openssh-client", "dig": "bind9-dnsutils", "chromium": "chromium"}


def tls():
    connect = ["openssl", "s_client", "-connect", "127.0.0.1:PORT"]
    record("openssl_tls13", [*connect, "-servername", HOST, "-alpn", "h2,http/1.1"], protocol="tls", host=HOST, alpn="h2,http/1.1")
    record("openssl_tls12", [*connect, "-servername", "WWW.Example.COM", "-tls1_2"], protocol="tls", host=HOST)
    record("openssl_tls10", [*connect, "-servername", HOST, "-tls1", "-cipher", "ALL:@SECLEVEL=0"], protocol="tls", host=HOST)
    record("openssl_no_name", [*connect, "-noservername"], protocol="tls")
    record("gnutls", ["gnutls-cli", "--insecure", "--alpn=http/1.1", f"--sni-hostname={HOST}", "-p", "PORT", "127.0.0.1"],
           protocol="tls", host=HOST, alpn="http/1.1")
    curl = ["curl", "-sk", "--resolve", f"{HOST}:PORT:127.0.0.1"]
    record("curl_https", [*curl, f"https://{HOST}:PORT/"], protocol="tls", host=HOST, alpn="h2,http/1.1")
    record("curl_https_idn", ["curl", "-sk", "--resolve", "xn--bcher-kva.example:PORT:127.0.0.1", "https://bücher.example:PORT/"],
           protocol="tls", host="xn--bcher-kva.example", alpn="h2,http/1.1")
    record("curl_https_address", ["curl", "-sk", "https://127.0.0.1:PORT/"], protocol="tls", alpn="h2,http/1.1")
    # X25519MLKEM768 (or Kyber) makes it larger than a segment; a GREASE ECH is always there.
    record("chromium_https", [*CHROMIUM, f"https://{HOST}:PORT/"], wanted=lambda data: HOST.encode() in data, protocol="tls", host=HOST,
           alpn="h2,http/1.1", ech=True)


def http():
    curl = ["curl", "-s", "--resolve", f"{HOST}:PORT:127.0.0.1"]
    record("curl_http1", [*curl, f"http://{HOST}:PORT/path?query"], protocol="http1", host=HOST)
    record("curl_http10", ["curl", "-s", "-0", "http://127.0.0.1:PORT/"], protocol="http1", host="127.0.0.1")
    record("curl_http1_post", [*curl, "-d", "a=b", "-H", "Cookie: " + "c" * 3000, f"http://{HOST}:PORT/"], protocol="http1", host=HOST)
    record("curl_http1_proxy", ["curl", "-s", "-x", "http://127.0.0.1:PORT", "http://Www.Example.com/"], protocol="http1", host=HOST)
    record("curl_http1_connect", ["curl", "-s", "-x", "http://127.0.0.1:PORT", f"https://{HOST}/"], protocol="http1", host=HOST)
    record("curl_http1_connect_ipv6", ["curl", "-s", "-x", "http://127.0.0.1:PORT", "https://[2001:DB8:0::1]:8443/"], protocol="http1",
           host="2001:db8::1")
    record("curl_http1_upgrade", [*curl, "--http2", f"http://{HOST}:PORT/"], protocol="http1", host=HOST)
    record("curl_http2", [*curl, "--http2-prior-knowledge", f"http://{HOST}:PORT/"], protocol="http2", host=HOST)
    record("chromium_http1", [*CHROMIUM, f"http://{HOST}:PORT/"], wanted=lambda data: HOST.encode() in data, protocol="http1", host=HOST)
    nghttp = ["nghttp", "http://127.0.0.1:PORT/", "-H", f":authority: {HOST}"]
    record("nghttp", nghttp, protocol="http2", host=HOST)
    record("nghttp_continuation", [*nghttp, "--continuation"], protocol="http2", host=HOST)
    record("nghttp_padding", [*nghttp, "--padding=200", "--no-dep"], protocol="http2", host=HOST)


def quic():
    # To an address it says localhost.
    client = ["gtlsclient", "--exit-on-all-streams-close", "127.0.0.1", "PORT", f"https://{HOST}/"]
    record("ngtcp2", client, kind="datagrams", protocol="quic", host="localhost", alpn="h3")
    record("ngtcp2_unknown_version", [*client[:1], "--version=0x1a2a3a4a", *client[1:]], kind="datagrams", outcome="unknown", doubt="unrecognised")
    record("chromium_quic", [*CHROMIUM, "--enable-quic", f"--origin-to-force-quic-on={HOST}:PORT", f"https://{HOST}:PORT/"],
           kind="datagrams", protocol="quic", host=HOST, alpn="h3", ech=True)
    record("chromium_quic_v2", [*CHROMIUM, "--enable-quic", "--quic-version=RFCv2", f"--origin-to-force-quic-on={HOST}:PORT",
                                f"https://{HOST}:PORT/"], kind="datagrams", protocol="quic", host=HOST, alpn="h3", ech=True)


def others():
    record("openssh", ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-p", "PORT", "127.0.0.1"], protocol="ssh")
    dig = ["dig", "@127.0.0.1", "-p", "PORT", "+tries=1", "+timeout=2"]
    record("dig_udp", [*dig, "Www.Example.COM"], kind="datagrams", protocol="dns", host=HOST)
    record("dig_tcp", [*dig, "+tcp", "_443._tcp.example.com", "TLSA"], protocol="dns", host="_443._tcp.example.com")
    record("dig_root", [*dig, ".", "NS"], kind="datagrams", protocol="dns")
    record("dig_ixfr", [*dig, "example.com", "IXFR=17"], protocol="dns", host="example.com")


CHROMIUM = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir=DIRECTORY", "--no-first-run",
            "--disable-background-networking", "--ignore-certificate-errors", f"--host-resolver-rules=MAP {HOST} 127.0.0.1"]

if __name__ == "__main__":
    for part in (tls, http, quic, others):
        part()
