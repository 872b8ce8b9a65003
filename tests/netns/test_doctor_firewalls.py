"""Problems that firewalls make for TPROXY: doctor finds and names each, and is content when it is mended."""

import shutil

import pytest

from doctor_fixtures import is_intercepted
from peers import wait_until


def number_of(lab):
    return {"ipv4": "4", "ipv6": "6"}[lab.family]


# Firewalls

def expect_input_drop(lab, doctor, name):
    report = doctor()
    found = report.only("input-drop", "failure")
    assert name in found["summary"], found
    assert f"over IPv{number_of(lab)}" in found["subject"]
    assert not is_intercepted(lab, timeout=0.5)
    doctor.paste(found)
    assert is_intercepted(lab)
    doctor.content()


def test_an_nft_input_chain_that_lets_only_its_own_in(lab, doctor, applied):
    lab.router.nft("table inet wall { chain guard { type filter hook input priority 5; policy drop; "
                   "ct state established,related accept; iif lo accept; meta l4proto { icmp, ipv6-icmp } accept; }; }\n")
    expect_input_drop(lab, doctor, "nft chain inet wall guard")


@pytest.mark.parametrize("family", ["ipv6"], indirect=True)
def test_an_input_chain_that_drops_neighbour_discovery(lab, doctor, applied):
    lab.router.nft("table inet wall { chain guard { type filter hook input priority 5; policy drop; "
                   "ct state established,related accept; iif lo accept; }; }\n")
    found = [f for f in doctor().of("input-drop", "warning") if f["group"] == "probe"]
    assert found and "neighbour discovery, by nft chain inet wall guard" in found[0]["summary"]
    assert set(found[0]["subject"].split(", ")) == {"TCP over IPv6", "UDP over IPv6"}
    done = doctor.run("--fix", "--yes")
    assert done.returncode == 0, done.stdout
    assert is_intercepted(lab)
    doctor.content()


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_an_iptables_input_chain_that_lets_only_its_own_in(lab, doctor, applied, need, variant):
    program = {"ipv4": "iptables", "ipv6": "ip6tables"}[lab.family] + "-" + variant
    need(program, "iptables")
    protocol = {"ipv4": "icmp", "ipv6": "ipv6-icmp"}[lab.family]
    for rule in (["-A", "INPUT", "-i", "lo", "-j", "ACCEPT"], ["-A", "INPUT", "-p", protocol, "-j", "ACCEPT"], ["-P", "INPUT", "DROP"]):
        done = lab.router.run(program, *rule, check=False)
        if done.returncode:
            pytest.skip(f"{program}: {done.stderr}")
    expect_input_drop(lab, doctor, f"{program} filter INPUT")


BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>custom</type><listen>unix:path={}/bus</listen><auth>EXTERNAL</auth><policy context="default"><allow user="*"/><allow own="*"/>
<allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>"""


def test_firewalld(lab, doctor, applied, need, tmp_path):
    """The daemon itself, on a bus of its own, with Debian's configuration."""
    need("firewalld", "firewalld")
    need("dbus-daemon", "dbus-daemon")
    (tmp_path / "bus.conf").write_text(BUS.format(tmp_path), encoding="ascii")
    shutil.copytree("/etc/firewalld", tmp_path / "firewalld")
    lab.router.start(["dbus-daemon", f"--config-file={tmp_path}/bus.conf", "--nofork"])
    wait_until((tmp_path / "bus").exists, "the bus is there")
    with open(tmp_path / "log", "wb") as log:
        lab.router.start(["/usr/bin/python3", shutil.which("firewalld"), "--nofork", "--nopid", f"--system-config={tmp_path}/firewalld"],
                         env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={tmp_path}/bus"},
                         stdout=log, stderr=log)
    chain = ("nft", "list", "chain", "inet", "firewalld", "filter_INPUT")
    wait_until(lambda: "reject" in lab.router.run(*chain, check=False).stdout, f"firewalld has loaded its rules: {tmp_path}/log", 60)
    expect_input_drop(lab, doctor, "inet firewalld filter_INPUT")


def test_a_rule_of_others_that_drops_before_ours(lab, doctor, applied):
    lab.router.nft("table inet early { chain pre { type filter hook prerouting priority -160; tcp dport 80 drop; }; }\n")
    report = doctor()
    assert report.only("rules-before", "warning")["subject"] == "inet early pre"
    lost = report.only("probe-prerouting", "failure")
    assert "inet early pre" in lost["summary"] and "UDP" not in lost["subject"]
    doctor.paste(lost)  # shows the chain
    lab.router.run("nft", "delete", "table", "inet", "early")
    doctor.content()


def test_a_rule_of_others_that_takes_the_mark_away(lab, doctor, applied):
    lab.router.nft("table inet late { chain pre { type filter hook prerouting priority -140; meta mark set 7; }; }\n")
    report = doctor()
    assert report.only("mark-overwritten", "warning")["subject"] == "inet late pre"
    assert report.only("probe-not-intercepted", "failure")
    lab.router.run("nft", "delete", "table", "inet", "late")
    doctor.content()


def test_a_firewall_that_drops_the_answers(lab, doctor, applied):
    lab.router.nft("table inet mute { chain out { type filter hook output priority 0; tcp sport 80 drop; }; }\n")
    lost = doctor().only("answer-drop", "failure")
    assert "inet mute out" in lost["summary"]
    lab.router.run("nft", "delete", "table", "inet", "mute")
    doctor.content()
