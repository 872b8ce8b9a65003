"""The PROXY protocol: written in front of the original destination for HAProxy and nginx, and read from those who may introduce clients."""

import socket
import struct

import pytest

from peers import exchange, read_exactly
from upstream_peers import NEEDS, at, haproxy, http_get, nginx

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
OTHERS = {"ipv4": "192.0.2.77", "ipv6": "2001:db8:1::77"}


def header(version, source, port, destination, destination_port):
    ipv6 = ":" in source
    if version == 1:
        return f"PROXY TCP{6 if ipv6 else 4} {source} {destination} {port} {destination_port}\r\n".encode()
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    addresses = socket.inet_pton(family, source) + socket.inet_pton(family, destination) + struct.pack("!HH", port, destination_port)
    return SIGNATURE + bytes([0x21, 0x21 if ipv6 else 0x11]) + struct.pack("!H", len(addresses)) + addresses


def network(lab):
    return f"{lab.client.address}/{128 if lab.family == 'ipv6' else 32}"


@pytest.mark.parametrize("source", ["none", "address"])
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("program", ["haproxy", "nginx"])
def test_servers_hear_who_the_client_is(lab, start, folder, need, program, version, source):
    need(*NEEDS[program])
    if program == "haproxy":
        peer = haproxy(lab.server, folder, 80, f"frontend f\n    mode http\n    bind {at(lab.server.address, 80)} accept-proxy\n"
                       '    http-request return status 200 content-type text/plain lf-string "%[src]:%[src_port] %[dst]:%[dst_port]"\n')
    else:
        peer = nginx(lab.server, folder, 80, f"listen {at(lab.server.address, 80)} proxy_protocol; location / {{ "
                     'return 200 "$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_addr:$proxy_protocol_server_port"; }')
    limpid = start("--tcp", "80", "--source", source, "--upstream", f"proxy-{version}://")
    client = lab.client.connect(lab.server.address, 80, source_port=lab.client_port())
    address, port = client.getsockname()[:2]
    assert http_get(client) == f"{address}:{port} {lab.server.address}:80"
    client.close()
    assert limpid.flow()["upstream"] == f"proxy-{version}://"
    peer.kill()


@pytest.fixture
def other(lab):
    """Another address of the client's, which it does not choose by itself."""
    address = OTHERS[lab.family]
    lab.client.run("ip", "addr", "add", f"{address}/{64 if lab.family == 'ipv6' else 24}", "dev", "eth0", *(["nodad", "preferred_lft", "0"] if lab.family == "ipv6" else []))
    return address


@pytest.mark.parametrize("pieces", ["whole", "bytes", "with the flow"])
@pytest.mark.parametrize("version", [1, 2])
def test_the_named_client_is_the_source(lab, start, other, version, pieces):
    limpid = start("--tcp", "80", "--accept-proxy-from", network(lab))
    listener = lab.server.listen(80)
    client = lab.client.connect(lab.server.address, 80)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    text = header(version, other, 4711, lab.server.address, 80)
    if pieces == "with the flow":
        text += b"first words"
    for piece in [bytes([byte]) for byte in text] if pieces == "bytes" else [text]:
        client.sendall(piece)
    server, seen = listener.accept()
    server.settimeout(10)
    assert seen[0] == other
    if pieces == "with the flow":
        assert read_exactly(server, 11) == b"first words"
    exchange(client, server)
    client.close()
    server.close()
    flow = limpid.flow()
    assert (flow["client"], flow["end"]) == (at(other, 4711), "closed")


