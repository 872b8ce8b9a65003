"""Problems that people have with TPROXY, made in the lab: doctor finds and names each, its remedy mends it when it is pasted, and
afterwards doctor is content. Those that firewalls make stand in test_doctor_firewalls.py, those of
set-ups by hand in test_doctor_handmade.py."""

import subprocess

import pytest

import limpid_process
from doctor_fixtures import PORT, is_intercepted
from doctor_report import Doctor, Report
from peers import wait_until


def number_of(lab):
    return {"ipv4": "4", "ipv6": "6"}[lab.family]


# Reverse path filtering and marks in it

def test_source_validation_that_uses_the_mark(lab, doctor, applied):
    if lab.family == "ipv6":
        pytest.skip("IPv6 has no such sysctl")
    lab.router.sysctl("net/ipv4/conf/lan/src_valid_mark", 1)
    assert doctor.content().only("src-valid-mark", "ok")["subject"] == "lan", "the rule `iif lo` takes care of it"
    assert is_intercepted(lab)
    lab.router.run("ip", "rule", "del", "priority", "100")
    assert not is_intercepted(lab, timeout=0.5)
    report = doctor("--via", "lan")
    assert report.only("src-valid-mark", "failure")["subject"] == "lan"
    lost = report.only("probe-routing", "failure")
    assert "source validation" in lost["summary"] and "IPv4" in lost["subject"] and "IPv6" not in lost["subject"]
    doctor.paste(report.only("src-valid-mark", "failure"))
    assert is_intercepted(lab)
    doctor.paste(doctor().only("rules-missing", "failure"))
    doctor.content("--via", "lan")


def test_source_validation_under_a_setup_made_by_hand(lab, doctor):
    if lab.family == "ipv6":
        pytest.skip("IPv6 has no such sysctl")
    lab.router.run("ip", "rule", "add", "fwmark", "1", "lookup", "100")
    lab.router.run("ip", "route", "add", "local", "default", "dev", "lo", "table", "100")
    doctor.content()
    lab.router.sysctl("net/ipv4/conf/lan/src_valid_mark", 1)
    found = doctor().only("src-valid-mark", "failure")
    assert found["subject"] == "lan"
    doctor.paste(found)
    doctor.content()


def test_a_strict_reverse_path_filter_that_drops(lab, doctor, applied):
    if lab.family == "ipv6":
        pytest.skip("IPv6 has no such sysctl")
    lab.router.sysctl("net/ipv4/conf/lan/rp_filter", 1)
    assert is_intercepted(lab), "and the client knows the router's MAC address: the filter drops ARP from foreign addresses too"
    assert doctor.content().of("rp-filter", "ok"), "strict, but it has dropped nothing"
    lab.client.run("ip", "addr", "add", "198.51.100.77/32", "dev", "eth0")  # an address that the router has behind wan
    foreign = lab.client.datagrams(address="198.51.100.77")
    foreign.sendto(b"who is that?", (lab.nowhere, 53))
    found = wait_until(lambda: doctor().of("rp-filter", "warning"), "its drop is counted")[0]
    assert found["subject"] == "lan" and "lan=1" in found["summary"]
    doctor.paste(found)
    doctor.content()


# Bridges

def test_a_bridge_whose_frames_pass_the_ip_chains(lab, doctor, judged_proxy, rules):
    judged_proxy()
    rules("apply", "--tcp", "80", "--listen-port", PORT, "--from", "br0")
    lab.router.run("ip", "-batch", "-", input="link add br0 type bridge\nlink set lan master br0\nlink set br0 up\n"
                   "addr flush dev lan\naddr add 192.0.2.1/24 dev br0\naddr add 2001:db8:1::1/64 dev br0 nodad\n")
    key = "net/bridge/bridge-nf-call-" + {"ipv4": "iptables", "ipv6": "ip6tables"}[lab.family]
    for each in ("iptables", "ip6tables"):
        lab.router.sysctl(f"net/bridge/bridge-nf-call-{each}", 0)
    wait_until(lambda: is_intercepted(lab, timeout=0.5), "the bridge forwards")
    doctor.content()
    lab.router.sysctl(key, 1)
    assert not is_intercepted(lab, timeout=0.5)
    found = doctor().only("br-netfilter", "failure")
    assert found["subject"] == "br0" and key.replace("/", ".") in found["summary"]
    doctor.paste(found)
    assert is_intercepted(lab)
    doctor.content()


# What others delete, and what is left

