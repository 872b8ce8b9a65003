"""Examples of configurations at work, with the very files, in which only addresses and ports are the lab's: caching with Squid, the load balancer."""

import contextlib
import os
from email.utils import formatdate

import pytest

from peers import wait_until
from real_proxies import squid
from test_config_examples import EXAMPLES
from upstream_peers import HostileServer, NEEDS, Peer, at, http_get, nginx

FOLDER = EXAMPLES[0].parent


def adapted(name, folder, **replacements):
    """The example's text with other addresses. Each must be there: an example that changes must change its test."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    for before, after in replacements.values():
        assert before in text, f"{name} has no {before}"
        text = text.replace(before, after)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def peers():
    with contextlib.ExitStack() as stack:
        yield lambda peer: stack.callback(peer.kill) and None or peer


def network_of(lab):
    return {"ipv4": "192.0.2.0/24", "ipv6": "2001:db8:1::/64"}[lab.family]


def test_caching_with_squid(lab, start, need, tmp_path, folder, peers):
    need(*NEEDS["squid"])
    hosts = folder / "squid.hosts"
    hosts.write_text(f"{lab.server.address} www.example\n")
    configuration = folder / "cache.conf"
    configuration.write_text(
        f"http_port {at(lab.server.address, 3129)} accel vhost allow-direct require-proxy-header\n"
        f"acl limpid src {lab.wan}\nproxy_protocol_access allow limpid\nacl house src {network_of(lab)}\nhttp_access allow house\n"
        f"http_port 127.0.0.1:3130\nhosts_file {hosts}\ncache_mem 8 MB\naccess_log none\ncache_log /dev/null\npid_filename none\nvisible_hostname cache\n"
        "shutdown_lifetime 0 seconds\npinger_enable off\nnetdb_filename none\ncache_store_log none\nlogfile_rotate 0\nmax_filedescriptors 1024\n")
    cache = peers(Peer(lab.server, folder, "squid", 3129, squid(f"ca{os.getpid()}", configuration)))
    path = adapted("caching-squid.toml", tmp_path, network=("192.168.7.0/24", network_of(lab)),
                   server=("proxy-v2://192.168.7.3:3129", f"proxy-v2://{at(lab.server.address, 3129)}"),
                   source=('"192.168.7.1"', f'"{lab.wan}"'), itself=("src(192.168.7.3)", "src(192.0.2.77)"))
    limpid = start("-c", path)

    def answer(connection):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nDate: " + formatdate(usegmt=True).encode() + b"\r\nCache-Control: max-age=600\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")

    origin = HostileServer(lab.server, 80, answer)
    try:
        def get():
            with lab.client.connect(lab.server.address, 80) as connection:
                connection.sendall(b"GET /page HTTP/1.1\r\nHost: www.example\r\nConnection: close\r\n\r\n")
                received = bytearray()
                while data := connection.recv(4096):
                    received += data
                return bytes(received)

        first = get()
        assert first.startswith(b"HTTP/1.1 200 ") and first.endswith(b"\r\n\r\nhello") and b"cache" in first, first
        asked = origin.accepted
        for _ in range(3):
            assert b"X-Cache: HIT from cache" in get()
        assert origin.accepted == asked == 1, "the origin is asked once"
        flows = limpid.flows(4)
        assert all(flow["app"] == "http" and flow["upstream"] == f"proxy-v2://{at(lab.server.address, 3129)}" for flow in flows)
        # Without the cache, the origin itself.
        cache.kill()
        wait_until(lambda: get().endswith(b"hello") and origin.accepted > 1, "it is served without")
        assert limpid.flows(5)[4]["upstream"] == "direct"
    finally:
        origin.stop()


def test_a_load_balancer(lab, start, need, tmp_path, folder, peers):
    need(*NEEDS["nginx"])
    # The service's address is routed through the router, and is on no host.
    service = {"ipv4": "203.0.113.10", "ipv6": "2001:db8:9::10"}[lab.family]
    lab.router.run("ip", *(["-6"] if lab.family == "ipv6" else []), "route", "add", service, "via", lab.server.address, "dev", "wan")
    backends = []
    for number in (1, 2):
        port = 8080 + number
        own = folder / f"nginx-{number}"
        own.mkdir()
        address = at({"ipv4": "0.0.0.0", "ipv6": "::"}[lab.family], port)
        backends.append(peers(nginx(lab.server, own, port, f"listen {address} proxy_protocol; location / {{ return 200 'backend {number} for $proxy_protocol_addr'; }}")))
    path = adapted("load-balancer.toml", tmp_path, service=("203.0.113.10", service), first=("10.0.0.11:8080", at(lab.server.address, 8081)),
                   second=("10.0.0.12:8080", at(lab.server.address, 8082)), interval=('check = "2s,2,2"', 'check = "100ms,1,1"'),
                   first_tls=("10.0.0.11:8443", at(lab.server.address, 8081)), second_tls=("10.0.0.12:8443", at(lab.server.address, 8082)))
    limpid = start("-c", path)

    def ask(address):
        with lab.client.socket() as connection:
            connection.settimeout(10)
            connection.bind((address, 0))
            connection.connect((service, 80))
            return http_get(connection)

    clients = [lab.client.address]
    for host in range(20, 32):
        address = lab.client.address.rsplit(":" if lab.family == "ipv6" else ".", 1)[0] + (f":{host}" if lab.family == "ipv6" else f".{host}")
        lab.client.run("ip", "address", "add", f"{address}/{64 if lab.family == 'ipv6' else 24}", "dev", "eth0", *(["nodad"] if lab.family == "ipv6" else []))
        clients.append(address)
    before = {client: ask(client) for client in clients}
    assert all(said.endswith(f" for {client}") for client, said in before.items()), before
    assert {said.split()[1] for said in before.values()} == {"1", "2"}, "both serve"
    assert {client: ask(client) for client in clients} == before, "a client keeps its server"
    backends[0].kill()
    wait_until(lambda: limpid.messages.count("an upstream is down") == 2, "it is noticed, in both groups")
    for client, said in before.items():
        now = ask(client)
        assert now == f"backend 2 for {client}"
        assert said.startswith("backend 1") or now == said
