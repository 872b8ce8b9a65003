"""`limpid doctor` beside an installation of an iptables backend: as content, and as exact, as beside one of nftables."""

import pytest

import limpid_process
from doctor_report import Doctor, Proxy
from kernel_state import difference, snapshot
from lab import SECONDS

pytestmark = pytest.mark.skipif(limpid_process.BACKEND != "nftables", reason="names its backends itself; runs once")

PORT = 3129


@pytest.fixture(params=["iptables-nft", "iptables-legacy"])
def variant(request, need):
    need(request.param, "iptables")
    return request.param


@pytest.fixture
def program(lab, variant):
    """The command of the variant for the family under test."""
    return {"ipv4": "iptables", "ipv6": "ip6tables"}[lab.family] + variant.removeprefix("iptables")


@pytest.fixture
def doctor(lab):
    return Doctor(lab.router)


@pytest.fixture
def applied(lab, doctor, variant):
    """`rules apply` for a proxy that listens as it should; applied.close() ends the proxy."""
    proxy = Proxy(lab.router, PORT)
    lab.router.run(limpid_process.BINARY, "rules", "apply", "--tcp", "80", "--udp", "53", "--fail", "closed", "--listen-port", PORT,
                   "--backend", variant)
    doctor.content("--only", "probe")
    yield proxy
    proxy.close()


def family_name(lab):
    return {"ipv4": "IPv4", "ipv6": "IPv6"}[lab.family]


def is_intercepted(lab, timeout=SECONDS):
    try:
        lab.client.connect(lab.nowhere, 80, timeout=timeout).close()
        return True
    except OSError:
        return False


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)  # each examination is of both
@pytest.mark.parametrize("flags", [[], ["--from", "lan", "--fail", "closed"], ["--source", "address+port", "--ipv4-only"], ["--local"]],
                         ids=["plain", "interface", "port kept", "local"])
def test_a_running_relay_is_well_and_the_probe_comes_back(lab, doctor, start, variant, flags):
    limpid = start("--tcp", "80,8000-8100", "--udp", "53", "--backend", variant, *flags)
    before = snapshot(lab.router)
    report = doctor.content()
    assert report.status == 0, report.text()
    assert "TCP 80,8000-8100 and UDP 53 to port" in report.only("installation", "ok")["summary"]
    assert f"by {variant}" in report.only("installation", "ok")["summary"]
    families = ["IPv4"] if "--ipv4-only" in flags else ["IPv4", "IPv6"]
    probe = report.only("probe", "ok")
    assert set(probe["subject"].split(", ")) == {f"{t} over {f}" for t in ("TCP", "UDP") for f in families}
    assert "every byte arrived" in probe["summary"]
    assert len(limpid.flows(len(families))) == len(families)
    assert difference(before, snapshot(lab.router)) == []


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_what_is_not_forwarded_is_not_probed_and_nothing_else_is_said(doctor, start, variant):
    start("--tcp", "80", "--local-only", "--backend", variant)
    assert "own programs" in doctor.content().only("probe", "skipped")["summary"]


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_the_scope_that_is_read_back_is_the_one_that_is_probed(doctor, start, variant):
    start("--tcp", "80", "--exclude", "203.0.113.230", "--to-net", "203.0.113.0/24", "--backend", variant)
    report = doctor.content()
    assert "--exclude names 203.0.113.230" in report.only("probe", "skipped")["summary"]
    assert not report.of("probe", "ok")


@pytest.mark.parametrize("gone, named", [
    (("-D", "limpid-tpx", "1"), "the TPROXY rule of limpid-tpx for tcp"),
    (("-D", "PREROUTING", "-j", "limpid-pre"), "the jump from PREROUTING to limpid-pre"),
    (("-F", "limpid-dst"), "the rules of limpid-dst"),
])
def test_a_rule_that_somebody_deleted(lab, doctor, applied, program, gone, named):
    lab.router.run(program, "-t", "mangle", *gone)
    assert not is_intercepted(lab, timeout=0.5)
    report = doctor()
    found = report.only("rules-missing", "failure")
    assert family_name(lab) in found["summary"] and named in found["summary"]
    assert f"TCP over {family_name(lab)}" in report.only("probe-not-intercepted", "failure")["subject"]


def test_chains_of_one_family_that_somebody_deleted(lab, doctor, applied, program):
    tables = [line for line in lab.router.run(program + "-save", "-t", "mangle").stdout.splitlines() if line.startswith(":limpid")]
    lab.router.run(program, "-t", "mangle", "-F")
    for line in tables:
        lab.router.run(program, "-t", "mangle", "-X", line[1:].split()[0])
    found = doctor().only("rules-missing", "failure")
    assert f"{family_name(lab)}: all of its chains" in found["summary"]


