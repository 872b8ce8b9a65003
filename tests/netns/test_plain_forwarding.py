"""The control: the lab and its peers without Limpid. What the other tests call "forwarded" is what happens here."""

import pytest

from kernel_state import difference, installed, snapshot
from peers import exchange, read_to_reset, reset


def test_connections_are_forwarded_with_the_clients_address_and_port(lab):
    connection = lab.dial(lab.server.listen(80))
    assert connection.was_forwarded
    exchange(connection.client, connection.server)


def test_a_closed_port_refuses(lab):
    with pytest.raises(ConnectionRefusedError):
        lab.client.connect(lab.server.address, 80)


def test_a_reset_arrives_behind_the_data(lab):
    connection = lab.dial(lab.server.listen(80))
    connection.client.sendall(b"x" * 10000)
    reset(connection.client)
    assert read_to_reset(connection.server) == b"x" * 10000


def test_a_snapshot_notices_every_kind_of_change(lab):
    before = snapshot(lab.router)
    assert not difference(before, snapshot(lab.router))
    family = {"ipv4": "-4", "ipv6": "-6"}[lab.family]
    lab.router.nft("table inet other {\nchain c {\n}\n}\n")
    assert len(difference(before, snapshot(lab.router))) == 1
    lab.router.run("ip", family, "rule", "add", "fwmark", "1/3", "lookup", "500", "proto", "76")
    assert len(difference(before, snapshot(lab.router))) == 2
    lab.router.run("ip", family, "route", "add", "local", "default", "dev", "lo", "table", "500", "proto", "76")
    assert len(difference(before, snapshot(lab.router))) == 3
    lab.router.sysctl(f"net/{lab.family}/conf/lan/forwarding", 0)
    assert len(difference(before, snapshot(lab.router))) > 3
    assert len(installed(lab.router)) == 2
