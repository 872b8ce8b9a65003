"""`limpid explain`: each outcome with its reason, for packets that others send through the router. Nobody ever hears of a probe."""

import pytest

import kernel_state
from explain_process import NO_LISTENER, Eavesdropper, forwarded, run
from limpid_process import BACKEND

OTHER_SERVER = {"ipv4": "198.51.100.9", "ipv6": "2001:db8:2::9"}
OTHER_CLIENT = {"ipv4": "192.0.2.3", "ipv6": "2001:db8:1::3"}
TRANSPORTS = pytest.mark.parametrize("transport", ["tcp", "udp"])
SCOPE = ("--tcp", "80", "--udp", "80")


@pytest.fixture(autouse=True)
def unheard(lab):
    """No probe leaves the router, and no answer to one."""
    ears = [Eavesdropper(lab.client), Eavesdropper(lab.server)]
    yield ears
    assert [ear.packets for ear in ears] == [0, 0]


@TRANSPORTS
def test_intercepted(lab, start, transport):
    limpid = start(*SCOPE, "--from", "lan")
    before = kernel_state.snapshot(lab.router)
    answer = forwarded(lab, transport)
    assert answer["verdict"] == "intercepted" and answer["reason"].endswith("(eBPF)" if BACKEND == "ebpf" else "(tproxy)")
    assert answer["instance"] == "limpid" and answer["end"] == "delivered" and answer["has_socket"]
    assert answer["interface"] == "lan"
    assert answer["route"]["kind"] == "local", "because of its mark"
    relay = answer["relay"]
    assert relay["pid"] == limpid.pid and relay["known"]
    assert relay["target"].startswith(f"[{lab.server.address}]" if ":" in lab.server.address else lab.server.address)
    assert relay["source"] == {"tcp": "address", "udp": "prefer-port"}[transport]
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == []
    assert limpid.log == [], "the listener has heard nothing either"
    assert limpid.counters()["flows_total"] == 0


def test_the_text_ends_with_one_verdict(lab, start):
    start("--tcp", "80")
    target = f"[{lab.server.address}]:80" if lab.family == "ipv6" else f"{lab.server.address}:80"
    lines = run(lab, "tcp", lab.client.address, target).stdout.splitlines()
    assert lines[0].startswith("TCP ") and lines[0].endswith("arriving on lan")
    assert [line for line in lines if line.startswith("verdict: ")] == [lines[-1]]
    assert lines[-1].startswith("verdict: intercepted: handed to the listener")
    assert any(("eBPF programs of limpid: intercepted" if BACKEND == "ebpf" else "the port is in scope (TCP 80)") in line for line in lines)
    assert any(line.startswith("relay: limpid (pid ") for line in lines)
    plain = run(lab, "tcp", lab.client.address, target, prefix=["env", "LC_ALL=C"]).stdout
    assert plain.splitlines()[0].isascii() and " -> " in plain.splitlines()[0]


def test_the_relay_is_known_by_its_command_line(lab, start):
    start("--tcp", "80", "--target", f"[{OTHER_SERVER['ipv6']}]:8080", "--source", "none")
    relay = forwarded(lab)["relay"]
    assert (relay["target"], relay["source"]) == (f"[{OTHER_SERVER['ipv6']}]:8080", "none")


@TRANSPORTS
def test_bypassed_without_limpid(lab, transport):
    answer = forwarded(lab, transport)
    assert (answer["verdict"], answer["left_by"]) == ("bypassed", "wan")
    assert "nothing of Limpid's is installed" in answer["reason"]


@TRANSPORTS
def test_bypassed_by_port(lab, start, transport):
    start(f"--{transport}", "80,8000-8100")
    answer = forwarded(lab, transport, port=81)
    assert answer["verdict"] == "bypassed"
    assert f"the port is not in scope ({transport.upper()} 80,8000-8100)" in answer["reason"]


def test_bypassed_by_protocol(lab, start):
    start("--tcp", "80")
    assert "UDP is not in scope" in forwarded(lab, "udp")["reason"]


