"""What clients say first, so that rules can decide by it: hellos of TLS, in pieces; handshakes of QUIC, as recorded."""

import ssl
from pathlib import Path

CORPUS = Path(__file__).resolve().parent.parent / "corpus" / "sniff"


def client_hello(name):
    """The bytes with which OpenSSL begins a connection to `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def recorded_datagrams(recording):
    """The datagrams of a file of the corpus, in order."""
    datagrams = []
    for line in (CORPUS / f"{recording}.txt").read_text(encoding="utf-8").splitlines():
        if line.split(" ")[0] == "bytes":
            datagrams.append("")
        elif datagrams:
            datagrams[-1] += line
    return [bytes.fromhex(each) for each in datagrams]


def at(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
