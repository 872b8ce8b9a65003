#!/usr/bin/python3
"""Writes the seeds of the fuzzers of this room, tests/fuzz/seeds/{tls,http1,http2,dns,quic}, out of the entries beside this file; and, for
QUIC, frames, which no packet shows."""
import pathlib

from compose import ECH, SNI, alpn, client_hello
from compose_quic import RFC_FRAME, crypto, cut

HERE = pathlib.Path(__file__).resolve().parent
SEEDS = HERE.parents[1] / "fuzz" / "seeds"
MOST_BYTES = 4096  # scripts/run-fuzzers.sh


def pieces(path):
    return [bytes.fromhex(part.replace("\n", "")) for part in path.read_text(encoding="utf-8").split("\nbytes\n")[1:]]


def write(fuzzer, name, data):
    if len(data) <= MOST_BYTES:
        (SEEDS / fuzzer).mkdir(exist_ok=True)
        (SEEDS / fuzzer / name).write_bytes(data)


def with_lengths(parts):
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


for path in sorted(HERE.glob("*.txt")):
    text = path.read_text(encoding="utf-8")
    protocol = text.split("\nprotocol ")[1].split("\n")[0]
    if protocol == "quic":
        write(protocol, path.stem, with_lengths(pieces(path)))
    elif protocol in ("tls", "http1", "http2", "dns"):
        write(protocol, path.stem, pieces(path)[0])
hello = client_hello(SNI, ECH, alpn(b"h3"))
write("tls", "body", b"\x07" + hello[4:])
write("quic", "frames_rfc", with_lengths([RFC_FRAME]))
write("quic", "frames_cut", with_lengths([b"\x01" + b"".join(crypto(*piece) for piece in reversed(cut(hello, 5, 50)))]))
write("quic", "frames_apart", with_lengths([crypto(*piece) for piece in cut(hello, 100)]))
write("quic", "frames_ack", with_lengths([b"\x02\5\0\1\0\0\0" + b"\x03\5\0\0\0\1\1\1" + crypto(0, hello)]))
