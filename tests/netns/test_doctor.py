"""`limpid doctor` itself: content with what is right, honest about what it cannot see, and gone without a trace."""

import json
import os
import signal

import pytest

import limpid_process
from doctor_report import ABOUT_THE_MACHINE, Doctor, Proxy
from kernel_state import difference, snapshot
from peers import wait_until

PORT = 3129


@pytest.fixture
def doctor(lab):
    return Doctor(lab.router)


@pytest.fixture
def applied(lab):
    """`rules apply` for a proxy that listens as it should."""
    proxy = Proxy(lab.router, PORT)
    lab.router.run(limpid_process.BINARY, "rules", "apply", "--tcp", "80", "--udp", "53", "--listen-port", PORT)
    yield proxy
    proxy.close()


def test_a_running_relay_is_well_and_the_probe_comes_back(doctor, start):
    limpid = start("--tcp", "80", "--udp", "53")
    report = doctor.content()
    assert report.status == 0
    probe = report.only("probe", "ok")
    assert set(probe["subject"].split(", ")) == {f"{t} over {f}" for t in ("TCP", "UDP") for f in ("IPv4", "IPv6")}
    assert "every byte arrived" in probe["summary"]
    assert {flow["client"].rsplit(":", 1)[0] for flow in limpid.flows(2)} == {"203.0.113.226", "[2001:db8:7676:c::2]"}


def test_the_client_is_put_in_front_of_the_interface_that_is_named(lab, doctor, start):
    lab.router.sysctl("net/ipv4/conf/lan/rp_filter", 1)  # a client that comes another way than it is routed would be dropped
    limpid = start("--tcp", "80", "--udp", "53", "--from", "lan")
    before = snapshot(lab.router)
    report = doctor.content()
    assert "every byte arrived" in report.only("probe", "ok")["summary"]
    assert len(limpid.flows(2)) == 2
    assert difference(before, snapshot(lab.router)) == []


def test_nothing_is_left_of_an_examination(lab, doctor, applied):
    before = snapshot(lab.router)
    doctor.content()
    assert difference(before, snapshot(lab.router)) == []


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("via", [[], ["--via", "lan"]])
def test_nothing_is_left_of_a_killed_probe(lab, doctor, applied, ending, via):
    # Its packets are lost, so that it waits for them.
    lab.router.nft("table inet wall { chain input { type filter hook input priority 0; meta mark != 0 drop; }; }\n")
    before = snapshot(lab.router)
    process = lab.router.start([limpid_process.BINARY, "doctor", "--only", "probe", *via])
    wait_until(lambda: "limpid_ps" in lab.router.run("ip", "link").stdout, "the probe is under way")
    wait_until(lambda: "limpid__doctor" in lab.router.run("nft", "list", "tables").stdout, "its table is loaded")
    process.send_signal(ending)
    assert process.wait() == -ending
    wait_until(lambda: difference(before, snapshot(lab.router)) == [], "everything is gone")
    doctor("--only", "probe")
    assert difference(before, snapshot(lab.router)) == []


def test_a_killed_probe_and_janitor_are_tidied_up_by_the_next(lab, doctor, applied):
    before = snapshot(lab.router)
    lab.router.nft("table inet limpid__doctor { chain forward_0 { type filter hook forward priority -2000000; drop; }; }\n")
    doctor.content()
    assert difference(before, snapshot(lab.router)) == []


def test_what_could_not_be_looked_at_is_never_ok(lab, applied):
    done = lab.router.run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all",
                          limpid_process.BINARY, "doctor", "--json", check=False, timeout=60)
    assert done.returncode == 3, done.stderr
    findings = json.loads(done.stdout)["findings"]
    skipped = {f["id"] for f in findings if f["severity"] == "skipped" and f["not_permitted"]}
    assert {"installation", "probe", "rules"} <= skipped, skipped
    looked_at = {f["group"] for f in findings if f["severity"] == "ok"}
    assert not looked_at & {"installation", "firewall", "probe", "listener"}, looked_at
    assert [f["severity"] for f in findings if f["id"] == "capabilities"] == ["warning"]
    assert "xtables.lock" not in done.stdout, "iptables-legacy works without the host's lock file, too"


def test_without_an_installation_a_plan_is_judged(lab, doctor):
    lab.router.sysctl("net/ipv4/conf/all/forwarding", 0)
    report = doctor("--tcp", "80", "--from", "lan")
    assert report.only("forwarding", "warning")["subject"] == "IPv4"
    assert report.only("probe", "skipped")
    assert not doctor().of("forwarding"), "nothing is installed, and nothing is asked about"