@TRANSPORTS
def test_bypassed_by_exclusion(lab, start, transport):
    start(*SCOPE, "--exclude", OTHER_SERVER[lab.family])
    answer = forwarded(lab, transport, address=OTHER_SERVER[lab.family])
    assert answer["verdict"] == "bypassed"
    assert f"the destination is excluded (--exclude {OTHER_SERVER[lab.family]})" in answer["reason"]
    assert forwarded(lab, transport)["verdict"] == "intercepted"


@TRANSPORTS
def test_bypassed_by_destination_network(lab, start, transport):
    start(*SCOPE, "--to-net", {"ipv4": "198.51.100.8/29", "ipv6": "2001:db8:2::8/125"}[lab.family])
    assert "the destination is none of --to-net" in forwarded(lab, transport)["reason"]
    assert forwarded(lab, transport, address=OTHER_SERVER[lab.family])["verdict"] == "intercepted"


@TRANSPORTS
@pytest.mark.parametrize("limit", ["interface", "network", "network behind --to-net"])
def test_bypassed_by_client(lab, start, transport, limit):
    arguments = ["--from", "wan" if limit == "interface" else OTHER_CLIENT[lab.family]]
    if "--to-net" in limit:
        arguments += ["--to-net", {"ipv4": "198.51.100.0/24", "ipv6": "2001:db8:2::/64"}[lab.family]]
    start(*SCOPE, *arguments)
    answer = forwarded(lab, transport)
    assert answer["verdict"] == "bypassed" and "the client is none of --from" in answer["reason"]


@TRANSPORTS
def test_bypassed_because_it_is_for_the_router(lab, start, transport):
    start(*SCOPE)
    answer = forwarded(lab, transport, address=lab.wan)
    assert answer["verdict"] == "bypassed" and answer["end"] == "delivered"
    assert "an address of this host's own, where no socket waits" in answer["reason"]
    lab.router.listen(80)
    lab.router.datagrams(80)
    assert forwarded(lab, transport, address=lab.wan)["has_socket"]


@pytest.mark.parametrize("kind", ["link-local", "multicast"])
def test_never_intercepted(lab, start, kind):
    start(*SCOPE)
    address = {"link-local": {"ipv4": "169.254.7.7", "ipv6": "fe80::7"}, "multicast": {"ipv4": "224.0.0.1", "ipv6": "ff02::1"}}
    answer = forwarded(lab, "udp", address=address[kind][lab.family])
    if (kind, lab.family) == ("link-local", "ipv4"):
        assert "no route to" in answer["reason"], "the router has none, and the next question is for that one"
        lab.router.run("ip", "route", "add", "169.254.0.0/16", "dev", "wan")
        answer = forwarded(lab, "udp", address=address[kind][lab.family])
    if (kind, lab.family) == ("link-local", "ipv6"):
        assert answer["verdict"] != "intercepted"  # link-local addresses are not forwarded either: RFC 4291, section 2.5.6
        assert any("the destination is link-local" in decision["words"] for decision in answer["steps"] + answer["ebpf"])
        return
    assert answer["verdict"] == "bypassed" and kind in answer["reason"]


def test_bypassed_as_the_other_family(lab, start):
    start("--tcp", "80", "--ipv6-only" if lab.family == "ipv4" else "--ipv4-only")
    assert f"IPv{lab.family[-1]} is not in scope" in forwarded(lab)["reason"]


@pytest.mark.not_ebpf("netfilter's rules come later, and cannot mark a packet before its programs see it")
@TRANSPORTS
def test_bypassed_by_mark(lab, start, transport):
    start(*SCOPE, "--mark", "0x1000000/0x3000000")
    lab.router.nft("""table inet other {
      chain c {
        type filter hook prerouting priority -310; policy accept;
        meta mark set 0x2000000
      }
    }
    """)
    answer = forwarded(lab, transport)
    assert answer["verdict"] == "bypassed" and "bypass mark" in answer["reason"]


