"""limpid reload and SIGHUP exchange rules, sets and scope under flows that live on; an error changes nothing, and is told. limpid diff says what a reload would do."""

import json
import signal

import pytest

import limpid_process
from peers import exchange, wait_until
from policy_peers import client_hello


def limpid_on(lab, *arguments):
    return lab.router.run(limpid_process.BINARY, *arguments, check=False)


def is_refused(lab, port=80):
    client = lab.client.socket()
    try:
        client.connect((lab.server.address, port))
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    finally:
        client.close()


def test_new_flows_follow_new_rules_and_old_ones_live_on(lab, start, configure, echo):
    start("-c", configure(tcp=80, rules=["otherwise -> direct"]))
    connection = lab.dial_relayed(lab.server.listen(80))
    exchange(connection.client, connection.server)
    configure(tcp=80, rules=["dport(80) -> reject", "otherwise -> direct"])
    done = limpid_on(lab, "reload")
    assert (done.returncode, done.stdout) == (0, "reloaded: 2 rules\n"), done.stderr
    exchange(connection.client, connection.server, seed=2)
    assert is_refused(lab)
    configure(tcp=80, rules=["otherwise -> direct"])
    assert json.loads(limpid_on(lab, "reload", "--json").stdout) == {"ok": True, "rules": 1}
    assert not is_refused_or_closed(lab)
    exchange(connection.client, connection.server, seed=3)


def is_refused_or_closed(lab):
    client = lab.client.connect(lab.server.address, 80, timeout=2)
    client.settimeout(0.3)
    try:
        client.recv(1)
        return True
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True
    finally:
        client.close()


def test_a_hang_up_reloads(lab, start, configure):
    limpid = start("-c", configure(tcp=80, rules=["otherwise -> direct"]))
    lab.server.listen(80)
    configure(tcp=80, rules=["otherwise -> reject"])
    limpid.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "msg=reloaded" in limpid.messages, "it has reloaded")
    assert is_refused(lab)
    assert limpid.process.poll() is None


def test_an_error_keeps_the_old_rules_and_reaches_the_caller(lab, start, configure):
    limpid = start("-c", configure(tcp=80, rules=["otherwise -> reject"]))
    lab.server.listen(80)
    kernel = lab.router.run("nft", "list", "table", "inet", "limpid", check=False).stdout
    path = configure(tcp=80, rules=["otherwise -> direct", "dst(10.0.0.0/99) -> drop"])
    done = limpid_on(lab, "reload")
    assert done.returncode == 1
    assert f"{path}:4" in done.stderr and "everything is as it was before" in done.stderr
    assert f"{path}:4" in limpid.messages
    assert is_refused(lab)
    path.unlink()
    assert limpid_on(lab, "reload").returncode == 1
    limpid.process.send_signal(signal.SIGHUP)
    wait_until(lambda: limpid.messages.count("not reloaded") == 3, "it has said so each time")
    assert is_refused(lab)
    assert lab.router.run("nft", "list", "table", "inet", "limpid", check=False).stdout == kernel


def test_ports_and_bypass_change_in_the_kernel(lab, start, configure):
    limpid = start("-c", configure(tcp=80, rules=["otherwise -> direct"]))
    listeners = {port: lab.server.listen(port) for port in (80, 81)}
    assert not lab.dial(listeners[80]).was_forwarded
    assert lab.dial(listeners[81]).was_forwarded
    old = lab.dial_relayed(listeners[80])
    configure(tcp="80,81", rules=["dst(@mine) && dport(80) -> bypass", "otherwise -> direct"], sets={"mine": [lab.server.address]})
    done = limpid_on(lab, "reload")
    assert done.returncode == 0, done.stderr
    assert "kernel_rules=changed" in limpid.messages
    assert not lab.dial(listeners[81]).was_forwarded
    configure(tcp="80,81", rules=["dst(@mine) -> bypass", "otherwise -> direct"], sets={"mine": [lab.server.address]})
    assert limpid_on(lab, "reload").returncode == 0
    assert lab.dial(listeners[80]).was_forwarded
    assert lab.dial(listeners[81]).was_forwarded
    exchange(old.client, old.server)
    configure(tcp="80,81", rules=["otherwise -> direct"])
    assert limpid_on(lab, "reload").returncode == 0
    assert not lab.dial(listeners[80]).was_forwarded


def test_the_new_plan_is_the_one_that_is_repaired(lab, start, configure):
    limpid = start("-c", configure(tcp=80, rules=["otherwise -> direct"]))
    configure(tcp="80,81", rules=["otherwise -> direct"])
    assert limpid_on(lab, "reload").returncode == 0
    if limpid_process.BACKEND == "nftables":
        lab.router.run("nft", "flush", "ruleset")
        wait_until(lambda: "level=warning" in limpid.messages and limpid.counters()["rules_repaired"] == 1, "it repairs")
    listener = lab.server.listen(81)
    wait_until(lambda: not lab.dial(listener).was_forwarded, "the new port is intercepted")


