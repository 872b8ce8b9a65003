#!/usr/bin/python3
"""Composes the entries composed_quic_*.txt: the packets of RFC 9001 and RFC 9369, checked against what is printed there, and handshakes
cut, shuffled and coalesced. A second implementation of the packet protection, so that the first is not its own judge.
Debian packages: python3-cryptography."""
import hashlib
import hmac

from compose import ECH, HOST, POST_QUANTUM, SNI, alpn, client_hello, server_name
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from entry import write

V1, V2 = 0x00000001, 0x6B3343CF
SALTS = {V1: "38762cf7f55934b34d179ae6a4c80cadccbb7f0a", V2: "0dede3def700a6db819381be6e269dcbf9bd2ed9"}
LABELS = {V1: "quic", V2: "quicv2"}
DESTINATION = bytes.fromhex("8394c8f03e515708")
# RFC 9001 appendix A.2, the same in RFC 9369 appendix A.2: a CRYPTO frame with a ClientHello.
RFC_FRAME = bytes.fromhex(
    "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578"
    "616d706c652e636f6dff01000100000a00080006001d00170018001000070005"
    "04616c706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b000302030400"
    "0d0010000e0403050306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff0801100104800075"
    "300901100f088394c8f03e51570806048000ffff")


def varint(value):
    for bits, tag in ((6, 0), (14, 1), (30, 2)):
        if value < 1 << bits:
            return (value | tag << bits).to_bytes((bits + 2) // 8, "big")
    return (value | 3 << 62).to_bytes(8, "big")


def expand(secret, label, size):
    label = b"tls13 " + label.encode()
    return hmac.digest(secret, size.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0\1", "sha256")[:size]


def protect(payload, *, version=V1, number=0, number_bytes=4, destination=DESTINATION, key_of=None, source=b"", token=b"", kind=0, size=0,
            reserved=0):
    """An Initial, padded so that the packet has at least `size` bytes; other kinds (1: 0-RTT) get the same keys, which nobody checks."""
    secret = hmac.digest(bytes.fromhex(SALTS[version]), key_of or destination, hashlib.sha256)
    secret = expand(secret, "client in", 32)
    key, nonce, mask_key = (expand(secret, f"{LABELS[version]} {what}", n) for what, n in (("key", 16), ("iv", 12), ("hp", 16)))
    shift = 1 if version == V2 else 0
    first = 0xC0 | (kind + shift) % 4 << 4 | reserved << 2 | number_bytes - 1
    header = version.to_bytes(4, "big") + bytes([len(destination)]) + destination + bytes([len(source)]) + source
    if kind == 0:
        header += varint(len(token)) + token
    payload += bytes(max(0, size - len(header) - 3 - number_bytes - len(payload) - 16))
    length = number_bytes + len(payload) + 16
    header = bytes([first]) + header + (0x4000 | length).to_bytes(2, "big") + number.to_bytes(number_bytes, "big")
    nonce = bytes(a ^ b for a, b in zip(nonce, number.to_bytes(12, "big"), strict=True))
    sealed = AESGCM(key).encrypt(nonce, payload, header)
    encryptor = Cipher(algorithms.AES(mask_key), modes.ECB()).encryptor()
    mask = encryptor.update(sealed[4 - number_bytes:20 - number_bytes])
    numbered = bytes(a ^ b for a, b in zip(header[-number_bytes:], mask[1:], strict=False))
    return bytes([header[0] ^ mask[0] & 0x0F]) + header[1:-number_bytes] + numbered + sealed


def crypto(offset, data):
    return b"\x06" + varint(offset) + varint(len(data)) + data


def quic(name, about, datagrams, **expected):
    if expected.get("outcome") == "unknown":
        expected.setdefault("doubt", "malformed")
    elif expected.get("outcome") != "more":
        expected.setdefault("host", HOST)
    write(f"composed_quic_{name}", about, datagrams, kind="datagrams", protocol=expected.pop("protocol", "quic"), **expected)


def initial(*frames, **kw):
    return protect(b"".join(frames), **{"size": 1200, **kw})


def vectors():
    for name, version, sample, end in (
        ("rfc9001", V1, "d1b1c98dd7689fb8ec11d242b123dc9b", "e221af44860018ab0856972e194cd934"),
        ("rfc9369", V2, "ffe67b6abcdb4298b485dd04de806071", "a18b2faa745b6fe189cf772a9f84cbfc"),
    ):
        packet = initial(RFC_FRAME, version=version, number=2)
        assert len(packet) == 1200 and packet[22:38].hex() == sample and packet[-16:].hex() == end, name
        quic(name, f"the client's Initial of {name.upper()}, appendix A.2", [packet], host="example.com", alpn="alpn")


def cut(message, *places):
    edges = [0, *places, len(message)]
    return [(start, message[start:end]) for start, end in zip(edges, edges[1:], strict=False)]


def compose():
    hello = client_hello(SNI, alpn(b"h3"), session=b"")
    large = client_hello(POST_QUANTUM, SNI, ECH, alpn(b"h3"), session=b"")
    good = {"alpn": "h3"}
    pieces = cut(hello, 3, 40, 90)
    quic("shuffled", "CRYPTO frames out of order, with PING and PADDING between them", [initial(*[
        crypto(*pieces[i]) + b"\x01\0\0" for i in (2, 0, 3, 1)])], **good)
    quic("overlapping", "CRYPTO frames that overlap and agree", [initial(crypto(10, hello[10:80]), crypto(0, hello[:50]), crypto(30, hello[30:]),
                                                                       crypto(0, hello))], **good)
    quic("several_datagrams", "a post-quantum hello over four datagrams in the wrong order", [
        initial(crypto(*piece), number=n) for n, piece in reversed(list(enumerate(cut(large, 1000, 2000, 3000))))], ech=True, **good)
    quic("acknowledges", "ACK frames beside the hello, with ECN counts and without", [
        initial(b"\x02\x05\0\x01\0\0\0", b"\x03\x05\0\0\0\x01\x01\x01", crypto(0, hello))], **good)
    quic("packet_numbers", "packet numbers of one byte that go on where four bytes left off", [
        initial(crypto(*pieces[0]), crypto(*pieces[1]), number=0xFE),
        initial(crypto(*pieces[2]), number=0xFF, number_bytes=1), initial(crypto(*pieces[3]), number=0x100, number_bytes=2)], **good)
    early = protect(b"\x01" * 100, kind=1)
    quic("early_data_before", "0-RTT that arrives before its Initial", [early, initial(crypto(0, hello))], **good)
    quic("early_data_coalesced", "0-RTT behind the Initial in one datagram", [protect(crypto(0, hello), size=900) + early * 3], **good)
    quic("coalesced_initials", "two Initials in one datagram", [
        initial(crypto(*pieces[3]), crypto(*pieces[0]), size=600) + initial(crypto(*pieces[1]), crypto(*pieces[2]), size=600, number=1)], **good)
    quic("coalesced_garbage", "garbage behind the Initial", [initial(crypto(0, hello)) + b"\x40" * 30], **good)
    quic("coalesced_other_destination", "a second hello, for another connection id, in one datagram (RFC 9000 section 12.2)", [
        initial(crypto(*pieces[0])) + initial(crypto(0, client_hello(server_name(b"other.example"))), destination=b"another!"),
        initial(crypto(3, hello[3:]), number=1)], **good)
    retried = {"destination": b"chosen", "token": b"t" * 60}
    quic("retry", "a hello that begins anew after a Retry: a token, another destination, other keys", [
        initial(crypto(*pieces[0])), initial(crypto(0, hello), number=1, **retried)], **good)
    quic("retry_only", "only what follows a Retry", [initial(crypto(0, hello), number=1, **retried)], **good)
    quic("server_chosen", "a later Initial to the id that the server chose, under the same keys", [
        initial(crypto(*pieces[0])), initial(crypto(3, hello[3:]), number=1, destination=b"srv", key_of=DESTINATION)], **good)
    quic("other_version", "version 1, then version 2 from the beginning", [
        initial(crypto(*pieces[0])), initial(crypto(0, hello), version=V2, destination=b"another!")], **good)
    quic("v2_several", "version 2 over two datagrams", [initial(crypto(0, large[:1000]), version=V2),
                                                        initial(crypto(1000, large[1000:]), number=1, version=V2, size=2500)], ech=True, **good)
    quic("undecided", "a hello that does not end", [initial(crypto(0, hello[:-1]))], outcome="more")
    quic("gap", "a hello with a byte missing", [initial(crypto(0, hello[:60]), crypto(61, hello[61:]))], outcome="more")
    quic("garbled_second", "a second datagram that does not decrypt is dropped", [
        initial(crypto(*pieces[0])), initial(crypto(0, client_hello(server_name(b"other.example"))), key_of=b"wrong"),
        initial(crypto(3, hello[3:]), number=1)], **good)
    bad = {"outcome": "unknown"}
    quic("contradiction", "CRYPTO frames that overlap and differ", [
        initial(crypto(0, hello[:90]), crypto(60, b"other.example"), crypto(90, hello[90:]))], **bad)
    quic("contradiction_later", "another hello in the second datagram", [
        initial(crypto(0, hello[:-1])), initial(crypto(0, client_hello(server_name(b"other.example"))), number=1)], **bad)
    quic("small_datagram", "an Initial in a datagram that servers discard", [protect(crypto(0, hello), size=1199)], **bad)
    quic("short_destination", "a first destination below eight bytes", [initial(crypto(0, hello), destination=b"short")], **bad)
    quic("garbled", "an Initial that does not decrypt", [initial(crypto(0, hello), key_of=b"wrong")], **bad)
    quic("reserved_bits", "reserved bits", [initial(crypto(0, hello), reserved=1)], **bad)
    quic("stream_frame", "a STREAM frame in an Initial", [initial(b"\x08\0x", crypto(0, hello))], **bad)
    quic("close", "CONNECTION_CLOSE", [initial(b"\x1c\0\0\0")], **bad)
    quic("frame_beyond", "a CRYPTO frame beyond its packet", [initial(b"\x06\0\x7f\xff" + hello)], **bad)
    quic("not_a_hello", "another handshake message", [initial(crypto(0, b"\x02" + hello[1:]))], **bad)
    quic("two_names", "a hello that is malformed", [initial(crypto(0, client_hello(SNI, SNI)))], **bad)
    quic("too_long", "a hello above 8 KiB", [initial(crypto(0, b"\x01\0\x20\0" + hello))], outcome="unknown", doubt="too-long")
    quic("offset_too_large", "a CRYPTO frame far behind", [initial(crypto(1 << 40, b"x"))], outcome="unknown", doubt="too-long")
    quic("endless", "sixteen datagrams, and no end", [initial(crypto(i, hello[i:i + 1]), number=i) for i in range(17)], outcome="unknown",
         doubt="too-long")
    nobody = {"outcome": "unknown", "protocol": "none", "doubt": "unrecognised"}
    quic("grease_version", "a version that is none, to make the server negotiate", [b"\xc0\x1a\x2a\x3a\x4a\x08" + DESTINATION + bytes(1190)], **nobody)
    quic("negotiation", "Version Negotiation, which servers send", [b"\xc0\0\0\0\0\x08" + DESTINATION + b"\0" + bytes.fromhex("6b3343cf00000001")],
         **nobody)
    quic("retry_packet", "Retry, which servers send", [b"\xf0\0\0\0\1\0\x08" + DESTINATION + bytes(40)], **nobody)
    quic("short_header", "a packet of an established connection", [b"\x40" + bytes(60)], **nobody)


if __name__ == "__main__":
    vectors()
    compose()
