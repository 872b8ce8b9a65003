"""[upstreams.NAME]: several groups beside each other, each with its own way out, exchanged by a reload under flows that live on."""

import json
import os

import pytest

import limpid_process
from peers import Background, exchange, wait_until
from udp_exchange import ask
from upstream_peers import NEEDS, at, danted, is_reset, through


def limpid_on(lab, *arguments):
    return lab.router.run(limpid_process.BINARY, *arguments, check=False)


def served(lab, port, *listeners):
    """Which of the listeners gets a flow to `port`; every byte goes both ways."""
    client = lab.client.connect(lab.server.address, port)
    taken = []

    def accepted():
        for number, listener in enumerate(listeners):
            listener.setblocking(False)
            try:
                taken.append((number, listener.accept()))
            except BlockingIOError:
                continue
            return True
        return False

    wait_until(accepted, "one of them gets it")
    number, (server, seen) = taken[0]
    server.settimeout(10)
    exchange(client, server)
    return number, client, server, seen


def test_rules_choose_among_groups(lab, start, configure, upstream):
    office, lab_proxy = upstream("microsocks", 1080), upstream("tinyproxy", 1081)
    limpid = start("-c", configure(
        tcp="80-83", upstreams={"office": {"servers": [office.url]}, "lab": {"servers": [lab_proxy.url], "choice": "round-robin"},
                                "none": {"servers": [f"socks5://{at(lab.server.address, 1082)}"], "check": "0", "down": "direct"}},
        rules=["dport(80) -> via(office)", "dport(81) -> via(lab)", "dport(82) -> via(none)", "otherwise -> direct"]))
    for port in (80, 81, 82, 83):
        connection = lab.dial(lab.server.listen(port))
        exchange(connection.client, connection.server)
        connection.client.close()
        connection.server.close()
    flows = {flow["rule"]: flow for flow in limpid.flows(4)}
    assert [flows[rule].get("upstream") for rule in "1234"] == [office.shown, lab_proxy.shown, "direct", None]
    counters = limpid.counters()
    assert (counters["upstreams_up"], counters["upstreams_down"], counters["upstream_direct"]) == (3, 0, 1)
    for group in ("office", "lab"):
        assert f"group={group} state=up flows=1" in limpid.messages


def test_each_group_has_its_own_way_out(lab, start, configure):
    """Interface, source and mark: an address that only a table of its own knows, chosen by the mark."""
    far, second = {"ipv4": ("203.0.113.9", "198.51.100.11"), "ipv6": ("2001:db8:9::9", "2001:db8:2::11")}[lab.family]
    ip = ["ip", "-6"] if lab.family == "ipv6" else ["ip"]
    lab.server.run("ip", "address", "add", far, "dev", "lo")
    lab.router.run("ip", "address", "add", f"{second}/{64 if lab.family == 'ipv6' else 24}", "dev", "wan", *(["nodad"] if lab.family == "ipv6" else []))
    lab.router.run(*ip, "route", "add", far, "via", lab.server.address, "dev", "wan", "table", "200")
    lab.router.run(*ip, "rule", "add", "priority", "50", "fwmark", "0x20/0xff", "lookup", "200")
    url = f"tcp://{at(far, 8080)}"
    start("-c", configure(
        tcp="80-82", upstreams={"marked": {"servers": [url], "mark": "0x20", "source": second, "interface": "wan", "check": "0"},
                                "unmarked": {"servers": [url], "check": "0"}},
        rules=["dport(80) -> via(marked)", "otherwise -> via(unmarked)"]))
    listener = lab.server.listen(8080, address=far)
    _, client, server, seen = served(lab, 80, listener)
    assert seen[0] == second
    client.close()
    server.close()
    with pytest.raises(OSError):
        lab.client.connect(lab.server.address, 81).recv(1)


def test_datagrams_take_the_way_of_their_group(lab, start, configure, folder, need):
    need(*NEEDS["danted"])
    peer = danted(lab.server, folder, 1080)
    lab.router.nft("table inet seen {\nchain out {\ntype filter hook output priority 0\n"
                   "oifname wan meta l4proto udp meta mark and 0xff == 0x20 counter\n}\n}\n")
    start("-c", configure(udp="7000", rules=["otherwise -> via(office)"],
                          upstreams={"office": {"servers": [f"socks5://{at(lab.server.address, 1080)}"], "mark": "0x20", "interface": "wan", "source": lab.wan}}))
    assert ask(lab.client.datagrams(), lab.server.datagrams(7000), lab, port=7000)[0] == lab.server.address
    assert "counter packets 1 " in lab.router.run("nft", "list", "table", "inet", "seen").stdout
    peer.kill()


def test_a_mark_of_limpids_own_is_refused(lab, launch, configure):
    limpid = launch("--mark", "0x1000000/0x3000000", "-c", configure(
        tcp=80, rules=["otherwise -> via(office)"], upstreams={"office": {"servers": ["socks5://192.0.2.9"], "mark": "0x1000000"}}))
    assert limpid.process.wait(10) == limpid_process.USAGE
    assert "mark 0x1000000 has bits of Limpid's own" in limpid.messages