@pytest.mark.parametrize("change", [{"max-flows": 100}, {"udp": 53}, {"source": "none"}], ids=["max-flows", "udp", "source"])
def test_what_needs_a_restart_is_named(lab, start, configure, change):
    start("-c", configure(tcp=80, rules=["otherwise -> reject"]))
    lab.server.listen(80)
    configure(tcp=80, rules=["otherwise -> direct"], **change)
    done = limpid_on(lab, "reload")
    assert done.returncode == 1
    assert next(iter(change)) in done.stderr and "restart" in done.stderr
    assert is_refused(lab), "nothing of it was taken over"


def test_nobody_to_reload(lab, start, configure):
    done = limpid_on(lab, "reload")
    assert done.returncode == 1 and "does not run" in done.stderr
    start("--tcp", "80")
    done = limpid_on(lab, "reload")
    assert done.returncode == 1 and "without a configuration" in done.stderr
    assert limpid_on(lab, "diff", configure(tcp=80)).returncode == 2


def test_others_may_not_ask(lab, start, configure):
    start("-c", configure(tcp=80, rules=["otherwise -> direct"]))
    done = lab.router.run("setpriv", "--reuid=65534", "--clear-groups", limpid_process.BINARY, "reload", check=False)
    assert done.returncode == 3 and "group limpid" in done.stderr
    assert limpid_on(lab, "reload").returncode == 0


def test_diff_says_what_a_reload_would_change(lab, start, configure):
    names = {"ads": ["ads.example", "suffix: tracker.example"]}
    path = configure(tcp=80, rules=["domain(@ads) -> reject", "dport(80) -> direct", "dport(82) -> direct", "dport(81) -> drop"], sets=names)
    start("-c", path)
    same = limpid_on(lab, "diff", path)
    assert (same.returncode, same.stdout) == (0, "")
    configure(tcp="80,443", rules=["dport(81) -> drop", "domain(@ads) -> reject", "dport(82) -> direct", "otherwise -> direct"],
              sets={"ads": ["ads.example"], "lan": ["10.0.0.0/8"]}, **{"idle-timeout": "60s"})
    done = limpid_on(lab, "diff", path)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert "~ rule 4 becomes 1: dport(81) -> drop" in lines
    assert "- rule 2: dport(80) -> direct" in lines
    assert "+ rule 4: otherwise -> direct" in lines
    assert "~ set ads: 2 entries, then 1" in lines
    assert "+ set lan: 1 entry" in lines
    assert "~ tcp: 80, then 80,443" in lines
    assert "~ idle-timeout: (default), then 60s (needs a restart)" in lines
    report = json.loads(limpid_on(lab, "diff", path, "--json").stdout)
    assert (report["schema"], report["same"], report["needs_restart"]) == (1, False, True)
    assert {"change": "moved", "before": 4, "after": 1, "rule": "dport(81) -> drop"} in report["rules"]
    path.write_text("rules = 3\n", encoding="ascii")
    assert limpid_on(lab, "diff", path).returncode == 2
    nothing = path.parent / "nothing"
    nothing.mkdir()
    told = limpid_on(lab, "diff", nothing)
    assert told.returncode == 2 and "has no limpid.toml" in told.stderr


def test_diff_of_a_directory_says_that_a_transport_needs_a_restart(lab, start, configure):
    path = configure(tcp=80, udp=53, rules=["otherwise -> direct"])
    assert path.name == "limpid.toml"
    start("-c", path.parent)
    assert limpid_on(lab, "diff", path.parent).returncode == 0
    configure(tcp=80, rules=["otherwise -> direct"])
    done = limpid_on(lab, "diff", path.parent)
    assert (done.returncode, done.stdout) == (1, "~ udp: 53, then (default) (needs a restart)\n")
    assert json.loads(limpid_on(lab, "diff", path, "--json").stdout)["needs_restart"] is True
    assert limpid_on(lab, "reload").returncode == 1, "as it says"


def test_reloads_under_load_lose_nobody(lab, start, configure, echo):
    limpid = start("-c", configure(tcp=443, rules=["domain(blocked.example) -> reject", "otherwise -> direct"]))
    echo(443)
    hello = client_hello("www.example")
    for round_number in range(20):
        configure(tcp=443, rules=["domain(blocked.example) -> reject", f"src(10.{round_number}.0.0/16) -> drop", "otherwise -> direct"])
        clients = [lab.client.connect(lab.server.address, 443) for _ in range(5)]
        limpid.process.send_signal(signal.SIGHUP)
        for client in clients:
            client.sendall(hello)
        for client in clients:
            received = b""
            while len(received) < len(hello):
                received += client.recv(65536)
            assert received == hello
            client.close()
    counters = limpid.counters_with(rejected=0, flows_total=100)
    assert counters["dropped"] == 0
    assert counters["rule_3"] + counters["rule_2"] == 100, "a rule that stays keeps its count"
