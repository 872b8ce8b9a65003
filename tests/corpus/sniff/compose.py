#!/usr/bin/python3
"""Composes the entries composed_*.txt beside this file: what no program at hand sends, above all what only somebody hostile does.
QUIC is in compose_quic.py. Debian packages: python3-hpack."""
import struct

import hpack
from entry import write

HOST = "www.example.com"


def vector(size, data):
    return len(data).to_bytes(size, "big") + data


def extension(kind, body):
    return struct.pack("!H", kind) + vector(2, body)


def server_name(*names, kind=0):
    return extension(0, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names)))


def alpn(*ids):
    return extension(16, vector(2, b"".join(vector(1, one) for one in ids)))


def client_hello(*extensions, version=b"\x03\x03", session=bytes(32), suites=b"\x13\x01\x13\x02\xc0\x2f", bare=False):
    body = version + bytes(range(32)) + vector(1, session) + vector(2, suites) + vector(1, b"\0")
    if not bare:
        body += vector(2, b"".join(extensions))
    return b"\x01" + vector(3, body)


def records(message, size=16384, version=b"\x03\x01"):
    return b"".join(b"\x16" + version + vector(2, message[at:at + size]) for at in range(0, len(message), size))


def tls(name, about, stream, **expected):
    write(f"composed_tls_{name}", about, stream, protocol=expected.pop("protocol", "tls"), **expected)


def malformed_tls(name, about, *extensions):
    tls(name, about, records(client_hello(*extensions)), outcome="unknown", doubt="malformed")


GREASE = extension(0x2A2A, b"\0")
SNI = server_name(HOST.encode())
# RFC 9849 section 5: outer, HKDF-SHA256 and AES-128-GCM, a config, an encapsulated key, a payload.
ECH = extension(0xFE0D, b"\0" + struct.pack("!HHB", 1, 1, 7) + vector(2, bytes(32)) + vector(2, bytes(range(256))))
# X25519MLKEM768 and SecP384r1MLKEM1024 as they travel: 1,216 and 1,665 bytes.
POST_QUANTUM = extension(51, vector(2, b"\x11\xec" + vector(2, bytes(1216)) + b"\x11\xed" + vector(2, bytes(1665))))


def compose_tls():
    tls("bytewise_records", "each byte of the hello in a record of its own", records(client_hello(SNI, alpn(b"h2")), 1), host=HOST, alpn="h2")
    tls("cut_records", "records of 7 bytes, which cut the handshake header and the name", records(client_hello(GREASE, SNI), 7), host=HOST)
    tls("post_quantum", "two post-quantum shares in records of 1,400 bytes, ECH, GREASE", records(
        client_hello(GREASE, POST_QUANTUM, ECH, SNI, alpn(b"\x0a\x0a", b"h2", b"http/1.1")), 1400), host=HOST, alpn="h2,http/1.1", ech=True)
    tls("ech_outer", "an ECH extension: a real one and a GREASE one look the same", records(client_hello(SNI, ECH)), host=HOST, ech=True)
    tls("no_extensions", "from before there were extensions", records(client_hello(bare=True, version=b"\x03\0")))
    tls("trailing_dot", "upper case, a trailing dot", records(client_hello(server_name(b"WWW.eXample.COM."))), host=HOST)
    tls("address", "an IPv4 literal, which RFC 6066 forbids and programs send", records(client_hello(server_name(b"192.0.2.1"))),
        host="192.0.2.1")
    tls("address_ipv6", "an IPv6 literal", records(client_hello(server_name(b"2001:DB8::0:1"))), host="2001:db8::1")
    tls("hostile_alpn", "ALPN ids with commas, quotes, newlines and escapes are left out", records(
        client_hello(SNI, alpn(b"h2,evil", b'"', b"\n\n", b"\x1b[2J", b"acme-tls/1"))), host=HOST, alpn="acme-tls/1")
    tls("trailing_bytes", "the hello, then the beginning of something else", records(client_hello(SNI)) + b"\x17\x03\x03\0\x20early", host=HOST)
    malformed_tls("two_names", "two host_names in one extension", server_name(HOST.encode(), b"other.example"))
    malformed_tls("two_extensions", "two server_name extensions", SNI, server_name(b"other.example"))
    malformed_tls("two_alpn", "two ALPN extensions", SNI, alpn(b"h2"), alpn(b"h3"))
    malformed_tls("other_type", "a name of a type that is none", server_name(HOST.encode(), kind=1))
    malformed_tls("nul", "a zero byte in the name", server_name(b"www.example.com\0.evil.example"))
    malformed_tls("newline", "a newline in the name", server_name(b"www.example.com\n127.0.0.1"))
    malformed_tls("high_bytes", "UTF-8 where an A-label belongs", server_name("bücher.example".encode()))
    malformed_tls("empty_name", "an empty name", server_name(b""))
    malformed_tls("only_dot", "a dot for a name", server_name(b"."))
    malformed_tls("long_name", "a name of 254 bytes", server_name(b".".join([b"a" * 63] * 3 + [b"b" * 62])))
    malformed_tls("long_label", "a label of 64 bytes", server_name(b"a" * 64 + b".example"))
    malformed_tls("octal_address", "an address that two readers understand differently", server_name(b"0127.0.0.1"))
    malformed_tls("hexadecimal_address", "another one", server_name(b"0x7f.1"))
    malformed_tls("overlong_list", "a list longer than its extension", extension(0, b"\xff\xff" + b"\0\0\x03abc"))
    tls("longest_name", "a name of 253 bytes", records(client_hello(server_name(b".".join([b"a" * 63] * 3 + [b"b" * 61])))),
        host=".".join(["a" * 63] * 3 + ["b" * 61]))
    hello = client_hello(SNI)
    tls("alert_between", "an alert between two parts of the hello", records(hello[:50]) + b"\x15\x03\x01\0\x02\x01\0" + records(hello[50:]),
        outcome="unknown", doubt="malformed")
    tls("empty_record", "an empty fragment", b"\x16\x03\x01\0\0" + records(hello), outcome="unknown", protocol="none", doubt="unrecognised")
    tls("server_hello", "a handshake that no client begins", records(b"\x02" + hello[1:]), outcome="unknown", protocol="none",
        doubt="unrecognised")
    tls("too_long", "a hello that is said to have 16 MiB", b"\x16\x03\x01\x40\0\x01\xff\xff\xff" + bytes(100), outcome="unknown",
        doubt="too-long")
    tls("surplus", "bytes behind the extensions", records(b"\x01" + vector(3, hello[4:] + b"\0")), outcome="unknown", doubt="malformed")
    tls("sslv2", "a hello in the form of SSL 2", b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10" + bytes(37), outcome="unknown", protocol="none",
        doubt="unrecognised")


