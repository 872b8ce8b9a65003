"""The router itself: its services stay reachable, and Limpid never dials itself."""

import pytest

from peers import exchange, wait_until

LISTENER = 40123
LOCAL_NETWORK = {"ipv4": "203.0.113.0/28", "ipv6": "2001:db8:77::/64"}
IN_LOCAL_NETWORK = {"ipv4": "203.0.113.5", "ipv6": "2001:db8:77::5"}


@pytest.fixture
def local_addresses(lab):
    """Every kind of address that the router answers to, one of them only by a route."""
    lab.router.run("ip", "route", "add", "local", LOCAL_NETWORK[lab.family], "dev", "lo")
    loopback = {"ipv4": "127.0.0.1", "ipv6": "::1"}[lab.family]
    return [lab.router.address, lab.wan, IN_LOCAL_NETWORK[lab.family], loopback]


@pytest.mark.parametrize("fail", ["open", "closed"])
def test_destinations_on_the_router_are_never_captured(lab, start, local_addresses, fail):
    """The admin's own SSH session, for one: old and new."""
    listener = lab.router.listen(22)
    old = lab.client.connect(lab.router.address, 22)
    old_accepted, _ = listener.accept()
    limpid = start("--tcp", "1-65535", "--fail", fail)
    exchange(old, old_accepted, 1)
    lab.dial_relayed(lab.server.listen(22))  # the same port elsewhere is captured
    for address in local_addresses[:3]:
        connection = lab.client.connect(address, 22, source_port=lab.client_port())
        accepted, seen = listener.accept()
        assert seen[:2] == connection.getsockname()[:2]
        exchange(connection, accepted)
        accepted.close()
    limpid.kill()
    exchange(old, old_accepted, 2)
    exchange(lab.client.connect(lab.router.address, 22), listener.accept()[0])
    old_accepted.close()


def fails_at_once(host, address, port):
    """True when a connection is refused, or accepted only to be reset."""
    try:
        connection = host.connect(address, port, timeout=2)
        connection.settimeout(2)
        connection.sendall(b"hello?")
        return connection.recv(100) == b""
    except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
        return True


@pytest.mark.parametrize("source", ["none", "address", "address+port"])
@pytest.mark.parametrize("caller", ["client", "router"])
def test_the_listeners_own_port_on_every_local_address(lab, start, local_addresses, caller, source):
    limpid = start("--tcp", "1-65535", "--listen-port", LISTENER, "--source", source)
    host = getattr(lab, caller)
    before = limpid.descriptors()
    addresses = local_addresses if caller == "router" else local_addresses[:3]
    for _ in range(5):
        for address in addresses:
            assert fails_at_once(host, address, LISTENER), address
    wait_until(lambda: limpid.descriptors() <= before, "the descriptors are flat")
    reached = 5 if caller == "router" else 0  # the loopback address alone has a listener
    counters = limpid.counters()
    assert counters.get("refused_direct", 0) + counters.get("refused_self", 0) == reached
    assert counters["flows_total"] <= reached
    connection = lab.dial(lab.server.listen(80))
    exchange(connection.client, connection.server)


def test_the_listeners_port_number_on_another_host_is_just_a_port(lab, start):
    start("--tcp", "1-65535", "--listen-port", LISTENER)
    connection = lab.dial(lab.server.listen(LISTENER))
    assert not connection.was_forwarded
    exchange(connection.client, connection.server)


@pytest.mark.parametrize("target_family", ["ipv4", "ipv6"])
def test_a_target_that_is_the_listener_is_refused(lab, launch, target_family):
    """At the start or for every flow; never by a loop."""
    target = {"ipv4": f"127.0.0.1:{LISTENER}", "ipv6": f"[::1]:{LISTENER}"}[target_family]
    limpid = launch("--tcp", "80", "--listen-port", LISTENER, "--target", target, "--workers", 2)
    wait_until(lambda: "intercepting" in limpid.messages or limpid.process.poll() is not None, "it starts or refuses")
    if limpid.process.poll() is not None:
        assert limpid.process.returncode == 2, limpid.messages
        return
    before = limpid.descriptors()
    for _ in range(10):
        assert fails_at_once(lab.client, lab.server.address, 80)
    wait_until(lambda: limpid.descriptors() <= before, "the descriptors are flat")
    counters = limpid.counters()
    assert counters["refused_self"] == 10
    assert counters["flows_total"] == 10
    assert {flow["end"] for flow in limpid.flows(10)} == {"refused_self"}


def test_a_target_on_the_routers_other_addresses_loops_nowhere(lab, start, local_addresses):
    """Nobody listens there with the listener's port: refused by the kernel, not by a loop."""
    address = local_addresses[1]
    target = f"[{address}]:{LISTENER}" if ":" in address else f"{address}:{LISTENER}"
    limpid = start("--tcp", "1-65535", "--listen-port", LISTENER, "--target", target, "--source", "none")
    before = limpid.descriptors()
    for _ in range(10):
        assert fails_at_once(lab.client, lab.server.address, 80)
    wait_until(lambda: limpid.descriptors() <= before, "the descriptors are flat")
    assert limpid.counters()["flows_total"] == 10


def test_what_the_router_says_itself_is_not_captured(lab, start):
    start("--tcp", "1-65535")
    listener = lab.server.listen(80)
    lab.dial_relayed(listener)
    connection = lab.router.connect(lab.server.address, 80, source_port=lab.client_port())
    accepted, seen = listener.accept()
    assert seen[:2] == connection.getsockname()[:2]
    exchange(connection, accepted)
    accepted.close()


def test_a_target_served_by_the_router_itself(lab, start):
    """The other proxy on the same host: dialled, with the client's address, and its answers come back."""
    listener = lab.router.listen(3128, address={"ipv4": "127.0.0.1", "ipv6": "::1"}[lab.family])
    start("--tcp", "80", "--target", {"ipv4": "127.0.0.1:3128", "ipv6": "[::1]:3128"}[lab.family], "--source", "none")
    connection = lab.dial(listener, address=lab.server.address, port=80)
    exchange(connection.client, connection.server)


def test_listeners_cannot_be_reached_across_the_network(lab, start):
    start("--tcp", "80", "--listen-port", LISTENER)
    for address in (lab.router.address, lab.wan):
        with pytest.raises(ConnectionRefusedError):
            lab.client.connect(address, LISTENER)