@TRANSPORTS
def test_rejected_fail_closed(lab, start, transport):
    limpid = start(*SCOPE, "--fail", "closed")
    limpid.kill()
    answer = forwarded(lab, transport)
    assert answer["verdict"] == "rejected" and answer["answered"]
    assert NO_LISTENER in answer["reason"] and "fail-closed" in answer["reason"]


@TRANSPORTS
def test_bypassed_fail_open(lab, start, transport):
    limpid = start(*SCOPE)
    limpid.kill()
    answer = forwarded(lab, transport)
    assert answer["verdict"] == "bypassed"
    assert NO_LISTENER in answer["reason"] and "fail-open" in answer["reason"]


@TRANSPORTS
@pytest.mark.parametrize("what", ["drop", "reject", "policy"])
def test_dropped_by_an_nft_rule_of_others(lab, start, transport, what):
    start(*SCOPE)
    rule = "" if what == "policy" else f"{transport} dport 81 {what} comment \"no such service\""
    lab.router.nft(f"""table inet wall {{
      chain through {{
        type filter hook forward priority 0; policy {"drop" if what == "policy" else "accept"};
        {rule}
      }}
    }}
    """)
    answer = forwarded(lab, transport, port=81)
    assert answer["verdict"] == ("rejected" if what == "reject" else "dropped")
    assert "inet wall through" in answer["reason"]
    assert ("policy drop" if what == "policy" else f"{transport} dport 81 {what}") in answer["reason"]
    assert answer["steps"][-1]["instance"] is None


@TRANSPORTS
@pytest.mark.parametrize("target", ["DROP", "REJECT"])
def test_dropped_by_an_iptables_rule_of_others(lab, start, need, transport, target):
    program = {"ipv4": "iptables-nft", "ipv6": "ip6tables-nft"}[lab.family]
    need(program, "iptables")
    start(*SCOPE)
    lab.router.run(program, "-N", "MINE")
    lab.router.run(program, "-A", "FORWARD", "-j", "MINE")
    lab.router.run(program, "-A", "MINE", "-p", transport, "--dport", "82", "-j", "ACCEPT")
    lab.router.run(program, "-A", "MINE", "-p", transport, "--dport", "81", "-m", "comment", "--comment", "not here", "-j", target)
    answer = forwarded(lab, transport, port=81)
    assert answer["verdict"] == ("rejected" if target == "REJECT" else "dropped")
    assert f"filter MINE: -p {transport} -m {transport} --dport 81 -m comment --comment \"not here\" -j {target}" in answer["reason"]


def test_intercepted_by_somebody_else(lab, need):
    """Squid's usual rules, in iptables' words."""
    program, version, address = {"ipv4": ("iptables-nft", "-4", "127.0.0.1"), "ipv6": ("ip6tables-nft", "-6", "::1")}[lab.family]
    need(program, "iptables")
    lab.router.run(program, "-t", "mangle", "-A", "PREROUTING", "-p", "tcp", "--dport", "80", "-j", "TPROXY", "--on-ip", address,
                   "--on-port", "3129", "--tproxy-mark", "1/1")
    lab.router.run("ip", version, "rule", "add", "fwmark", "1", "lookup", "100")
    lab.router.run("ip", version, "route", "add", "local", "default", "dev", "lo", "table", "100")
    listener = lab.router.socket()
    listener.setsockopt(*{"ipv4": (0, 19, 1), "ipv6": (41, 75, 1)}[lab.family])  # SOL_IP, IP_TRANSPARENT; SOL_IPV6, IPV6_TRANSPARENT
    listener.bind((address, 3129))
    listener.listen()
    answer = forwarded(lab)
    assert answer["verdict"] == "intercepted" and answer["instance"] is None
    assert "not Limpid's" in answer["reason"] and "-j TPROXY" in answer["reason"]
    listener.close()
    answer = forwarded(lab)
    assert answer["verdict"] == "dropped" and "-j TPROXY" in answer["reason"], "iptables' TPROXY drops where nobody listens"


