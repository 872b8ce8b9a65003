"""UDP with the client's own port towards the server: when it is kept, and that NAT and firewalls do not mind."""

import pytest

from peers import wait_until
from udp_exchange import PORT, ask


@pytest.mark.parametrize("mode", ["prefer-port", "address+port"])
def test_the_clients_port_is_kept_where_asked(lab, start, server, mode):
    limpid = start("--udp", PORT, "--source", mode)
    client = lab.client.datagrams()
    for _ in range(3):
        assert ask(client, server, lab)[:2] == (lab.client.address, client.getsockname()[1])
    limpid.counters_with(udp_datagrams_up=3)


@pytest.mark.parametrize("flags", [("--source", "address"), ("--udp-filtering", "address-and-port-dependent")])
def test_another_port_where_asked_or_where_strangers_are_kept_out(lab, start, server, flags):
    start("--udp", PORT, *flags)
    client = lab.client.datagrams()
    peer = ask(client, server, lab)
    assert peer[0] == lab.client.address
    assert peer[1] != client.getsockname()[1]


@pytest.mark.not_ebpf("the port of a datagram is not kept")
def test_a_port_that_the_router_holds_is_not_preferred(lab, start, server):
    lab.router.datagrams(123)  # on every address, and not shared
    limpid = start("--udp", PORT)
    client = lab.client.datagrams(123)
    peer = ask(client, server, lab)
    assert peer[0] == lab.client.address and peer[1] != 123
    assert limpid.counters()["source_port_fallback"] == 1


@pytest.mark.not_ebpf("the port of a datagram is not kept")
def test_an_exchange_goes_on_when_limpid_comes_and_goes(lab, start, server):
    client = lab.client.datagrams()
    before = ask(client, server, lab)
    limpid = start("--udp", PORT)
    assert ask(client, server, lab) == before
    limpid.counters_with(udp_datagrams_up=1)
    limpid.stop()
    assert ask(client, server, lab) == before


def test_what_the_same_client_port_sends_past_us_is_answered_too(lab, start, server):
    limpid = start("--udp", PORT)
    client = lab.client.datagrams()
    elsewhere = lab.server.datagrams(9999)
    for _ in range(3):
        ask(client, server, lab)
        ask(client, elsewhere, lab, port=9999)
    limpid.counters_with(udp_datagrams_up=3)


@pytest.mark.not_ebpf("the port of a datagram is not kept")
def test_two_sessions_of_one_client_port_never_share_a_port(lab, start, server):
    """Both would like to have the client's own. Which of the two an answer belongs to could not be told then."""
    start("--udp", "7000-7001", "--source", "prefer-port", "--workers", 1,
          "--target", f"[{lab.server.address}]:{PORT}" if lab.family == "ipv6" else f"{lab.server.address}:{PORT}")
    client = lab.client.datagrams()
    peers = {}
    for port in (7000, 7001):
        client.sendto(str(port).encode(), (lab.nowhere, port))
        peers[port] = server.recvfrom(100)[1]
    assert len(set(peers.values())) == 2
    for port in (7000, 7001):
        server.sendto(b"for " + str(port).encode(), peers[port])
        assert client.recvfrom(100)[1][:2] == (lab.nowhere, port)


MASQUERADE = """table inet nat_out {
                  chain out {
                    type nat hook postrouting priority srcnat
                    oifname "wan" masquerade
                  }
                }
                """
# What a router with a firewall has; besides, what arrives with our mark must be let in (docs/troubleshooting.md).
STATEFUL = """table inet firewall {
                chain in {
                  type filter hook input priority filter; policy drop;
                  iifname "lo" accept
                  icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
                  ct state established,related accept
                  iifname "lan" meta mark & 0x03000000 == 0x01000000 accept
                }
                chain passing {
                  type filter hook forward priority filter; policy drop;
                  ct state established,related accept
                  iifname "lan" accept
                }
              }
              """


@pytest.mark.parametrize("mode", ["address", "prefer-port"])
@pytest.mark.parametrize("others", [MASQUERADE, STATEFUL, STATEFUL + MASQUERADE],
                         ids=["masquerading", "stateful", "stateful_and_masquerading"])
@pytest.mark.not_ebpf("answers to a translated address are seen before NAT")
def test_with_conntrack_at_work(lab, start, server, others, mode):
    if lab.family == "ipv6" and "masquerade" in others and mode == "address":
        pytest.skip("NAT66 with another port is not supported: nft's socket expression does not ask conntrack for IPv6")
    lab.router.nft(others)
    lab.server.sysctl("net/ipv4/icmp_ratelimit", 0)
    lab.server.sysctl("net/ipv6/icmp/ratelimit", 0)
    limpid = start("--udp", f"{PORT}-{PORT + 1}", "--source", mode)
    client, refused = lab.client.datagrams(), lab.client.datagrams()
    refused.connect((lab.server.address, PORT + 1))
    for _ in range(3):
        peer = ask(client, server, lab)
        assert peer[0] == (lab.wan if "masquerade" in others else lab.client.address)
        if mode == "prefer-port":
            assert peer[1] == client.getsockname()[1], "by us, and by the NAT"
        refused.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            refused.recv(100)
    def passed():
        counters = limpid.counters()
        return [counters[name] for name in ("udp_datagrams_up", "udp_datagrams_down", "udp_icmp_errors")]

    wait_until(lambda: passed() == [6, 3, 3], "all are counted")