def test_an_input_chain_that_lets_only_its_own_in(lab, doctor, applied, program):
    protocol = {"ipv4": "icmp", "ipv6": "ipv6-icmp"}[lab.family]
    for rule in (["-A", "INPUT", "-i", "lo", "-j", "ACCEPT"], ["-A", "INPUT", "-p", protocol, "-j", "ACCEPT"], ["-P", "INPUT", "DROP"]):
        lab.router.run(program, *rule)
    found = doctor().only("input-drop", "failure")
    assert f"{program} filter INPUT" in found["summary"] and family_name(lab) in found["subject"]
    assert not is_intercepted(lab, timeout=0.5)
    doctor.paste(found)
    assert is_intercepted(lab)
    doctor.content()


def test_a_listener_that_is_gone(lab, doctor, applied):
    applied.close()
    report = doctor()
    found = report.of("listener", "failure")
    assert {f["subject"] for f in found} == {f"{t} {a}:{PORT}" for t in ("TCP", "UDP") for a in ("127.0.0.1", "[::1]")}
    assert all("is dropped" in f["summary"] for f in found), "TPROXY of iptables drops, without a heartbeat"
    assert not report.of("wan-exposure", "ok") and report.only("probe", "skipped")
    assert not is_intercepted(lab, timeout=0.5)


def test_a_listener_that_is_not_transparent(lab, doctor, applied):
    applied.close()
    proxy = Proxy(lab.router, PORT, transparent=({"ipv4": "ipv6", "ipv6": "ipv4"}[lab.family],))
    report = doctor()
    proxy.close()
    assert report.of("listener-transparent", "failure")
    lost = report.only("probe-prerouting", "failure")
    assert "our own TPROXY" in lost["summary"] and family_name(lab) in lost["subject"]


@pytest.mark.parametrize("fail, fate", [("open", "forwarded"), ("closed", "rejected")])
@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_what_a_killed_run_left(doctor, start, variant, fail, fate):
    start("--tcp", "80", "--fail", fail, "--backend", variant).kill()
    report = doctor()
    assert fate in report.only("listener", "failure")["summary"]
    found = report.only("left-over", "warning")
    assert fate in found["summary"]
    doctor.paste(found)
    doctor.content()


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_what_a_killed_watch_left(lab, doctor, watch, variant):
    """Without its heartbeat nothing is intercepted, though the proxy listens and every rule is there."""
    proxy = Proxy(lab.router, PORT)
    watching = watch("--tcp", "80", "--to-port", PORT, "--backend", variant)
    assert "by a running `limpid rules watch`" in doctor("--only", "installation").only("installation", "ok")["summary"]
    watching.kill()
    found = doctor("--only", "installation").only("left-over", "warning")
    proxy.close()
    assert "`limpid rules watch` that was killed" in found["summary"]
    doctor.paste(found)
    doctor.content("--only", "installation")


def test_a_rule_before_ours_and_one_behind(lab, doctor, applied, program):
    mangle = [program, "-t", "mangle"]
    for rule in (["-j", "DROP"], ["-j", "MARK", "--set-mark", "7"]):
        lab.router.run(*mangle, "-A", "PREROUTING", "-p", "tcp", "--dport", "80", *rule)
    # Behind ours, they never meet what is intercepted.
    assert f"TCP over {family_name(lab)}" in doctor.content().only("probe", "ok")["subject"]
    lab.router.run(*mangle, "-I", "PREROUTING", "-p", "tcp", "-j", "ACCEPT")
    report = doctor()
    assert f"{program} -t mangle PREROUTING accepts" in report.only("rules-before", "warning")["summary"]
    assert family_name(lab) in report.only("probe-not-intercepted", "failure")["subject"]
    lab.router.run(*mangle, "-R", "PREROUTING", "1", "-p", "tcp", "-j", "DROP")
    assert "drops" in doctor().only("rules-before", "warning")["summary"]


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_numbers_that_are_given_anew_keep_the_backend(lab, doctor, applied, variant):
    lab.router.run("ip", "rule", "add", "priority", "500", "fwmark", "0x1000000/0xff000000", "lookup", "99")
    found = doctor().only("mark-clash", "failure")
    assert f"--backend {variant}" in found["remedy"][0]
    doctor.paste(found)
    assert is_intercepted(lab)
    assert f"by {variant}" in doctor.content().only("installation", "ok")["summary"]


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_chains_that_somebody_else_made(lab, doctor, program):
    for arguments in (("-N", "limpid-pre"), ("-A", "limpid-pre", "-j", "ACCEPT")):
        lab.router.run(program, "-t", "mangle", *arguments)
    assert "chains limpid-*" in doctor().only("foreign-table", "warning")["subject"]
