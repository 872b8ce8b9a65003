"""`limpid explain` beside an installation of the iptables backends: it knows that it is Limpid's, and says no more than can be seen."""

import pytest

import limpid_process
from explain_process import forwarded, local, run

pytestmark = pytest.mark.skipif(limpid_process.BACKEND != "nftables", reason="names its backends itself; runs once")

OTHER_SERVER = {"ipv4": "198.51.100.9", "ipv6": "2001:db8:2::9"}
TRANSPORTS = pytest.mark.parametrize("transport", ["tcp", "udp"])
SCOPE = ("--tcp", "80", "--udp", "80")


@pytest.fixture(params=["iptables-nft", "iptables-legacy"])
def variant(request, need):
    need(request.param, "iptables")
    return request.param


def is_known_by_notes(lab, answer, variant):
    """Legacy rules cannot be traced, and every answer says so; nft's need no such note."""
    program = {"ipv4": "iptables-legacy", "ipv6": "ip6tables-legacy"}[lab.family]
    said = any(f"`{program} -t mangle -nvL limpid-pre`" in note for note in answer["notes"])
    return said == (variant == "iptables-legacy")


@TRANSPORTS
def test_intercepted(lab, start, variant, transport):
    limpid = start(*SCOPE, "--backend", variant)
    answer = forwarded(lab, transport)
    assert (answer["verdict"], answer["instance"]) == ("intercepted", "limpid")
    assert answer["listener_port"] and str(answer["listener_port"]) in answer["reason"]
    assert answer["relay"]["pid"] == limpid.pid and answer["relay"]["known"] and answer["has_socket"]
    assert is_known_by_notes(lab, answer, variant)
    if variant == "iptables-nft":
        assert "handed to the listener" in answer["reason"]
        words = [step["words"] for step in answer["steps"]]
        assert any(f"the port is in scope ({transport.upper()} 80)" in text for text in words)
        rules = [step["rule"] for step in answer["steps"] if step["instance"] == "limpid" and step["kind"] == "rule"]
        assert any("-j TPROXY --on-port" in rule for rule in rules)
        assert not any("xt target" in rule for rule in rules), "in iptables' own words"


@TRANSPORTS
def test_bypassed_by_port(lab, start, variant, transport):
    start(f"--{transport}", "80,8000-8100", "--backend", variant)
    answer = forwarded(lab, transport, port=81)
    assert answer["verdict"] == "bypassed" and is_known_by_notes(lab, answer, variant)
    if variant == "iptables-nft":
        assert f"the port is not in scope ({transport.upper()} 80,8000-8100)" in answer["reason"]
    else:
        assert "cannot be seen" in answer["reason"] and "limpid-pre" in answer["reason"]


def test_bypassed_by_protocol(lab, start, need):
    need("iptables-nft", "iptables")
    start("--tcp", "80", "--backend", "iptables-nft")
    assert "UDP is not in scope" in forwarded(lab, "udp")["reason"]


def test_bypassed_as_the_other_family(lab, start, variant):
    only = {"ipv4": "--ipv6-only", "ipv6": "--ipv4-only"}[lab.family]
    start("--tcp", "80", only, "--backend", variant)
    assert f"IPv{lab.family[-1]} is not in scope ({only})" in forwarded(lab)["reason"]


@TRANSPORTS
def test_bypassed_by_exclusion(lab, start, variant, transport):
    start(*SCOPE, "--exclude", OTHER_SERVER[lab.family], "--backend", variant)
    answer = forwarded(lab, transport, address=OTHER_SERVER[lab.family])
    assert answer["verdict"] == "bypassed"
    if variant == "iptables-nft":
        assert f"the destination is excluded (--exclude {OTHER_SERVER[lab.family]}" in answer["reason"]
    assert forwarded(lab, transport)["verdict"] == "intercepted"


@TRANSPORTS
@pytest.mark.parametrize("limit", ["destination", "client"])
def test_the_end_of_a_chain_is_a_reason(lab, start, need, transport, limit):
    need("iptables-nft", "iptables")
    network = {"ipv4": "198.51.100.8/29", "ipv6": "2001:db8:2::8/125"}[lab.family]
    start(*SCOPE, *(("--to-net", network) if limit == "destination" else ("--from", "wan")), "--backend", "iptables-nft")
    reason = forwarded(lab, transport)["reason"]
    assert {"destination": "the destination is none of --to-net", "client": "the client is none of --from"}[limit] in reason


@TRANSPORTS
@pytest.mark.parametrize("fail", ["open", "closed"])
def test_nobody_listens(lab, start, variant, transport, fail):
    limpid = start(*SCOPE, "--fail", fail, "--backend", variant)
    limpid.kill()  # returns when the heartbeat is too old
    answer = forwarded(lab, transport)
    assert answer["verdict"] == {"open": "bypassed", "closed": "rejected"}[fail]
    if variant == "iptables-nft":
        assert "no transparent listener on" in answer["reason"] and f"fail-{fail}" in answer["reason"]
    else:
        assert {"open": "cannot be seen", "closed": "probably fail-closed"}[fail] in answer["reason"]


@TRANSPORTS
def test_what_this_host_sends(lab, start, variant, transport):
    limpid = start(*SCOPE, "--local", "--backend", variant)
    answer = local(lab, transport)
    assert (answer["verdict"], answer["instance"]) == ("intercepted", "limpid")
    assert answer["relay"]["pid"] == limpid.pid
    assert answer["route"]["kind"] == "local", "the way that it went, and not the one without the rules"
    answer = local(lab, transport, port=81)
    assert answer["verdict"] == "bypassed"
    if variant == "iptables-nft":
        assert f"the port is not in scope ({transport.upper()} 80)" in answer["reason"]


def test_a_named_instance_is_named(lab, start, variant):
    start("--tcp", "80", "--name", "guests", "--backend", variant)
    target = f"[{lab.server.address}]:80" if lab.family == "ipv6" else f"{lab.server.address}:80"
    text = run(lab, "tcp", lab.client.address, target).stdout
    assert text.splitlines()[-1].startswith("verdict: intercepted (instance guests): ")