def http1(name, about, *lines, end="\r\n", host="", **expected):
    if expected.get("outcome") == "unknown":
        expected.setdefault("doubt", "malformed")
    text = end.join([*lines, "", ""])
    write(f"composed_http1_{name}", about, text.encode("latin-1"), protocol=expected.pop("protocol", "http1"), host=host, **expected)


def malformed_http1(name, about, *lines, end="\r\n"):
    http1(name, about, *lines, end=end, outcome="unknown")


def compose_http1():
    get = "GET / HTTP/1.1"
    http1("bare_lf", "lines that end with LF alone", get, "Host: www.example.com", end="\n", host=HOST)
    http1("case", "a field's name and value in any case, tabs around it", get, "hOsT:\t WWW.Example.COM.:8080 \t", host=HOST)
    http1("empty_lines", "empty lines before the request", "", "", get, "Host: www.example.com", host=HOST)
    http1("host_last", "many fields before Host", get, *[f"X-{i}: {'v' * 50}" for i in range(100)], "Host: www.example.com", host=HOST)
    http1("absolute", "an absolute target; Host says the same", "GET HTTP://www.Example.com:80/p?q HTTP/1.1", "Host: www.example.com", host=HOST)
    http1("absolute_only", "an absolute target without Host, as HTTP/1.0 proxies take it", "GET http://www.example.com HTTP/1.0", host=HOST)
    http1("connect", "authority-form", "CONNECT www.example.com:443 HTTP/1.1", "Host: www.example.com:443", host=HOST)
    http1("asterisk", "asterisk-form", "OPTIONS * HTTP/1.1", "Host: www.example.com", host=HOST)
    http1("ipv6", "an IPv6 literal with a port", get, "Host: [2001:DB8::0:1]:8080", host="2001:db8::1")
    http1("ipv4", "an IPv4 literal", get, "Host: 192.0.2.1:80", host="192.0.2.1")
    http1("no_host", "HTTP/1.0 without a Host", "GET / HTTP/1.0", "Accept: */*")
    http1("empty_host", "an empty Host (RFC 9112 section 3.2)", get, "Host:")
    http1("folding", "obsolete folding of another field", get, "X-Long: a", "  b", "Host: www.example.com", host=HOST)
    http1("other_method", "a method nobody has registered", "M-SEARCH2 / HTTP/1.1", "Host: www.example.com", host=HOST)
    malformed_http1("two_hosts", "two Hosts", get, "Host: www.example.com", "Host: other.example")
    malformed_http1("same_host_twice", "the same Host twice", get, "Host: www.example.com", "HOST: www.example.com")
    malformed_http1("late_second_host", "a second Host far behind", get, "Host: www.example.com", *["A: " + "v" * 200] * 20, "host: other.example")
    malformed_http1("folded_host", "a folded Host", get, "Host:", " www.example.com")
    malformed_http1("continued_host", "a Host that goes on in the next line", get, "Host: www.example.com", " .evil.example")
    malformed_http1("fold_first", "a fold before the first field", get, " Host: www.example.com")
    malformed_http1("folded_second_host", "a Host that looks like a fold", get, "Host: www.example.com", "A: b", " Host: other.example")
    malformed_http1("space_before_colon", "a space before the colon", get, "Host : www.example.com")
    malformed_http1("absolute_differs", "target and Host differ", "GET http://www.example.com/ HTTP/1.1", "Host: other.example")
    malformed_http1("connect_differs", "CONNECT and Host differ", "CONNECT www.example.com:443 HTTP/1.1", "Host: other.example:443")
    malformed_http1("userinfo", "userinfo in the target", "GET http://www.example.com@other.example/ HTTP/1.1", "Host: other.example")
    malformed_http1("userinfo_host", "userinfo in Host", get, "Host: www.example.com@other.example")
    malformed_http1("backslash", "a backslash in the authority", "GET http://other.example\\@www.example.com/ HTTP/1.1", "Host: other.example")
    malformed_http1("comma", "two names in one Host", get, "Host: www.example.com, other.example")
    malformed_http1("inner_space", "a space in Host", get, "Host: www.example.com other.example")
    malformed_http1("nul", "a zero byte in another field", get, "A: \0", "Host: www.example.com")
    malformed_http1("bare_cr", "a CR alone", get, "A: b\rHost: other.example", "Host: www.example.com")
    malformed_http1("escape", "terminal controls in Host", get, "Host: \x1b]0;x\x07www.example.com")
    malformed_http1("percent", "percent-encoding in Host", get, "Host: www%2eexample.com")
    malformed_http1("port", "a port that is none", get, "Host: www.example.com:80x")
    malformed_http1("target", "a target of no form", "GET www.example.com/ HTTP/1.1", "Host: www.example.com")
    malformed_http1("spaces", "a target with a space", "GET /a b HTTP/1.1", "Host: www.example.com")
    malformed_http1("number", "a number for an address", get, "Host: 2130706433")
    malformed_http1("ipv6_zone", "a zone in an IPv6 literal", get, "Host: [fe80::1%25eth0]")
    malformed_http1("nameless", "a line without a colon", get, "Host www.example.com")
    http1("http09", "HTTP/0.9", "GET /", outcome="unknown", protocol="none", doubt="unrecognised")
    http1("http3", "a version to come", "GET / HTTP/3.0", "Host: www.example.com", outcome="unknown", protocol="none", doubt="unrecognised")
    http1("many_fields", "as many fields as are looked at", get, *["a:"] * 511, "Host: www.example.com", host=HOST)
    http1("too_many_fields", "one more", get, *["a:"] * 512, "Host: www.example.com", outcome="unknown", doubt="too-long")
    write("composed_http1_too_long", "a head of 33 KiB", b"GET / HTTP/1.1\r\nHost: www.example.com\r\nCookie: " + b"c" * 33 * 1024,
          protocol="http1", outcome="unknown", doubt="too-long")


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, payload=b"", flags=0, stream=0):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack("!I", stream) + payload


