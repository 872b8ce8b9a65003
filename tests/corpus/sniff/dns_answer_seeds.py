#!/usr/bin/python3
"""Writes the seeds of the fuzzer of DNS answers, tests/fuzz/seeds/dns_answer: what servers say to a question for www.example.org."""
import pathlib

SEEDS = pathlib.Path(__file__).resolve().parents[2] / "fuzz" / "seeds" / "dns_answer"
A, CNAME, AAAA = 1, 5, 28


def labels(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


QUESTION = labels("www.example.org")
SAME = b"\xc0\x0c"  # as the question
EXAMPLE_ORG = b"\xc0\x10"
FIRST_DATA = bytes([0xc0, 12 + len(QUESTION) + 4 + 12])


def message(kind, *records):
    """Each record is owner, type, data."""
    head = b"\x12\x34\x81\x80\0\1" + len(records).to_bytes(2, "big") + b"\0\0\0\0" + QUESTION + bytes([0, kind, 0, 1])
    return head + b"".join(owner + bytes([0, of, 0, 1, 0, 0, 1, 0x2c]) + len(data).to_bytes(2, "big") + data for owner, of, data in records)


SEEDS.mkdir(exist_ok=True)
CDN = b"\3cdn" + EXAMPLE_ORG
for name, seed in {
        "a": message(A, (SAME, A, bytes([192, 0, 2, 1])), (SAME, A, bytes([192, 0, 2, 2]))),
        "aaaa": message(AAAA, (SAME, AAAA, bytes.fromhex("20010db8000000000000000000000001"))),
        "alias": message(A, (SAME, CNAME, CDN), (FIRST_DATA, A, bytes([192, 0, 2, 1]))),
        "circle": message(A, (SAME, CNAME, CDN), (FIRST_DATA, CNAME, SAME))}.items():
    (SEEDS / name).write_bytes(seed)
