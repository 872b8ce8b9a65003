"""What would disturb interception is named when it starts, with the command that mends it, and it starts all the same."""

import pytest


def warnings_of(limpid):
    return [line for line in limpid.messages.splitlines() if "level=warning" in line]


@pytest.fixture
def bridge(lab):
    """The router's side of the client's link is a port of br0."""
    lab.router.run("ip", "-batch", "-", input="link add br0 type bridge\nlink set lan master br0\nlink set br0 up\n")
    for each in ("iptables", "ip6tables"):
        lab.router.sysctl(f"net/bridge/bridge-nf-call-{each}", 0)
    return "br0"


def test_a_bridge_whose_frames_pass_the_ip_chains(lab, start, bridge):
    key = "bridge-nf-call-" + {"ipv4": "iptables", "ipv6": "ip6tables"}[lab.family]
    assert not warnings_of(start("--tcp", "80"))
    lab.router.sysctl(f"net/bridge/{key}", 1)
    [warning] = warnings_of(start("--tcp", "81", "--name", "second"))
    assert f"net.bridge.{key}=1 and {bridge} is a bridge" in warning
    assert f"sysctl -w net.bridge.{key}=0" in warning


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_strict_filtering_with_two_ways_out(lab, start):
    """IPv6 has no such filter."""
    lab.router.run("ip", "route", "add", "default", "via", "198.51.100.2")
    lab.router.run("ip", "route", "add", "default", "via", "192.0.2.2", "metric", "50")
    for interface in ("all", "lan", "wan"):
        lab.router.sysctl(f"net/ipv4/conf/{interface}/rp_filter", 0)
    assert not warnings_of(start("--tcp", "80"))
    lab.router.sysctl("net/ipv4/conf/wan/rp_filter", 1)
    [warning] = warnings_of(start("--tcp", "81", "--name", "second"))
    assert "rp_filter is strict on wan, one of several default routes" in warning
