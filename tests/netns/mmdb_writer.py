"""Writes MaxMind DB files (https://maxmind.github.io/MaxMind-DB/, version 2.0), as small as tests need them: a tree of IPv6 with IPv4 at ::/96 and, as the real ones
have it, once more at ::ffff:0:0/96."""

import ipaddress
import struct

_MARKER = b"\xab\xcd\xefMaxMind.com"
_UINT16, _UINT64 = "uint16", "uint64"


def _control(kind, size):
    assert size < 285
    first, more = (size, b"") if size < 29 else (29, bytes([size - 29]))
    return (bytes([kind << 5 | first]) if kind <= 7 else bytes([first, kind - 7])) + more


def _number(kind, value, size):
    digits = value.to_bytes(size, "big").lstrip(b"\0")
    return _control(kind, len(digits)) + digits


def _encode(value):
    if isinstance(value, dict):
        return _control(7, len(value)) + b"".join(_encode(key) + _encode(each) for key, each in value.items())
    if isinstance(value, list):
        return _control(11, len(value)) + b"".join(map(_encode, value))
    if isinstance(value, str):
        return _control(2, len(value.encode())) + value.encode()
    if isinstance(value, tuple):
        kind, number = value
        return _number(5, number, 2) if kind == _UINT16 else _number(9, number, 8)
    return _number(6, value, 4)


class _Tree:
    def __init__(self):
        self.nodes = [[None, None]]  # None, ("data", offset) or a node's number

    def descend(self, bits):
        """The node at the end of `bits`, made where it is missing."""
        node = 0
        for bit in bits:
            if self.nodes[node][bit] is None:
                self.nodes.append([None, None])
                self.nodes[node][bit] = len(self.nodes) - 1
            node = self.nodes[node][bit]
        return node

    def set(self, bits, what):
        self.nodes[self.descend(bits[:-1])][bits[-1]] = what


def _bits_of(network):
    number, length = int(network.network_address), network.prefixlen
    if network.version == 4:
        length += 96
    return [number >> (127 - i) & 1 for i in range(length)]


def write_mmdb(path, networks, kind):
    """`networks`: text of a network → its data."""
    tree, data = _Tree(), b""
    for text, entry in networks.items():
        tree.set(_bits_of(ipaddress.ip_network(text)), ("data", len(data)))
        data += _encode(entry)
    ipv4 = tree.descend([0] * 96)
    tree.set(_bits_of(ipaddress.ip_network("::ffff:0:0/96")), ipv4)
    count = len(tree.nodes)

    def record(what):
        if what is None:
            return count
        return count + 16 + what[1] if isinstance(what, tuple) else what

    search = b"".join(struct.pack(">I", record(side))[1:] for node in tree.nodes for side in node)
    metadata = {"node_count": count, "record_size": (_UINT16, 24), "ip_version": (_UINT16, 6), "database_type": kind, "languages": ["en"],
                "binary_format_major_version": (_UINT16, 2), "binary_format_minor_version": (_UINT16, 0), "build_epoch": (_UINT64, 1),
                "description": {"en": "of a test"}}
    # Replaced, not overwritten: whoever reads the old one goes on reading it.
    fresh = path.with_suffix(".new")
    fresh.write_bytes(search + b"\0" * 16 + data + _MARKER + _encode(metadata))
    fresh.rename(path)


def countries(path, **networks):
    """countries(path, DE=["192.0.2.0/24"]): the second half of the list of each is only registered there."""
    entries = {}
    for code, listed in networks.items():
        for i, network in enumerate(listed):
            key = "country" if i * 2 < len(listed) else "registered_country"
            entries[network] = {"continent": {"code": "EU"}, key: {"iso_code": code, "names": {"en": "x" * 40}}}
    write_mmdb(path, entries, "Test-Country")


def systems(path, networks):
    """systems(path, {64496: ["192.0.2.0/24"]})"""
    write_mmdb(path, {network: {"autonomous_system_number": number, "autonomous_system_organization": "Test"}
                      for number, listed in networks.items() for network in listed}, "Test-ASN")