def test_dropped_by_legacy_iptables(lab, need):
    program = {"ipv4": "iptables-legacy", "ipv6": "ip6tables-legacy"}[lab.family]
    need(program, "iptables")
    if lab.router.run(program, "-A", "FORWARD", "-p", "tcp", "--dport", "81", "-j", "DROP", check=False).returncode != 0:
        pytest.skip(f"{program} does not work with this kernel")
    answer = forwarded(lab, port=81)
    assert answer["verdict"] == "dropped" and "iptables-legacy" in answer["reason"]
    answer = forwarded(lab, port=82)
    assert answer["verdict"] == "bypassed" and any("iptables-legacy" in note for note in answer["notes"])


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)  # IPv6 has no such filter
@pytest.mark.parametrize("way_back", ["another interface", "none"])
def test_dropped_by_the_reverse_path_filter(lab, start, way_back):
    start("--tcp", "80")
    lab.router.sysctl("net/ipv4/conf/lan/rp_filter", 1)
    source = lab.server.address if way_back == "another interface" else lab.nowhere
    answer = forwarded(lab, port=81, source=source, address=OTHER_SERVER["ipv4"], arguments=("--in", "lan"))
    assert answer["verdict"] == "dropped" and "the reverse path filter of lan" in answer["reason"]
    assert ("the way back to 198.51.100.2 is wan" if way_back == "another interface" else "there is no way back") in answer["reason"]
    assert "rp_filter=1" in answer["reason"]


@TRANSPORTS
@pytest.mark.parametrize("kind", ["none", "blackhole", "unreachable", "prohibit"])
def test_dropped_by_routing(lab, transport, kind):
    if kind != "none":
        version = {"ipv4": "-4", "ipv6": "-6"}[lab.family]
        lab.router.run("ip", version, "route", "add", kind, lab.nowhere)
    answer = forwarded(lab, transport, address=lab.nowhere)
    assert answer["verdict"] == "dropped"
    assert (f"no route to {lab.nowhere}" if kind == "none" else f"the route to {lab.nowhere} is `{kind}`") in answer["reason"]


def test_dropped_because_forwarding_is_off(lab, start):
    lab.router.sysctl(f"net/{lab.family}/conf/all/forwarding", 0)
    start("--tcp", "80")
    answer = forwarded(lab, port=81)
    assert answer["verdict"] == "dropped" and "forwarding is off" in answer["reason"]
    assert forwarded(lab)["verdict"] == "intercepted", "that takes no forwarding"


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_a_martian_source(lab):
    answer = forwarded(lab, source=lab.wan, arguments=("--in", "lan"))
    assert answer["verdict"] == "dropped" and "martian source: 198.51.100.1" in answer["reason"]


def test_nat_of_others_is_seen(lab, start):
    start("--tcp", "80")
    family = {"ipv4": "ip", "ipv6": "ip6"}[lab.family]
    lab.router.nft(f"""table {family} nat {{
      chain pre {{
        type nat hook prerouting priority dstnat; policy accept;
        tcp dport 81 redirect to :3128
      }}
      chain post {{
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan" masquerade
      }}
    }}
    """)
    redirected = forwarded(lab, port=81)
    assert redirected["verdict"] == "intercepted" and "by NAT, not by Limpid" in redirected["reason"] and "3128" in redirected["reason"]
    masqueraded = forwarded(lab, port=82)
    assert masqueraded["verdict"] == "bypassed" and masqueraded["left_by"] == "wan"
    assert any("masquerade" in step["rule"] for step in masqueraded["steps"])


def test_several_instances_each_say_why(lab, start):
    start("--tcp", "81")
    start("--tcp", "80", "--name", "other", "--exclude", lab.server.address)
    reason = forwarded(lab)["reason"]
    assert "instance limpid: the port is not in scope (TCP 81)" in reason
    assert "instance other: the destination is excluded" in reason
    answer = forwarded(lab, address=OTHER_SERVER[lab.family])
    assert (answer["verdict"], answer["instance"]) == ("intercepted", "other")


def test_the_source_port_may_be_given(lab):
    source = f"[{lab.client.address}]:4711" if lab.family == "ipv6" else f"{lab.client.address}:4711"
    assert forwarded(lab, source=source)["source"] == source
