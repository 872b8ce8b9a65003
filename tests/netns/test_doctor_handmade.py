"""Set-ups for TPROXY that somebody made by hand, with the mistakes that recipes have: doctor finds and names each, and is content when its
remedy was pasted."""

import pytest

import limpid_process
from doctor_fixtures import PORT, is_intercepted

VARIANTS = pytest.mark.parametrize("variant", ["nft", "iptables-nft", "iptables-legacy"])


@pytest.fixture
def flag(lab):
    return {"ipv4": "-4", "ipv6": "-6"}[lab.family]


@pytest.fixture
def iptables(lab, need):
    """iptables(variant) gives the program of that variant for the family under test: a function, for its table mangle."""
    def choose(variant):
        program = {"ipv4": "iptables", "ipv6": "ip6tables"}[lab.family] + variant.removeprefix("iptables")
        need(program, "iptables")

        def run(*arguments):
            done = lab.router.run(program, "-t", "mangle", *arguments, check=False)
            if done.returncode:
                pytest.skip(f"{program}: {done.stderr}")
            return done.stdout
        run.program = program
        return run
    return choose


@pytest.fixture
def hand_to_proxy(lab, iptables):
    """hand_to_proxy(variant, mark) makes the rule that every recipe has, and returns what the doctor calls it."""
    def add(variant, mark="0x1"):
        address = {"ipv4": "127.0.0.1", "ipv6": "::1"}[lab.family]
        if variant == "nft":
            family = {"ipv4": "ip", "ipv6": "ip6"}[lab.family]
            shown = f"[{address}]" if ":" in address else address
            value = mark if "/" not in mark else f"meta mark and 0xfffffff0 or {mark.split('/')[0]}"
            lab.router.nft(f"table {family} squid {{ chain pre {{ type filter hook prerouting priority mangle;\n"
                           f"tcp dport 80 tproxy to {shown}:{PORT} meta mark set {value} accept\n}}; }}\n")
            return f"nft {family} squid pre"
        run = iptables(variant)
        run("-A", "PREROUTING", "-p", "tcp", "--dport", "80", "-j", "TPROXY", "--on-ip", address, "--on-port", PORT, "--tproxy-mark", mark)
        return f"{run.program} -t mangle PREROUTING 1"
    return add


def route_marked(lab, mark="1", table="100", families=None):
    for family in families or [lab.family]:
        flag = {"ipv4": "-4", "ipv6": "-6"}[family]
        lab.router.run("ip", flag, "rule", "add", "fwmark", mark, "lookup", table)
        lab.router.run("ip", flag, "route", "add", "local", "default", "dev", "lo", "table", table)


# Marked, and not delivered

@VARIANTS
def test_a_mark_that_nothing_routes_here(lab, doctor, judged_proxy, hand_to_proxy, flag, variant):
    judged_proxy()
    where = hand_to_proxy(variant)
    assert not is_intercepted(lab, timeout=0.5)
    found = doctor("--only", "routing").only("mark-not-delivered", "failure")
    assert found["subject"] == where and "mark 0x1" in found["summary"] and f"IPv{lab.family[-1]}" in found["summary"]
    assert found["remedy"] == [f"ip {flag} rule add fwmark 0x1 lookup 100", f"ip {flag} route add local default dev lo table 100"]
    doctor.paste(found)
    assert is_intercepted(lab)
    assert doctor.content("--only", "routing").only("mark-not-delivered", "ok")


@VARIANTS
def test_a_table_without_its_local_route(lab, doctor, judged_proxy, hand_to_proxy, flag, variant):
    judged_proxy()
    hand_to_proxy(variant, "0x1/0xf")
    lab.router.run("ip", flag, "rule", "add", "fwmark", "0x1/0x1", "lookup", "107")
    # One for the other family, and one of another kind, are not it.
    lab.router.run("ip", {"-4": "-6", "-6": "-4"}[flag], "route", "add", "local", "default", "dev", "lo", "table", "107")
    assert not is_intercepted(lab, timeout=0.5)
    found = doctor("--only", "mark-not-delivered").only("mark-not-delivered", "failure")
    assert "table 107" in found["summary"]
    assert found["remedy"] == [f"ip {flag} route add local default dev lo table 107"]
    doctor.paste(found)
    assert is_intercepted(lab)
    doctor.content("--only", "routing")


@pytest.mark.parametrize("mark, route", [("0x2", "local default dev lo"), ("0x1", "default dev wan")], ids=["another mark", "a way to elsewhere"])
def test_a_policy_rule_that_is_not_the_one(lab, doctor, judged_proxy, hand_to_proxy, flag, mark, route):
    judged_proxy()
    hand_to_proxy("nft")
    lab.router.run("ip", flag, "rule", "add", "priority", "300", "fwmark", mark, "lookup", "100")
    lab.router.run("ip", flag, "route", "add", *route.split(), "table", "100")
    found = doctor("--only", "routing").only("mark-not-delivered", "failure")
    assert "no policy rule" in found["summary"] and "lookup 101" in found["remedy"][0], "table 100 is somebody's"
    doctor.paste(found)
    assert is_intercepted(lab)
    doctor.content("--only", "routing")


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("to, lost", [("to", ["4", "6"]), ("ip to", ["4"]), ("ip6 to", ["6"])])
def test_a_table_for_both_families_needs_what_it_takes(lab, doctor, to, lost):
    lab.router.nft("table inet squid { chain pre { type filter hook prerouting priority mangle;\n"
                   f"tcp dport 80 tproxy {to} :{PORT} meta mark set 1 accept\n}}; }}\n")
    found = doctor("--only", "routing").of("mark-not-delivered", "failure")
    assert [f["summary"].partition("(IPv")[2][0] for f in found] == lost
    for each in found:
        doctor.paste(each)
    doctor.content("--only", "routing")