SETTINGS = frame(4, struct.pack("!HI", 2, 0))
BEFORE = PREFACE + SETTINGS + frame(8, struct.pack("!I", 65535)) + frame(6, bytes(8)) + frame(2, bytes(5), stream=3) + frame(0xBA, b"grease", 0xFF, 7)


def block(fields, huffman=True):
    return hpack.Encoder().encode(fields, huffman=huffman)


REQUEST = [(":method", "GET"), (":scheme", "https"), (":authority", "WWW.example.com:443"), (":path", "/")]


def http2(name, about, stream, host=HOST, **expected):
    if expected.get("outcome") == "unknown":
        host = ""
        expected.setdefault("doubt", "malformed")
    write(f"composed_http2_{name}", about, stream, protocol="http2", host=host, **expected)


def headers(fields, **kw):
    return BEFORE + frame(1, block(fields, **kw), 0x5, 1)


def raw(data):
    return BEFORE + frame(1, data, 0x5, 1)


def compose_http2():
    http2("plain", "literals without Huffman", headers(REQUEST, huffman=False))
    http2("huffman", "literals with Huffman", headers(REQUEST))
    http2("host_too", "host says the same as :authority", headers([*REQUEST, ("host", "www.example.com")]))
    http2("host_only", "no :authority, as from a gateway", headers([*REQUEST[:2], (":path", "/"), ("host", "www.example.com")]))
    http2("connect", "CONNECT", headers([(":method", "CONNECT"), (":authority", "www.example.com:443")]))
    http2("nameless", "neither :authority nor host", headers([*REQUEST[:2], (":path", "/")]), host="")
    data = block([*REQUEST, ("cookie", "c" * 300)])
    http2("continuation", "a block cut into HEADERS, an empty CONTINUATION and others, with padding and priority",
          BEFORE + frame(1, b"\x05" + bytes(5) + data[:3] + bytes(5), 0x8 | 0x20, 1) + frame(9, b"", 0, 1)
          + b"".join(frame(9, data[i:i + 1], 0, 1) for i in range(3, 40)) + frame(9, data[40:], 4, 1))
    http2("dynamic_value", ":authority in a table of 4,096 bytes that has thrown out others",
          raw(b"\x82\x87\x84" + b"\x41\x0fwww.example.com" + b"".join(b"\x40\x02x" + bytes([97 + i % 26]) + b"\x7f\x81\x01" + b"v" * 256
                                                                      for i in range(20))))
    http2("many_fields", "as many fields as are looked at", raw(b"\x82\x87\x84\x41\x0fwww.example.com" + b"\x90" * 508))
    http2("too_many_fields", "one more", raw(b"\x82\x87\x84\x41\x0fwww.example.com" + b"\x90" * 509), outcome="unknown", doubt="too-long")
    http2("table_size", "size updates before the first field", raw(b"\x20\x3f\xe1\x1f\x82\x87\x84\x41\x0fwww.example.com"))
    bad = {"outcome": "unknown"}
    http2("two_authorities", "two :authority", headers([*REQUEST, (":authority", "other.example")]), **bad)
    http2("differs", "host and :authority differ", headers([*REQUEST, ("host", "other.example")]), **bad)
    http2("two_hosts", "two host fields", headers([*REQUEST, ("host", "www.example.com"), ("host", "www.example.com")]), **bad)
    http2("indexed_twice", "the same :authority by index once more", raw(b"\x82\x87\x84\x41\x0fwww.example.com\xbe"), **bad)
    http2("pseudo_late", "a pseudo-field behind a field", headers([*REQUEST[:2], ("accept", "*/*"), *REQUEST[2:]]), **bad)
    http2("upper_case", "a field in upper case", raw(b"\x82\x87\x84\x41\x0fwww.example.com" + b"\x40\x04Host\x0dother.example"), **bad)
    http2("userinfo", "userinfo", headers([*REQUEST[:2], (":authority", "www.example.com@other.example")]), **bad)
    http2("dynamic_name", "a second host under a name out of the dynamic table",
          raw(b"\x82\x87\x84" + b"\x40\x04host\x0fwww.example.com" + b"\x0f\x2f\x0dother.example"), **bad)
    http2("evicted", "an index of what the table has thrown out", raw(b"\x82\x87\x84\x41\x0fwww.example.com\x40\x01a\x7f\xf1\x1e" + b"v" * 4080
                                                                     + b"\xbe"), **bad)
    http2("index_0", "index 0", raw(b"\x80"), **bad)
    http2("index_beyond", "an index beyond both tables", raw(b"\xbe"), **bad)
    http2("number", "an integer without end", raw(b"\xff" + b"\xff" * 20), **bad)
    http2("string_beyond", "a string beyond its block", raw(b"\x41\x7f\x01abc"), **bad)
    http2("huffman_eos", "the symbol EOS in a string", raw(b"\x41\x84\xff\xff\xff\xff"), **bad)
    http2("huffman_padding", "padding that is not ones", raw(b"\x41\x81\x00"), **bad)
    http2("table_too_large", "a table larger than what holds before a server has spoken", raw(b"\x3f\xe2\x1f\x82"), **bad)
    http2("table_size_late", "a size update behind a field", raw(b"\x82\x20\x41\x0fwww.example.com"), **bad)
    http2("no_settings", "a first frame other than SETTINGS", PREFACE + frame(6, bytes(8)), **bad)
    http2("data", "DATA before HEADERS", BEFORE + frame(0, b"x", 0, 1), **bad)
    http2("even_stream", "a stream of the server's", BEFORE + frame(1, data, 5, 2), **bad)
    http2("interleaved", "a frame between HEADERS and CONTINUATION", BEFORE + frame(1, data[:5], 0, 1) + frame(6, bytes(8)) + frame(9, data[5:], 4, 1), **bad)
    http2("padding", "padding longer than the frame", BEFORE + frame(1, b"\xff" + data, 0xC, 1), **bad)
    http2("frame_too_long", "a frame above 16 KiB", BEFORE + (16385).to_bytes(3, "big") + b"\x01\x04\0\0\0\x01" + bytes(20), **bad)
    http2("endless_continuation", "empty CONTINUATION frames without end", BEFORE + frame(1, data[:5], 0, 1) + frame(9, b"", 0, 1) * 4000,
          outcome="unknown", doubt="too-long")


