"""Problems that people have with TPROXY, made in the lab: doctor finds and names each, its remedy mends it when it is pasted, and
afterwards doctor is content."""

import shutil
import subprocess

import pytest

import limpid_process
from doctor_report import Doctor, Proxy, Report
from peers import wait_until

PORT = 3129


@pytest.fixture
def doctor(lab):
    return Doctor(lab.router)


@pytest.fixture
def rules(lab):
    def run(*arguments):
        return lab.router.run(limpid_process.BINARY, "rules", *arguments)
    return run


@pytest.fixture
def proxy(lab):
    """proxy(…) makes the proxy, in the place of an earlier one."""
    made = []

    def make(**how):
        for earlier in made:
            earlier.close()
        made.append(Proxy(lab.router, PORT, **how))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def applied(rules, proxy, doctor):
    """What the problems happen to."""
    proxy()
    rules("apply", "--tcp", "80", "--udp", "53", "--listen-port", PORT)
    doctor.content("--only", "probe")


def number_of(lab):
    return {"ipv4": "4", "ipv6": "6"}[lab.family]


def is_intercepted(lab, port=80, timeout=2):
    """A client's connection to an address that nobody has is there only where the router takes it."""
    try:
        lab.client.connect(lab.nowhere, port, timeout=timeout).close()
        return True
    except OSError:
        return False


# Reverse path filtering and marks in it

def test_source_validation_that_uses_the_mark(lab, doctor, applied):
    if lab.family == "ipv6":
        pytest.skip("IPv6 has no such sysctl")
    lab.router.sysctl("net/ipv4/conf/lan/src_valid_mark", 1)
    assert doctor.content().only("src-valid-mark", "ok")["subject"] == "lan", "the rule `iif lo` takes care of it"
    assert is_intercepted(lab)
    lab.router.run("ip", "rule", "del", "priority", "100")
    assert not is_intercepted(lab)
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

def test_a_bridge_whose_frames_pass_the_ip_chains(lab, doctor, proxy, rules):
    proxy()
    rules("apply", "--tcp", "80", "--listen-port", PORT, "--from", "br0")
    lab.router.run("ip", "-batch", "-", input="link add br0 type bridge\nlink set lan master br0\nlink set br0 up\n"
                   "addr flush dev lan\naddr add 192.0.2.1/24 dev br0\naddr add 2001:db8:1::1/64 dev br0 nodad\n")
    key = "net/bridge/bridge-nf-call-" + {"ipv4": "iptables", "ipv6": "ip6tables"}[lab.family]
    for each in ("iptables", "ip6tables"):
        lab.router.sysctl(f"net/bridge/bridge-nf-call-{each}", 0)
    wait_until(lambda: is_intercepted(lab, timeout=0.5), "the bridge forwards")
    doctor.content()
    lab.router.sysctl(key, 1)
    assert not is_intercepted(lab)
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
    assert not is_intercepted(lab)
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


# Firewalls

def expect_input_drop(lab, doctor, name):
    report = doctor()
    found = report.only("input-drop", "failure")
    assert name in found["summary"], found
    assert f"over IPv{number_of(lab)}" in found["subject"]
    assert not is_intercepted(lab)
    doctor.paste(found)
    assert is_intercepted(lab)
    doctor.content()


def test_an_nft_input_chain_that_lets_only_its_own_in(lab, doctor, applied):
    lab.router.nft("table inet wall { chain guard { type filter hook input priority 5; policy drop; "
                   "ct state established,related accept; iif lo accept; meta l4proto { icmp, ipv6-icmp } accept; }; }\n")
    expect_input_drop(lab, doctor, "nft chain inet wall guard")


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


# Set-ups made by hand

@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_a_tproxy_setup_with_both_mistakes(lab, doctor, need, variant):
    program = {"ipv4": "iptables", "ipv6": "ip6tables"}[lab.family] + "-" + variant
    need(program, "iptables")

    def iptables(*arguments):
        done = lab.router.run(program, "-t", "mangle", *arguments, check=False)
        if done.returncode:
            pytest.skip(f"{program}: {done.stderr}")
        return done.stdout

    iptables("-N", "DIVERT")
    iptables("-A", "DIVERT", "-j", "MARK", "--set-mark", "0x1/0x1")
    iptables("-A", "DIVERT", "-j", "ACCEPT")
    iptables("-A", "PREROUTING", "-p", "tcp", "--dport", "80", "-m", "comment", "--comment", "web's way", "-j", "TPROXY", "--on-port", "3129",
             "--tproxy-mark", "0x1/0x1")
    iptables("-A", "PREROUTING", "-p", "tcp", "-m", "socket", "-m", "comment", "--comment", "the $old 'ones'", "-j", "DIVERT")
    report = doctor()
    assert report.only("socket-not-transparent", "failure")["subject"] == f"{program} -t mangle PREROUTING 2"
    doctor.paste(report.only("socket-not-transparent", "failure"))
    report = doctor()
    assert not report.of("socket-not-transparent")
    doctor.paste(report.only("divert-behind-tproxy", "failure"))
    doctor.content()
    first, second = iptables("-S", "PREROUTING").splitlines()[1:]
    assert "socket --transparent" in first and "the $old 'ones'" in first.replace("\\", "") and "TPROXY" in second


def test_an_nft_tproxy_setup_in_the_wrong_order(lab, doctor):
    lab.router.nft("""table inet squid { chain pre { type filter hook prerouting priority mangle
        tcp dport 80 tproxy to :3129 meta mark set 1 accept
        meta l4proto tcp socket transparent 1 meta mark set 1 accept
    }; }\n""")
    found = doctor().only("divert-behind-tproxy", "failure")
    doctor.paste(found)
    doctor.content()
    chain = lab.router.run("nft", "list", "chain", "inet", "squid", "pre").stdout
    assert 0 < chain.index("socket transparent") < chain.index("tproxy to")


# The proxy

@pytest.mark.parametrize("wrong", [{"transparent": ()}, {"transparent": ("ipv4",)}, {"families": ("ipv4",)}],
                         ids=["no IP_TRANSPARENT", "no IPV6_TRANSPARENT", "no listener for IPv6"])
def test_a_listener_that_lacks_something(lab, doctor, rules, proxy, wrong):
    proxy()
    rules("apply", "--tcp", "80", "--udp", "53", "--listen-port", PORT)
    proxy(**wrong)  # it was started anew, with another configuration
    report = doctor()
    identifier = "listener" if "families" in wrong else "listener-transparent"
    subjects = {f["subject"] for f in report.of(identifier, "failure")}
    assert subjects >= {f"TCP [::1]:{PORT}", f"UDP [::1]:{PORT}"}
    assert (f"TCP 127.0.0.1:{PORT}" in subjects) == (wrong == {"transparent": ()})
    if identifier == "listener-transparent":
        assert "IPV6_TRANSPARENT" in [f for f in report.of(identifier) if "[::1]" in f["subject"]][0]["summary"]
    assert "IPv6" in report.only("probe-not-intercepted", "failure")["subject"]
    proxy()
    doctor.content()


def test_a_listener_that_the_network_reaches(lab, doctor, rules, proxy):
    proxy(how="anywhere")
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
    assert not is_intercepted(lab)
    report = doctor()
    assert f"IPv{number_of(lab)}" in report.only("probe-routing", "failure")["subject"]
    found = report.only("rule-order", "warning")
    doctor.paste(found)
    assert is_intercepted(lab)
    doctor.content()