def test_who_names_nobody_is_the_client_himself(lab, start):
    start("--tcp", "80", "--accept-proxy-from", network(lab))
    listener = lab.server.listen(80)
    for text in (b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\0\0\0"):
        client = lab.client.connect(lab.server.address, 80)
        client.sendall(text)
        server, seen = listener.accept()
        assert seen[0] == lab.client.address
        server.settimeout(10)
        exchange(client, server)


def test_from_others_a_header_is_data(lab, start, other):
    start("--tcp", "80", "--accept-proxy-from", other)
    connection = lab.dial_relayed(lab.server.listen(80))
    text = header(1, other, 4711, lab.server.address, 80)
    connection.client.sendall(text)
    assert read_exactly(connection.server, len(text)) == text
    assert connection.seen[0] == lab.client.address


@pytest.mark.parametrize("text", [b"GET / HTTP/1.1\r\n", b"PROXY TCP4 1.2.3.4\r\n", SIGNATURE + b"\x21\x11\xff\xff", b"PROXY " + b"x" * 200],
                         ids=["none", "short", "long", "endless"])
def test_who_sends_no_header_is_refused(lab, start, text):
    limpid = start("--tcp", "80", "--accept-proxy-from", network(lab))
    lab.server.listen(80)
    client = lab.client.connect(lab.server.address, 80)
    client.sendall(text)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert limpid.flow()["end"] == "refused_proxy_header"


def test_who_says_nothing_is_refused_in_time(lab, start):
    limpid = start("--tcp", "80", "--accept-proxy-from", network(lab), "--connect-timeout", "300ms")
    client = lab.client.connect(lab.server.address, 80)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    half = lab.client.connect(lab.server.address, 80)
    half.sendall(b"PROXY TCP")
    half.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError):
        half.recv(1)
    assert {flow["end"] for flow in limpid.flows(2)} == {"refused_proxy_header"}


def test_haproxy_introduces_its_clients(lab, start, folder, need, other):
    """As mmproxy does it: HAProxy sends the header, and the server sees the client itself."""
    need(*NEEDS["haproxy"])
    peer = haproxy(lab.client, folder, 8000, f"listen l\n    mode tcp\n    bind {at(lab.client.address, 8000)}\n"
                   f"    server s {at(lab.server.address, 80)} send-proxy-v2\n")
    limpid = start("--tcp", "80", "--accept-proxy-from", network(lab))
    listener = lab.server.listen(80)
    client = lab.client.socket()
    client.bind((other, 0))
    client.connect((lab.client.address, 8000))
    server, seen = listener.accept()
    server.settimeout(10)
    assert seen[0] == other
    exchange(client, server, count=50_000)
    client.close()
    server.close()
    assert limpid.flow()["client"].startswith(other if lab.family == "ipv4" else f"[{other}")
    peer.kill()


def test_the_plain_relay_reads_it_too(lab, relay):
    limpid = relay("8080", lab.server.address, "80", "--accept-proxy-from", network(lab))
    listener = lab.server.listen(80)
    client = lab.client.connect(lab.router.address, 8080)
    client.sendall(header(2, OTHERS[lab.family], 4711, lab.server.address, 80))
    server, _ = listener.accept()
    server.settimeout(10)
    exchange(client, server)
    client.close()
    server.close()
    assert limpid.flow()["client"] == at(OTHERS[lab.family], 4711)


def test_both_at_one_time(lab, start, folder, need, other):
    """A header comes in, and one goes out."""
    need(*NEEDS["haproxy"])
    peer = haproxy(lab.server, folder, 80, f"frontend f\n    mode http\n    bind {at(lab.server.address, 80)} accept-proxy\n"
                   '    http-request return status 200 content-type text/plain lf-string "%[src]:%[src_port]"\n')
    limpid = start("--tcp", "80", "--source", "none", "--accept-proxy-from", network(lab), "--upstream", "proxy-v2://")
    client = lab.client.connect(lab.server.address, 80)
    client.sendall(header(1, other, 4711, lab.server.address, 80))
    assert http_get(client) == f"{other}:4711"
    client.close()
    flow = limpid.flow()
    assert (flow["client"], flow["upstream"]) == (at(other, 4711), "proxy-v2://")
    peer.kill()
