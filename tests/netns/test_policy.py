"""Rules decide about TCP connections: by what is known at once, or by the first bytes, which are only looked at."""

import contextlib
import subprocess
import time

import pytest

import limpid_process
from peers import exchange, read_exactly, read_to_end, wait_until
from policy_peers import at, client_hello

pytestmark = pytest.mark.usefixtures("lab")


def is_reset(connection):
    with pytest.raises(ConnectionResetError):
        while connection.recv(65536):
            pass
    return True


def pieces(data, size):
    return [data[at_byte:at_byte + size] for at_byte in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1 << 16, 100, 7], ids=["whole", "hundreds", "sevens"])
def test_a_name_in_tls_decides_however_it_is_cut(lab, start, configure, size):
    limpid = start("-c", configure(tcp=443, rules=["domain(suffix: blocked.example) -> reject",
                                                   f"domain(exact: moved.example) -> target({at(lab.server.address, 8443)})",
                                                   "otherwise -> direct"]), "--sniff-timeout", "10s")
    direct, moved = lab.server.listen(443), lab.server.listen(8443)
    for name, listener in (("www.example", direct), ("moved.example", moved)):
        hello = client_hello(name)
        client = lab.client.connect(lab.server.address, 443)
        client.setsockopt(6, 1, 1)  # TCP_NODELAY
        for piece in pieces(hello, size):
            client.sendall(piece)
        server, _ = listener.accept()
        with server:
            server.settimeout(10)
            assert read_exactly(server, len(hello)) == hello, "nothing is taken away"
            server.sendall(b"answer")
            assert read_exactly(client, 6) == b"answer"
        client.close()
    client = lab.client.connect(lab.server.address, 443)
    with contextlib.suppress(OSError):
        for piece in pieces(client_hello("a.b.Blocked.example"), size):
            client.sendall(piece)
    assert is_reset(client)
    flows = {flow["name"]: flow for flow in limpid.flows(3)}
    assert {name: (flow["rule"], flow["app"], flow["end"]) for name, flow in flows.items()} == {
        "www.example": ("3", "tls", "closed"), "moved.example": ("2", "tls", "closed"),
        "a.b.blocked.example": ("1", "tls", "rejected")}
    assert flows["moved.example"]["target"] == at(lab.server.address, 8443)
    assert flows["a.b.blocked.example"]["target"] == "-"
    counters = limpid.counters()
    assert (counters["rule_1"], counters["rule_2"], counters["rule_3"]) == (1, 1, 1)
    assert (counters["sniffed"], counters["sniffed_unknown"], counters["rejected"]) == (3, 0, 1)


def test_curl_is_served_by_name(lab, start, configure, need, tmp_path):
    """A real handshake, to its end: what was looked at arrives at the server unharmed."""
    need("curl", "curl")
    need("openssl", "openssl")
    limpid = start("-c", configure(tcp=443, rules=["domain(blocked.example) -> reject", "otherwise -> direct"]))
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    lab.server.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                   "-subj", "/CN=www.example", "-keyout", key, "-out", certificate)
    lab.server.start(["openssl", "s_server", "-accept", "443", "-key", key, "-cert", certificate, "-www", "-quiet"],
                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: ":443 " in lab.server.run("ss", "-Hltn").stdout, "s_server listens")

    def fetch(name):
        return lab.client.run("curl", "-sk", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code}", "--resolve",
                              f"{name}:443:{lab.server.address}", f"https://{name}/", check=False)

    assert fetch("www.example").stdout == "200"
    assert fetch("blocked.example").returncode == 35, "the connection is reset in the handshake"
    assert {(flow["name"], flow["end"]) for flow in limpid.flows(2)} == {("www.example", "closed"), ("blocked.example", "rejected")}


def test_an_http_host_decides(lab, start, configure, echo):
    limpid = start("-c", configure(tcp=80, rules=["app(http) && domain(keyword: ads) -> reject", "otherwise -> direct"]))
    echo(80)
    for host, refused in ((b"www.example", False), (b"ads.example", True)):
        client = lab.client.connect(lab.server.address, 80)
        request = b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
        client.sendall(request)
        if refused:
            assert is_reset(client)
        else:
            assert read_exactly(client, len(request)) == request
        client.close()
    assert {(flow["app"], flow["name"], flow["rule"]) for flow in limpid.flows(2)} == {("http", "www.example", "2"), ("http", "ads.example", "1")}


def test_a_client_of_ssh_is_known(lab, start, configure):
    start("-c", configure(tcp=22, rules=["app(ssh) -> reject", "otherwise -> direct"]))
    lab.server.listen(22)
    client = lab.client.connect(lab.server.address, 22)
    client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    assert is_reset(client)