def test_a_rule_and_a_route_that_somebody_deleted(lab, doctor, applied):
    flag = "-" + number_of(lab)
    lab.router.run("ip", flag, "rule", "del", "priority", "101")
    lab.router.run("ip", flag, "route", "flush", "table", "7676")
    assert not is_intercepted(lab, timeout=0.5)
    report = doctor()
    found = report.only("rules-missing", "failure")
    assert f"ip {flag} " in found["summary"]
    assert {"ipv4": "IPv4", "ipv6": "IPv6"}[lab.family] in report.only("probe-routing", "failure")["subject"]
    doctor.paste(found)
    assert is_intercepted(lab)
    doctor.content()


def test_rules_whose_table_somebody_flushed(lab, doctor, applied):
    lab.router.run("nft", "flush", "ruleset")
    found = doctor().only("orphans", "warning")
    doctor.paste(found)
    doctor.content()
    assert "proto 76" not in lab.router.run("ip", "rule").stdout


def test_what_a_killed_run_left(lab, doctor, start):
    start("--tcp", "80", "--fail", "closed").kill()
    report = doctor()
    assert report.only("listener", "failure")
    found = report.only("left-over", "warning")
    assert "rejected" in found["summary"]
    doctor.paste(found)
    doctor.content()


NETWORKD = "/lib/systemd/systemd-networkd"
UNDISTURBED = """mount --make-rprivate /; mount -t tmpfs none /run; mount -t tmpfs none /etc/systemd; mount -t sysfs -o ro sysfs /sys
install -d -o systemd-network -g systemd-network /run/systemd/netif; exec """