def question(name, kind=1):
    return b"".join(vector(1, label) for label in name) + b"\0" + struct.pack("!HH", kind, 1)


def query(body, flags=0x0120, counts=(1, 0, 0, 1)):
    return struct.pack("!6H", 0x1234, flags, *counts) + body + (b"\0\0\x29\x04\xd0\0\0\0\0\0\0" if counts[3] else b"")


def compose_dns():
    def udp(name, about, message, **expected):
        write(f"composed_dns_{name}", about, [message], kind="datagrams", protocol=expected.pop("protocol", "dns"), **expected)

    sound = question([b"wWw", b"Example", b"com"])
    bad = {"outcome": "unknown", "doubt": "malformed"}
    other = {"outcome": "unknown", "protocol": "none", "doubt": "unrecognised"}
    udp("mixed_case", "0x20 randomisation", query(sound), host=HOST)
    udp("digits", "digits and dots are a name here", query(question([b"192", b"0", b"2", b"1"])), host="192.0.2.1")
    udp("dot_in_label", "a dot within a label", query(question([b"www.example", b"com"])), **bad)
    udp("control", "a control byte in a label", query(question([b"ww\nw", b"com"])), **bad)
    udp("pointer", "a compressed question", query(b"\xc0\x0c\0\x01\0\x01"), **bad)
    udp("cut", "a name that is cut off", query(sound, counts=(1, 0, 0, 0))[:-6], **bad)
    udp("long", "a name of more than 255 bytes", query(question([b"a" * 63] * 4)), **bad)
    udp("two_questions", "two questions", query(sound + sound, counts=(2, 0, 0, 0)), **other)
    udp("answer", "an answer", query(sound, flags=0x8180), **other)
    udp("update", "a dynamic update", query(sound, flags=0x2800), **other)
    udp("short", "fewer bytes than a header", b"\x12\x34\x01\0", **other)
    write("composed_dns_tcp_two", "two queries in a row over TCP", vector(2, query(sound)) * 2, protocol="dns", host=HOST)
    write("composed_dns_tcp_cut", "a question longer than its message", (20).to_bytes(2, "big") + query(sound), protocol="dns", **bad)