def test_a_server_that_speaks_first_is_not_held_beyond_the_timeout(lab, start, configure):
    limpid = start("-c", configure(tcp=25, rules=["domain(blocked.example) -> reject", "app(unknown) -> direct", "otherwise -> reject"],
                                   **{"sniff-timeout": "500ms"}))
    listener = lab.server.listen(25)
    began = time.monotonic()
    client = lab.client.connect(lab.server.address, 25)
    server, _ = listener.accept()
    assert 0.4 < time.monotonic() - began < 5
    with server:
        server.sendall(b"220 mail.example\r\n")
        assert read_exactly(client, 18) == b"220 mail.example\r\n"
        client.sendall(b"EHLO\r\n")
        assert read_exactly(server, 6) == b"EHLO\r\n"
    client.close()
    flow = limpid.flow()
    assert (flow["app"], flow["name"], flow["rule"]) == ("unknown", "-", "2")
    assert limpid.counters()["sniffed_unknown"] == 1


def test_nobody_waits_for_a_name_that_decides_nothing(lab, start, configure):
    """A server that speaks first, and a minute of patience: the rule before the names decides."""
    limpid = start("-c", configure(tcp=25, rules=["dst(@mail) -> direct", "domain(blocked.example) -> reject", "otherwise -> direct"],
                                   sets={"mail": [lab.server.address]}, **{"sniff-timeout": "30s"}))
    connection = lab.dial_relayed(lab.server.listen(25))
    connection.server.sendall(b"220\r\n")
    assert read_exactly(connection.client, 5) == b"220\r\n"
    connection.client.close()
    connection.server.close()
    flow = limpid.flow()
    assert flow["rule"] == "1" and "app" not in flow
    assert limpid.counters()["sniffed"] == 0


def test_early_ends_of_clients(lab, start, configure):
    """Half a hello and a FIN: unknown, and served. A reset: nobody is called. Nothing is left of either."""
    limpid = start("-c", configure(tcp=443, rules=["domain(blocked.example) -> reject", "otherwise -> direct"]), "--sniff-timeout", "30s")
    listener = lab.server.listen(443)
    before = limpid.descriptors()
    half = client_hello("blocked.example")[:60]
    client = lab.client.connect(lab.server.address, 443)
    client.sendall(half)
    client.shutdown(1)
    server, _ = listener.accept()
    with server:
        assert read_to_end(server) == half
        server.sendall(b"bye")
    assert read_to_end(client) == b"bye"
    client = lab.client.connect(lab.server.address, 443)
    wait_until(lambda: limpid.counters()["sniffed"] == 2, "it is looked at")
    client.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER
    client.close()
    flows = {flow["end"]: flow for flow in limpid.flows(2)}
    assert set(flows) == {"closed", "client_reset"}
    assert flows["client_reset"]["target"] == "-"
    wait_until(lambda: limpid.descriptors() == before, "all descriptors are closed")


def test_clients_that_drip_hold_up_nobody(lab, start, configure):
    limpid = start("-c", configure(tcp=443, rules=["domain(blocked.example) -> reject", "otherwise -> direct"]), "--workers", "1",
                   "--sniff-timeout", "1s")
    listener = lab.server.listen(443)
    hello = client_hello("www.example")
    dripping = [lab.client.connect(lab.server.address, 443) for _ in range(50)]
    for byte in hello[:20]:
        for client in dripping:
            client.sendall(bytes([byte]))
    client = lab.client.connect(lab.server.address, 443)
    client.sendall(hello)
    wait_until(lambda: limpid.counters()["sniffed"] == 51, "all are there")
    for _ in range(51):
        server, _ = listener.accept()
        server.close()
    counters = limpid.counters()
    assert counters["sniffed_unknown"] == 50, "they are decided about when the time is over"


def test_rejected_and_dropped_at_once(lab, start, configure):
    limpid = start("-c", configure(tcp="80,81", rules=["dport(80) -> reject", "dport(81) -> drop", "otherwise -> direct"]))
    listeners = [lab.server.listen(80), lab.server.listen(81)]
    client = lab.client.socket()
    with contextlib.suppress(ConnectionResetError):
        client.connect((lab.server.address, 80))
        assert is_reset(client)
    dropped = lab.client.connect(lab.server.address, 81)
    dropped.sendall(b"hello?")
    dropped.settimeout(0.5)
    with pytest.raises(TimeoutError):
        dropped.recv(1)
    dropped.close()
    assert sorted((flow["end"], flow["rule"]) for flow in limpid.flows(2)) == [("dropped", "2"), ("rejected", "1")]
    for listener in listeners:
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()
    counters = limpid.counters()
    assert (counters["dropped"], counters["rejected"]) == (1, 1)


