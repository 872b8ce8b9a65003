"""The end of a run: nothing new is taken, what runs may finish, within a bound; then nothing is left."""

import signal
import time

import pytest

from kernel_state import difference, installed, snapshot
from limpid_process import DONE
from peers import exchange, read_to_end, wait_until

THIRD_PARTY = """table inet somebody {
  set hosts {
    type ipv4_addr
    elements = { 192.0.2.77 }
  }
  chain prerouting {
    type filter hook prerouting priority mangle - 5; policy accept
    meta mark and 0xff000000 == 0x1000000 accept
  }
}
table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat
    ip daddr 10.9.9.9 masquerade
  }
}
"""


def is_forwarded(lab, listener):
    """Whether a new connection is; it is closed again."""
    connection = lab.dial(listener)
    connection.client.close()
    connection.server.close()
    return connection.was_forwarded


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_flow_finishes_while_new_connections_are_forwarded(lab, start, signal_number):
    limpid = start("--tcp", "80", "--drain-timeout", "20")
    listener = lab.server.listen(80)
    old = lab.dial_relayed(listener)
    exchange(old.client, old.server, 1)
    limpid.process.send_signal(signal_number)
    wait_until(lambda: is_forwarded(lab, listener), "it stops taking connections", 3)
    exchange(old.client, old.server, 2, count=30_000)
    assert limpid.process.poll() is None
    old.client.close()
    assert read_to_end(old.server) == b""
    old.server.close()
    assert limpid.process.wait(3) == DONE, "ended with its last flow, not with the timeout"
    assert {flow["end"] for flow in limpid.flows(1)} == {"closed"}


def test_the_drain_is_bounded(lab, start):
    limpid = start("--tcp", "80", "--drain-timeout", "1")
    old = lab.dial_relayed(lab.server.listen(80))
    began = time.monotonic()
    assert limpid.stop() == DONE
    assert 0.8 < time.monotonic() - began < 3
    assert limpid.flow()["end"] == "stopped"
    for end in (old.client, old.server):
        with pytest.raises(ConnectionResetError):
            end.recv(1)


def test_a_second_signal_ends_at_once(lab, start):
    limpid = start("--tcp", "80", "--drain-timeout", "60")
    listener = lab.server.listen(80)
    old = lab.dial_relayed(listener)
    exchange(old.client, old.server)
    limpid.process.send_signal(signal.SIGTERM)
    wait_until(lambda: is_forwarded(lab, listener), "it drains", 3)
    assert limpid.process.poll() is None
    began = time.monotonic()
    limpid.stop()
    assert time.monotonic() - began < 1
    assert installed(lab.router) == []


def test_fail_closed_rejects_during_a_drain(lab, start):
    limpid = start("--tcp", "80", "--fail", "closed", "--drain-timeout", "20")
    listener = lab.server.listen(80)
    old = lab.dial_relayed(listener)
    limpid.process.send_signal(signal.SIGTERM)

    def is_rejected():
        try:
            assert not is_forwarded(lab, listener), "leaked"
        except ConnectionRefusedError:
            return True
        return False

    wait_until(is_rejected, "it stops taking connections", 3)
    exchange(old.client, old.server)
    old.client.close()
    old.server.close()
    assert limpid.process.wait(3) == DONE


@pytest.mark.parametrize("fail", ["open", "closed"])
@pytest.mark.parametrize("source", ["address", "address+port"])
def test_a_third_partys_configuration_is_byte_identical(lab, start, fail, source):
    lab.router.nft(THIRD_PARTY)
    for family in ("-4", "-6"):
        for rule in (("fwmark", "0x1/0x3", "lookup", "100"), ("fwmark", "0x10000/0xf0000", "lookup", "main"),
                     ("priority", "0", "iif", "lo", "lookup", "local"), ("priority", "32000", "fwmark", "0x8/0x8", "lookup", "7676")):
            lab.router.run("ip", family, "rule", "add", *rule)
        lab.router.run("ip", family, "route", "add", "unreachable", "default", "table", "7676")
    lab.router.sysctl("net/ipv4/conf/lan/rp_filter", 2)
    lab.router.sysctl("net/ipv4/conf/all/src_valid_mark", 1)
    before = snapshot(lab.router)
    limpid = start("--tcp", "80", "--fail", fail, "--source", source)
    running = snapshot(lab.router)
    assert difference(before, running), "it has changed nothing, so this test shows nothing"
    for table in ("somebody", "ip nat"):
        assert table in running["nft list ruleset"]
    connection = lab.dial(lab.server.listen(80))
    exchange(connection.client, connection.server)
    connection.client.close()
    connection.server.close()
    assert limpid.flow()["end"] == "closed"
    assert limpid.stop() == DONE
    assert difference(before, snapshot(lab.router)) == []


def test_forwarding_that_was_switched_on_is_switched_off(lab, start):
    for family in ("ipv4", "ipv6"):
        lab.router.sysctl(f"net/{family}/conf/all/forwarding", 0)
    before = snapshot(lab.router)
    limpid = start("--tcp", "80", "--enable-forwarding")
    assert snapshot(lab.router)["/proc/sys/net/ipv4/ip_forward"] == "1\n"
    connection = lab.dial(lab.server.listen(80))
    exchange(connection.client, connection.server)
    limpid.stop(seconds=40)
    assert difference(before, snapshot(lab.router)) == []


def test_forwarding_is_reported_but_not_switched(lab, launch):
    lab.router.sysctl(f"net/{lab.family}/conf/all/forwarding", 0)
    before = snapshot(lab.router)
    limpid = launch("--tcp", "80")
    wait_until(lambda: "forwarding" in limpid.messages, "it says so", 3)
    assert not [line for line in difference(before, snapshot(lab.router)) if "forwarding" in line]