def test_only_narrows(doctor, applied):
    assert {f["group"] for f in doctor("--only", "sysctls").findings} == {"sysctls"}
    assert {f["id"] for f in doctor("--only", "rp-filter").findings} == {"rp-filter"}
    wrong = doctor.run("--only", "nonsense")
    assert wrong.returncode == 2 and "--only nonsense" in wrong.stderr


def test_without_a_probe_it_only_reads(lab, doctor, start):
    limpid = start("--tcp", "80")
    before = snapshot(lab.router)
    report = doctor("--no-probe")
    assert not report.bad(), report.text()
    assert report.of("probe", "skipped") and report.of("trials", "skipped") and report.of("installation", "ok")
    assert limpid.log == [] and not difference(before, snapshot(lab.router))
    for about_the_probe in (("--via", "lan"), ("--target", "198.51.100.2:80", "--as", "192.0.2.2")):
        refused = doctor.run("--no-probe", *about_the_probe)
        assert refused.returncode == limpid_process.USAGE and "leave out one of them" in refused.stderr


def test_a_name_that_is_not_installed_is_a_failure(doctor, applied):
    done = doctor.run("--name", "guests", "--only", "installation")
    assert done.returncode == 1
    assert "guests: nothing is installed under this name; installed: limpid" in done.stdout


def test_fix_does_what_is_safe_and_nothing_else(lab, doctor, applied):
    lab.router.run("ip", "rule", "del", "priority", "101")
    lab.router.sysctl("net/ipv4/conf/lan/route_localnet", 1)  # somebody may need it: not for --fix
    broken = snapshot(lab.router)
    shown = doctor.run("--fix", "--dry-run")
    assert shown.returncode == 1 and "--fix would do:" in shown.stdout and "ip -4 rule add priority 101" in shown.stdout
    assert difference(broken, snapshot(lab.router)) == []
    refused = doctor.run("--fix", stdin=open(os.devnull, encoding="ascii"))
    assert refused.returncode == 2 and "--yes" in refused.stderr
    assert difference(broken, snapshot(lab.router)) == []
    done = doctor.run("--fix", "--yes")
    assert done.returncode == 0 and "Afterwards:" in done.stdout
    report = doctor()
    assert [f["id"] for f in report.bad()] == ["route-localnet"], report.text()


def test_fix_takes_loopback_first(lab, doctor, start):
    start("--tcp", "80")
    lab.router.run("ip", "link", "set", "lo", "down")  # the kernel takes the local routes of IPv6 with it, and nobody can put them back
    missing = doctor("--no-probe").only("rules-missing", "failure")
    assert missing["remedy"][0] == "ip link set lo up" and "ip -6 route add" in missing["remedy"][1]
    done = doctor.run("--fix", "--yes", "--no-probe")
    assert done.returncode == 0 and "Afterwards:" in done.stdout, done.stdout + done.stderr
    doctor.content("--no-probe")


def test_text_has_marks_for_every_terminal(lab, doctor, applied):
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm"}
    plain = doctor.run("--only", "sysctls", env={**environment, "LC_ALL": "C"}).stdout
    assert plain.isascii() and "  + rp-filter  " in plain and "\x1b" not in plain
    assert "  √ rp-filter  " in doctor.run("--only", "sysctls", env={**environment, "LC_ALL": "C.UTF-8"}).stdout
    assert "\x1b[32m" in doctor.run("--only", "sysctls", "--color", "always", env=environment).stdout


def test_every_finding_is_documented(doctor, applied):
    with open(os.path.join(os.path.dirname(__file__), "../../docs/doctor.md"), encoding="utf-8") as file:
        text = file.read()
    for finding in doctor().findings:
        assert f"### {finding['id']}\n" in text, finding["id"]


def test_the_machine_can_do_what_is_tried(doctor):
    report = doctor("--only", "kernel")
    failed = [f for f in report.findings if f["severity"] == "failure"]
    if failed:
        pytest.skip("; ".join(f["summary"] for f in failed))
    assert {"nft-tproxy", "nft-socket", "transparent-sockets", "policy-routing"} <= {f["id"] for f in report.findings}
    assert report.findings and {f["group"] for f in report.findings} <= ABOUT_THE_MACHINE