def test_bypassed_traffic_never_comes_to_user_space(lab, start, configure):
    """Destinations, ports, clients: each by itself is told to the kernel."""
    other = {"ipv4": "10.0.0.0/8", "ipv6": "fd00::/8"}[lab.family]
    mask = {"ipv4": "/32", "ipv6": "/128"}[lab.family]
    for number, (rule, port) in enumerate(((f"dst({lab.server.address}) -> bypass", 80), ("dport(81) -> bypass", 81),
                                           (f"src({lab.client.address}{mask}) -> bypass", 80), (f"!dst({other}) -> bypass", 80))):
        limpid = start("-c", configure(tcp="80,81", rules=[rule, "domain(x.example) -> reject", "otherwise -> direct"]), "--name", f"n{number}")
        connection = lab.dial(lab.server.listen(port))
        assert connection.was_forwarded, rule
        exchange(connection.client, connection.server)
        assert limpid.counters()["flows_total"] == 0
        connection.client.close()
        connection.server.close()
        assert limpid.stop() == 0
        lab.server.run("ss", "-K", "state", "all", check=False)


def test_many_networks_are_bypassed_in_the_kernel(lab, start, configure):
    """A set of networks becomes a set of the kernel's; with more than it is told, it is relayed."""
    networks = [f"10.{number >> 8}.{number & 255}.0/25" if lab.family == "ipv4" else f"fd00:{number:x}::/33" for number in range(5000)]
    limpid = start("-c", configure(tcp=80, rules=["dst(@many) -> bypass", "otherwise -> direct"], sets={"many": [*networks, lab.server.address]}))
    listener = lab.server.listen(80)
    iptables = limpid_process.BACKEND.startswith("iptables")
    assert lab.dial(listener).was_forwarded != iptables
    assert ("at most 1000 are told to the kernel" in limpid.messages) == iptables


def test_a_bypass_that_the_kernel_cannot_be_told_is_relayed(lab, start, configure):
    limpid = start("-c", configure(tcp=80, rules=["domain(blocked.example) -> reject", f"dst({lab.server.address}) -> bypass", "otherwise -> drop"]))
    connection_to = lab.server.listen(80)
    client = lab.client.connect(lab.server.address, 80)
    client.sendall(b"GET / HTTP/1.1\r\nHost: www.example\r\n\r\n")
    server, _ = connection_to.accept()
    server.close()
    client.close()
    assert limpid.flow()["rule"] == "2"
    assert "not in the kernel" in limpid.messages and "rule 1 may decide some of it" in limpid.messages


def test_a_target_on_the_router_sees_the_routers_address(lab, start, configure):
    loopback = {"ipv4": "127.0.0.1", "ipv6": "::1"}[lab.family]
    limpid = start("-c", configure(tcp=80, rules=[f"dport(80) -> target({at(loopback, 8080)})"]))
    connection = lab.dial(lab.router.listen(8080, address=loopback), port=80)
    exchange(connection.client, connection.server)
    assert connection.seen[0] == loopback
    connection.client.close()
    connection.server.close()
    assert limpid.flow()["source"] == "none"


def test_a_flow_that_was_looked_at_can_leave(lab, start, configure):
    """Cut-through, after the decision: nothing was consumed. What it said while it was young may have been a burst, after which one end knows of
    more room than the other has: then it leaves when it talks again."""
    limpid = start("-c", configure(tcp=443, rules=["domain(blocked.example) -> reject", "otherwise -> direct"]), "--cut-through", "auto")
    listener = lab.server.listen(443)
    hello = client_hello("www.example")
    client = lab.client.connect(lab.server.address, 443)
    client.sendall(hello)
    server, _ = listener.accept()
    server.settimeout(10)
    assert read_exactly(server, len(hello)) == hello
    exchange(client, server, count=100_000)
    if not limpid.counters().get("cut_through"):
        if "cut-through" in limpid.messages and "level=warning" in limpid.messages:
            pytest.skip("this build or kernel cannot cut through")
        wait_until(lambda: exchange(client, server, count=100_000) or limpid.counters()["cut_through"] == 1, "it leaves")
    exchange(client, server, count=100_000, seed=5)
    client.close()
    server.close()
    flow = limpid.flow()
    assert (flow["cut_through"], flow["name"], flow["app"], flow["rule"]) == ("yes", "www.example", "tls", "2")