def test_a_reload_exchanges_groups_under_flows(lab, start, configure):
    listeners = [lab.server.listen(port) for port in (8081, 8082)]

    def groups(port, **more):
        # Without checks: each would be a connection to the listeners.
        return {"office": {"servers": [f"tcp://{at(lab.server.address, port)}"], "check": "0", **more},
                "same": {"servers": [f"tcp://{at(lab.server.address, 8081)}"], "check": "0"}}

    rules = ["dport(80) -> via(office)", "dport(81) -> via(same)", "otherwise -> direct"]
    limpid = start("-c", configure(tcp="80-81", rules=rules, upstreams=groups(8081)))
    number, client, server, _ = served(lab, 80, *listeners)
    assert number == 0
    path = configure(tcp="80-81", rules=rules, upstreams=groups(8082, choice="round-robin"))
    done = limpid_on(lab, "diff", path)
    assert (done.returncode, done.stdout) == (1, "~ upstreams.office: choice, servers\n"), done.stderr
    report = json.loads(limpid_on(lab, "diff", "--json", path).stdout)
    assert report["upstreams"] == [{"change": "changed", "group": "office", "settings": ["choice", "servers"]}] and not report["needs_restart"]
    assert limpid_on(lab, "reload").returncode == 0
    assert limpid_on(lab, "diff", path).returncode == 0
    assert served(lab, 80, *listeners)[0] == 1
    assert served(lab, 81, *listeners)[0] == 0
    exchange(client, server, seed=2)

    # One by one away, and another one in their place.
    configure(tcp="80-81", rules=["otherwise -> via(other)"], upstreams={"other": groups(8081)["office"]})
    done = limpid_on(lab, "reload")
    assert done.returncode == 0, done.stderr
    assert served(lab, 80, *listeners)[0] == 0
    configure(tcp="80-81", rules=["otherwise -> via(other)"], upstreams={"other": {"servers": ["socks6://10.0.0.1"]}})
    done = limpid_on(lab, "reload")
    assert done.returncode == 1 and "upstreams.other.servers" in done.stderr
    assert served(lab, 80, *listeners)[0] == 0
    # The setting `upstream` as well, from none.
    configure(tcp="80-81", upstream=[f"tcp://{at(lab.server.address, 8082)}"], **{"upstream-check": "0"}, rules=["dport(81) -> direct"])
    assert limpid_on(lab, "reload").returncode == 0
    assert served(lab, 80, *listeners)[0] == 1
    exchange(client, server, seed=3)
    assert limpid.counters()["flows_open"] >= 1


def test_no_flow_is_lost_while_groups_change(lab, start, configure, echo):
    for port in (8081, 8082):
        echo(port)

    def write(turn):
        return configure(tcp="80", rules=["otherwise -> via(office)"],
                         upstreams={"office": {"servers": [f"tcp://{at(lab.server.address, 8081 + turn % 2)}"], "timeout": f"{5 + turn % 7}s"}})

    limpid = start("-c", write(0))
    over = []

    def dial():
        count = 0
        while not over:
            with lab.client.connect(lab.server.address, 80) as client:
                client.sendall(b"hello")
                assert client.recv(5, 0x100) == b"hello"  # MSG_WAITALL
            count += 1
        return count

    dialling = [Background(dial) for _ in range(2)]
    turns = 200 if os.environ.get("LIMPID_TEST_ALL") else 15
    try:
        for turn in range(1, turns + 1):
            write(turn)
            done = limpid_on(lab, "reload")
            assert done.returncode == 0, done.stderr
    finally:
        over.append(True)
    count = sum(task.result() for task in dialling)
    assert count > turns
    wait_until(lambda: len(limpid.log) >= count, "all are logged")
    assert not [line for line in limpid.log if " end=closed" not in line]


def test_a_group_that_is_down(lab, start, configure):
    start("-c", configure(tcp="80-81", upstreams={"closed": {"servers": [f"socks5://{at(lab.server.address, 1)}"]},
                                                  "open": {"servers": [f"socks5://{at(lab.server.address, 1)}"], "down": "direct"}},
                          rules=["dport(80) -> via(closed)", "otherwise -> via(open)"]))
    lab.server.listen(80)
    assert is_reset(lab)
    assert lab.dial(lab.server.listen(81)).seen[0] == lab.client.address


def test_a_password_from_a_file_beside_the_configuration(lab, start, configure, upstream):
    peer = upstream("microsocks-password")
    path = configure(tcp="80", upstreams={"office": {"servers": [peer.shown], "user": "limpid", "password-file": "secret"}}, rules=["otherwise -> via(office)"])
    (path.parent / "secret").write_text("s3cret:/?@\n")
    limpid = start("-c", path)
    connection = through(lab, lab.server.listen(80))
    exchange(connection.client, connection.server)
    (path.parent / "secret").write_text("another\n")
    done = limpid_on(lab, "diff", path)
    assert (done.returncode, done.stdout) == (1, "~ upstreams.office: password\n")
    assert limpid_on(lab, "reload").returncode == 0
    assert is_reset(lab)
    assert "s3cret" not in limpid.messages + limpid_on(lab, "diff", path).stdout
