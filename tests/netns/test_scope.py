"""Which connections are taken, and which are none of Limpid's business."""

import pytest

from peers import exchange

OTHER_CLIENT = {"ipv4": "192.0.2.3", "ipv6": "2001:db8:1::3"}
OTHER_SERVER = {"ipv4": "198.51.100.9", "ipv6": "2001:db8:2::9"}


@pytest.fixture
def wide_lab(lab):
    """A lab whose client and server have a second address each."""
    length = {"ipv4": 24, "ipv6": 64}[lab.family]
    lab.client.run("ip", "addr", "add", f"{OTHER_CLIENT[lab.family]}/{length}", "dev", "eth0",
                   *(["nodad", "preferred_lft", "0"] if lab.family == "ipv6" else []))
    lab.server.run("ip", "addr", "add", f"{OTHER_SERVER[lab.family]}/{length}", "dev", "eth0",
                   *(["nodad", "preferred_lft", "0"] if lab.family == "ipv6" else []))
    return lab


def taken(lab, port, address=None):
    listener = lab.server.listen(port)
    connection = lab.dial(listener, address=address)
    exchange(connection.client, connection.server)
    for end in (listener, connection.client, connection.server):
        end.close()
    return not connection.was_forwarded


def test_ports_and_ranges(lab, start):
    start("--tcp", "80,443,8000-8100")
    assert {port: taken(lab, port) for port in (79, 80, 81, 442, 443, 444, 7999, 8000, 8050, 8100, 8101)} == {
        79: False, 80: True, 81: False, 442: False, 443: True, 444: False,
        7999: False, 8000: True, 8050: True, 8100: True, 8101: False}


def test_all_ports(lab, start):
    start("--tcp", "1-65535")
    assert taken(lab, 1) and taken(lab, 22) and taken(lab, 65535)


def test_excluded_destinations(wide_lab, start):
    lab = wide_lab
    start("--tcp", "80", "--exclude", OTHER_SERVER[lab.family], "--exclude", "10.0.0.0/8,fd00::/8")
    assert taken(lab, 80)
    assert not taken(lab, 80, OTHER_SERVER[lab.family])


def test_destination_networks(wide_lab, start):
    lab = wide_lab
    start("--tcp", "80", "--to-net", {"ipv4": "198.51.100.8/29", "ipv6": "2001:db8:2::8/125"}[lab.family])
    assert not taken(lab, 80)
    assert taken(lab, 80, OTHER_SERVER[lab.family])


def test_an_exclusion_inside_a_destination_network(wide_lab, start):
    lab = wide_lab
    start("--tcp", "80", "--to-net", "198.51.100.0/24,2001:db8:2::/64", "--exclude", OTHER_SERVER[lab.family])
    assert taken(lab, 80)
    assert not taken(lab, 80, OTHER_SERVER[lab.family])


def test_from_an_interface(lab, start):
    start("--tcp", "80", "--from", "lan")
    assert taken(lab, 80)


def test_not_from_another_interface(lab, start):
    start("--tcp", "80", "--from", "wan")
    assert not taken(lab, 80)


def test_both_directions_through_the_router(lab, start):
    """Without --from it does not matter on which side the client is."""
    start("--tcp", "80")
    listener = lab.client.listen(80)
    connection = lab.server.connect(lab.client.address, 80, source_port=lab.client_port())
    accepted, seen = listener.accept()
    assert seen[0] == lab.server.address and seen[:2] != connection.getsockname()[:2]
    exchange(connection, accepted)
    accepted.close()


@pytest.mark.parametrize("fail", ["open", "closed"])
def test_from_clients(wide_lab, start, fail):
    lab = wide_lab
    start("--tcp", "80", "--from", OTHER_CLIENT[lab.family], "--fail", fail)
    listener = lab.server.listen(80)
    assert lab.dial(listener).was_forwarded
    port = lab.client_port()
    client = lab.client.socket()
    client.bind((OTHER_CLIENT[lab.family], port))
    client.connect((lab.server.address, 80))
    accepted, seen = listener.accept()
    assert seen[0] == OTHER_CLIENT[lab.family] and seen[1] != port
    exchange(client, accepted)
    accepted.close()


def test_an_interface_or_a_network(lab, start):
    start("--tcp", "80", "--from", "wan", "--from", {"ipv4": "192.0.2.0/24", "ipv6": "2001:db8:1::/64"}[lab.family])
    assert taken(lab, 80)


def test_one_family_only(lab, start):
    start("--tcp", "80", {"ipv4": "--ipv6-only", "ipv6": "--ipv4-only"}[lab.family])
    assert not taken(lab, 80)


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "::/1", "0.0.0.0/1,::/0"])
def test_all_clients_of_one_family_are_none_of_the_other(lab, start, network):
    """To eBPF, IPv4 is a corner of IPv6, and no part of ::/0."""
    start("--tcp", "80", "--from", network)
    is_client = {"ipv4": network.startswith("0.0.0.0/0"), "ipv6": network.endswith("::/0") or network == "::/1"}[lab.family]
    assert lab.dial(lab.server.listen(80)).was_forwarded != is_client


def test_traffic_outside_of_the_scope_survives_fail_closed(lab, start):
    limpid = start("--tcp", "80", "--fail", "closed", "--exclude", lab.server.address)
    assert not taken(lab, 80) and not taken(lab, 81)
    limpid.kill()
    assert not taken(lab, 80) and not taken(lab, 81)