def test_networkd(lab, need):
    """The daemon itself, on the router, with files of its own. What it deletes, and when, depends on its version; that it may is what is
    found."""
    need(NETWORKD, "systemd")
    daemon = lab.router.start(["unshare", "-m", "sh", "-ec", UNDISTURBED + NETWORKD], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    comm = f"/proc/{daemon.pid}/comm"
    wait_until(lambda: open(comm, encoding="ascii").read() == "systemd-network\n", "networkd runs")

    def inside(*command):
        return lab.router.run("nsenter", "-m", "-t", daemon.pid, *command, check=False)

    def found():
        done = inside(limpid_process.BINARY, "doctor", "--only", "networkd", "--json")
        return Report(done.stdout, done.returncode).findings

    warned = found()
    assert [f["severity"] for f in warned] == ["warning"]
    for line in warned[0]["remedy"]:
        if "systemctl" not in line:  # there is no service manager in here
            assert inside("sh", "-ec", line).returncode == 0
    assert [f["severity"] for f in found()] == ["ok"]
    daemon.kill()
    daemon.wait()
    assert not Doctor(lab.router)("--only", "networkd").findings, "it runs no more"


# The proxy

@pytest.mark.parametrize("wrong", [{"transparent": ()}, {"transparent": ("ipv4",)}, {"families": ("ipv4",)}],
                         ids=["no IP_TRANSPARENT", "no IPV6_TRANSPARENT", "no listener for IPv6"])
def test_a_listener_that_lacks_something(lab, doctor, rules, judged_proxy, wrong):
    judged_proxy()
    rules("apply", "--tcp", "80", "--udp", "53", "--listen-port", PORT)
    judged_proxy(**wrong)  # it was started anew, with another configuration
    report = doctor()
    identifier = "listener" if "families" in wrong else "listener-transparent"
    subjects = {f["subject"] for f in report.of(identifier, "failure")}
    assert subjects >= {f"TCP [::1]:{PORT}", f"UDP [::1]:{PORT}"}
    assert (f"TCP 127.0.0.1:{PORT}" in subjects) == (wrong == {"transparent": ()})
    if identifier == "listener-transparent":
        assert "IPV6_TRANSPARENT" in [f for f in report.of(identifier) if "[::1]" in f["subject"]][0]["summary"]
    assert "IPv6" in report.only("probe-not-intercepted", "failure")["subject"]
    judged_proxy()
    doctor.content()


def test_a_listener_that_the_network_reaches(lab, doctor, rules, judged_proxy):
    judged_proxy(how="anywhere")
    rules("apply", "--tcp", "80", "--listen-port", PORT)
    lab.client.connect(lab.router.address, PORT).close()
    found = doctor().only("wan-exposure", "warning")
    assert "was reached" in found["summary"]
    doctor.paste(found)
    with pytest.raises(OSError):
        lab.client.connect(lab.router.address, PORT, timeout=1)
    assert is_intercepted(lab)
    doctor.content()


# The way back

def test_answers_that_do_not_come_back(lab, doctor, start):
    start("--tcp", "80", "--connect-timeout", "30s")
    lab.server.listen(80)
    server, client = f"[{lab.server.address}]:80" if lab.family == "ipv6" else f"{lab.server.address}:80", lab.client.address
    asked = ("--target", server, "--as", client)
    assert doctor.content(*asked).of("return-path", "ok")
    # The server has another way to the client, on which its answers are lost.
    other = {"ipv4": "198.51.100.99", "ipv6": "2001:db8:2::99"}[lab.family]
    lab.server.run("ip", "-" + number_of(lab), "route", "add", client, "via", other)
    lab.server.run("ip", "neigh", "add", other, "lladdr", "02:00:00:00:00:99", "dev", "eth0")
    waiting = lab.client.socket()
    waiting.setblocking(False)
    waiting.connect_ex((lab.server.address, 80))
    suspected = wait_until(lambda: doctor("--only", "routing").of("return-path", "warning"), "the SYN is repeated")[0]
    assert suspected["subject"] == server
    assert suspected["remedy"] == [f"limpid doctor --target {server} --as {client}"]
    found = doctor(*asked).only("return-path", "failure")
    doctor.paste(found, host=lab.server)
    waiting.close()
    wait_until(lambda: not doctor(*asked).bad(), "the connection that waited got its answer")
    doctor.content(*asked)


# Settings and interfaces

def test_route_localnet(lab, doctor, applied):
    lab.router.sysctl("net/ipv4/conf/wan/route_localnet", 1)
    found = doctor().only("route-localnet", "warning")
    assert found["subject"] == "wan"
    doctor.paste(found)
    doctor.content()


def test_an_interface_in_scope_that_is_not_there(lab, doctor, judged_proxy, rules):
    judged_proxy()
    lab.router.run("ip", "link", "add", "guests", "type", "veth", "peer", "name", "guests2")
    rules("apply", "--tcp", "80", "--listen-port", PORT, "--from", "lan", "--from", "guests")
    assert not doctor("--no-probe").of("interface-missing")
    lab.router.run("ip", "link", "del", "guests")
    assert doctor("--no-probe").only("interface-missing", "warning")["subject"] == "guests"


def test_interfaces_of_different_mtu(lab, doctor, applied):
    lab.router.run("ip", "link", "set", "wan", "mtu", "1400")
    found = doctor().only("mtu", "warning")
    assert found["subject"] == "lan" and "1400 on wan" in found["summary"]
    doctor.paste(found)
    doctor.content()


def test_forwarding_that_is_off(lab, doctor, applied):
    key = {"ipv4": "net/ipv4/conf/all/forwarding", "ipv6": "net/ipv6/conf/all/forwarding"}[lab.family]
    lab.router.sysctl(key, 0)
    found = doctor().only("forwarding", "warning")
    assert found["subject"] == {"ipv4": "IPv4", "ipv6": "IPv6"}[lab.family]
    doctor.paste(found)
    doctor.content()


# Others who use our numbers

@pytest.mark.parametrize("identifier, command", [
    ("mark-clash", "rule add priority 500 fwmark 0x1000000/0xff000000 lookup 99"),
    ("table-clash", "rule add priority 600 to {elsewhere} lookup 7676"),
    ("priority-clash", "rule add priority 101 to {elsewhere} lookup 99"),
])
def test_somebody_else_uses_our_numbers(lab, doctor, applied, identifier, command):
    elsewhere = {"ipv4": "10.0.0.0/8", "ipv6": "2001:db8:77::/48"}[lab.family]
    lab.router.run("ip", "-" + number_of(lab), *command.format(elsewhere=elsewhere).split())
    found = doctor().only(identifier, "failure")
    assert "ip -" + number_of(lab) in found["summary"]
    doctor.paste(found)
    assert is_intercepted(lab)
    doctor.content()


def test_a_policy_rule_that_comes_before_ours(lab, doctor, applied):
    gateway = lab.server.address
    lab.router.run("ip", "-" + number_of(lab), "route", "add", "default", "via", gateway)
    lab.router.run("ip", "-" + number_of(lab), "rule", "add", "priority", "50", "lookup", "main")
    assert not is_intercepted(lab, timeout=0.5)
    report = doctor()
    assert f"IPv{number_of(lab)}" in report.only("probe-routing", "failure")["subject"]
    found = report.only("rule-order", "warning")
    doctor.paste(found)
    assert is_intercepted(lab)
    doctor.content()