@VARIANTS
def test_what_is_right_is_let_alone(lab, doctor, hand_to_proxy, flag, variant):
    hand_to_proxy(variant, "0x1/0xf")
    route_marked(lab, mark="0x1/0xf", table="7")
    assert doctor.content("--only", "routing").only("mark-not-delivered", "ok")
    # So it is without a mark, by the interface, and for some destinations only.
    lab.router.run("ip", flag, "rule", "del", "fwmark", "0x1/0xf")
    lab.router.run("ip", flag, "route", "del", "local", "default", "dev", "lo", "table", "7")
    lab.router.run("ip", flag, "rule", "add", "iif", "lan", "lookup", "7")
    lab.router.run("ip", flag, "route", "add", "local", lab.nowhere, "dev", "lo", "table", "7")
    doctor.content("--only", "routing")


def test_a_rule_that_sets_no_mark_is_not_judged(lab, doctor):
    """Another rule may."""
    lab.router.nft("table inet squid { chain pre { type filter hook prerouting priority mangle;\n"
                   f"meta mark set 1\ntcp dport 80 tproxy to :{PORT} accept\n}}; }}\n")
    assert not doctor("--only", "routing").of("mark-not-delivered")


# The order, and --transparent

@pytest.mark.parametrize("variant", ["iptables-nft", "iptables-legacy"])
def test_a_tproxy_setup_with_both_mistakes(lab, doctor, iptables, variant):
    run = iptables(variant)
    route_marked(lab)
    run("-N", "DIVERT")
    run("-A", "DIVERT", "-j", "MARK", "--set-mark", "0x1/0x1")
    run("-A", "DIVERT", "-j", "ACCEPT")
    run("-A", "PREROUTING", "-p", "tcp", "--dport", "80", "-m", "comment", "--comment", "web's way", "-j", "TPROXY", "--on-port", "3129",
        "--tproxy-mark", "0x1/0x1")
    run("-A", "PREROUTING", "-p", "tcp", "-m", "socket", "-m", "comment", "--comment", "the $old 'ones'", "-j", "DIVERT")
    report = doctor()
    assert report.only("socket-not-transparent", "failure")["subject"] == f"{run.program} -t mangle PREROUTING 2"
    theirs = ("PREROUTING", "-p", "udp", "--dport", "5353", "-j", "ACCEPT")
    run("-I", *theirs)  # meanwhile: every number is another
    doctor.paste(report.only("socket-not-transparent", "failure"))
    run("-C", *theirs)
    assert run("-S", "PREROUTING").count("TPROXY") == 1
    assert not doctor().of("socket-not-transparent")
    run("-D", *theirs)
    divert = ("PREROUTING", "-p", "tcp", "-m", "socket", "--transparent", "-m", "comment", "--comment", "the $old 'ones'", "-j", "DIVERT")
    run("-D", *divert)
    run("-A", *divert)
    report = doctor()
    doctor.paste(report.only("divert-behind-tproxy", "failure"))
    doctor.content()
    first, second = run("-S", "PREROUTING").splitlines()[1:]
    assert "socket --transparent" in first and "the $old 'ones'" in first.replace("\\", "") and "TPROXY" in second


def test_fix_mends_both_mistakes_at_once(lab, doctor, iptables):
    run = iptables("iptables-nft")
    for rule in (("-N", "DIVERT"), ("-A", "DIVERT", "-j", "ACCEPT"),
                 ("-A", "PREROUTING", "-p", "tcp", "--dport", "80", "-j", "TPROXY", "--on-port", "3129"),
                 ("-A", "PREROUTING", "-p", "tcp", "-m", "socket", "-j", "DIVERT")):
        run(*rule)
    lab.router.run(limpid_process.BINARY, "doctor", "--only", "firewall", "--fix", "--yes", check=False)
    first, second = run("-S", "PREROUTING").splitlines()[1:]
    assert "socket --transparent" in first and "TPROXY" in second


def test_an_nft_tproxy_setup_in_the_wrong_order(lab, doctor):
    route_marked(lab, families=("ipv4", "ipv6"))
    lab.router.nft("""table inet squid { chain pre { type filter hook prerouting priority mangle
        tcp dport 80 tproxy to :3129 meta mark set 1 accept
        meta l4proto tcp socket transparent 1 meta mark set 1 accept
    }; }\n""")
    found = doctor().only("divert-behind-tproxy", "failure")
    doctor.paste(found)
    doctor.content()
    chain = lab.router.run("nft", "list", "chain", "inet", "squid", "pre").stdout
    assert 0 < chain.index("socket transparent") < chain.index("tproxy to")