def compose_others():
    nobody = {"outcome": "unknown", "doubt": "unrecognised"}
    for name, about, stream in (
        ("smtp", "SMTP's client, if it spoke first", b"EHLO www.example.com\r\n"),
        ("irc", "IRC", b"NICK name\r\nUSER name 0 * :name\r\n"),
        ("redis", "Redis", b"*1\r\n$4\r\nPING\r\n"),
        ("postgresql", "PostgreSQL: SSLRequest", b"\0\0\0\x08\x04\xd2\x16\x2f"),
        ("smb", "SMB2 negotiate", b"\0\0\0\x54\xfeSMB" + bytes(80)),
        ("rdp", "RDP connection request", b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0"),
        ("mqtt", "MQTT connect", b"\x10\x0e\0\x04MQTT\x04\x02\0\x3c\0\x02id"),
        ("socks5", "SOCKS5", b"\x05\x01\0"),
        ("bittorrent", "BitTorrent", b"\x13BitTorrent protocol" + bytes(48)),
        ("proxy_v2", "PROXY protocol, version 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)),
        ("rtsp", "RTSP", b"OPTIONS rtsp://www.example.com/ RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
        ("ssh_version", "an SSH version that there is not", b"SSH-3.x-OpenSSH\r\n"),
    ):
        write(f"composed_other_{name}", about, stream, **nobody)
    write("composed_ssh_1_99", "SSH 1.99", b"SSH-1.99-PuTTY\r\n", protocol="ssh")


if __name__ == "__main__":
    for part in (compose_tls, compose_http1, compose_http2, compose_dns, compose_others):
        part()
