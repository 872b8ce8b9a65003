"""The control API of a running instance: what it says, flows on pages while they come and go, hostile clients, who may connect, and its socket."""

import json
import os
import re
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest

import limpid_process
from control_client import Control, control_path, verb
from peers import drip_on, exchange, wait_until

SLOW = 10


def dial_many(lab, listener, count):
    """Clients with their servers, relayed."""
    pairs = []
    for _ in range(count):
        client = lab.client.connect(lab.server.address, listener.getsockname()[1])
        server, _ = listener.accept()
        server.settimeout(10)
        pairs.append((client, server))
    return pairs


def close_all(pairs):
    for client, server in pairs:
        client.close()
        server.close()


def test_status_counters_rules_configuration_and_metrics(lab, start, configure, need):
    """Everything that can be read, of one instance with real traffic."""
    secret = "hidden-" + "word"
    file = configure(tcp=[80], udp=[9], rules=["dport(81) -> reject", "dport(80) -> direct"], **{"log-format": "json"})
    limpid = start("-c", file, "--metrics", "127.0.0.1:9464" if lab.family == "ipv4" else "[::1]:9464", "--upstream", f"socks5://user:{secret}@{lab.server.addresses['ipv4']}:1080",
                   "--upstream-check", "0")
    control = Control()
    pairs = dial_many(lab, lab.server.listen(80), 3)
    exchange(*pairs[0])

    status = control.get("/v1/status")
    assert (status["schema"], status["name"], status["pid"], status["state"], status["verb"]) == (1, "limpid", limpid.pid, "serving", "run")
    assert status["plan"]["state"] == "installed" and status["plan"]["tcp"] == "80" and status["plan"]["backend"] == limpid_process.BACKEND
    assert status["flows"]["tcp"] == 3 and status["families"] == ["ipv4", "ipv6"]
    assert status["configuration"] == {"file": str(file), "last_reload": None}
    assert status["control"] == control_path()

    rules = control.get("/v1/rules")["rules"]
    assert [(rule["rule"], rule["hits"], rule["misses"]) for rule in rules] == [("dport(81) -> reject", 0, 3), ("dport(80) -> direct", 3, 0)]
    counters = control.get("/v1/counters")
    assert counters["counters"]["flows_total"] == 3 and counters["counters"]["bytes_up"] > 0
    assert counters["histograms"]["connect_duration"]["count"] == 3
    assert [bucket["count"] for bucket in counters["histograms"]["connect_duration"]["buckets"]][-1] == 0
    group, = control.get("/v1/upstreams")["groups"]
    assert [(each["number"], each["up"]) for each in group["upstreams"]] == [(1, True)] and secret not in json.dumps(group)
    configuration = control.ask("GET", "/v1/config")[1]
    assert secret not in configuration and re.search(r"socks5://user:\*\*\*-[0-9a-f]{4}@", configuration), configuration
    assert "dport(80) -> direct" in json.loads(configuration)["configuration"]["rules"]

    samples, text = control.metrics()
    assert samples['limpid_flows_total{protocol="tcp"}'] == "3" and samples['limpid_flows_open{protocol="tcp"}'] == "3"
    assert samples['limpid_rule_hits_total{rule="2"}'] == "3" and samples["limpid_config_last_reload_successful"] == "1"
    assert samples["limpid_connect_duration_seconds_count"] == "3" and samples['limpid_build_info{version="0.1.0"}'] == "1"
    close_all(pairs)
    wait_until(lambda: control.metrics()[0]['limpid_flow_duration_seconds_count{protocol="tcp"}'] == "3", "the flows' durations are counted")
    assert lab.server.address not in text and lab.client.address not in text and secret not in text
    if shutil.which("promtool"):
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30, check=False)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    else:
        need("promtool", "prometheus")

    # Over TCP only the metrics, and only to read.
    host, port = re.fullmatch(r"\[?([^]]*)\]?:(\d+)", status["metrics"]).groups()
    for path, wanted in (("/metrics", 200), ("/v1/status", 404)):
        with lab.router.inside():
            tcp = socket.create_connection((host, int(port)), 5)
        tcp.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        assert int(tcp.makefile("rb").readline().split()[1]) == wanted
        tcp.close()

    # A failed reload shows.
    configure(tcp=[80], rules=["nonsense"])
    assert control.ask("POST", "/v1/reload")[0] == 409
    assert control.metrics()[0]["limpid_config_last_reload_successful"] == "0"
    failed = control.get("/v1/status")["configuration"]["last_reload"]
    assert not failed["ok"] and str(file) in failed["errors"][0]
    order = next(json.loads(line) for line in limpid.messages.splitlines() if "an operator's order" in line)
    assert (order["method"], order["path"], order["uid"], order["pid"]) == ("POST", "/v1/reload", 0, os.getpid())


def test_pages_show_every_flow_that_lives_once_while_others_come_and_go(lab, start):
    start("--tcp", "80", "--udp", "53", "--workers", "2")
    control = Control()
    listener = lab.server.listen(80)
    lasting = dial_many(lab, listener, 60)
    wanted = {"{}:{}".format(f"[{name[0]}]" if ":" in name[0] else name[0], name[1]) for name in (client.getsockname() for client, _ in lasting)}
    passing = dial_many(lab, listener, 20)
    flows, after = [], None
    while True:
        page = control.flows(limit=7, protocol="tcp", **({"after": after} if after else {}))
        flows += page["flows"]
        after = page["next"]
        if after is None:
            break
        # Between two pages one goes and another one comes.
        close_all([passing.pop(0)])
        passing += dial_many(lab, listener, 1)
    seen = [flow["client"] for flow in flows]
    assert wanted <= set(seen) and all(seen.count(client) == 1 for client in wanted)
    assert {flow["id"].split("-")[0] for flow in flows} == {"t0", "t1"}, "both workers have flows"

    # Orders, filters and offsets.
    exchange(*lasting[5], count=200_000)
    exchange(*lasting[9], count=100_000)
    most = wait_until(lambda: (page := control.flows(sort="bytes", limit=2)["flows"])[1]["bytes_up"] >= 100_000 and page, "the bytes are counted")
    assert [flow["bytes_up"] for flow in most] == sorted((flow["bytes_up"] for flow in most), reverse=True)
    assert most[1] == {**control.flows(sort="bytes", limit=1, offset=1)["flows"][0], "age_ms": most[1]["age_ms"], "idle_ms": most[1]["idle_ms"]}
    ages = [flow["age_ms"] for flow in control.flows(sort="-age", limit=1000)["flows"]]
    assert ages == sorted(ages) and len(ages) >= 60
    port = lasting[3][0].getsockname()[1]
    only, = control.flows(client=f":{port}")["flows"]
    assert only["client"].endswith(f":{port}") and only["state"] == "relaying" and only["protocol"] == "tcp"
    assert control.flows(client=lab.client.address, original_destination=":80", limit=1000)["matched"] >= 60
    assert control.flows(client=lab.server.address)["matched"] == 0 == control.flows(protocol="udp")["matched"]
    for wrong in ("limit=0", "limit=1001", "clinet=::1", "client=nobody", "after=x9", "sort=size", "state=busy", "after=t0-1-1&sort=age"):
        assert control.ask("GET", f"/v1/flows?{wrong}")[0] == 400, wrong


def test_slow_and_hostile_clients_hold_nobody_up(lab, start, echo):
    limpid = start("--tcp", "80")
    control = Control()
    lasting = dial_many(lab, lab.server.listen(80), 1)[0]
    before = limpid.descriptors()
    slow = [control.connect() for _ in range(SLOW)]
    for each in slow:
        each.sendall(b"GET /v1/status HTTP/1.1\r\nHost:")
    garbage = (b"\x00" * 4096, b"\xff\xfe" * 100 + b"\r\n\r\n", b"GET /v1/status\r\n\r\n", b"GET " + b"A" * 100_000 + b" HTTP/1.1\r\n\r\n",
               b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(20_000)) + b"\r\n",
               b"PUT /v1/log-level HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
               b"PUT /v1/log-level HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000,
               b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n[1,2]",
               b"GET /v1/flows?client=%00%1b[31m HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"DELETE /v1/flows/../../x HTTP/1.0\r\n\r\n")
    for text in garbage:
        hostile = control.connect()
        try:
            hostile.sendall(text)
            hostile.shutdown(socket.SHUT_WR)
            answer = hostile.makefile("rb").readline()
            assert not answer or answer.split()[1][:1] in b"45", (text[:60], answer)
        except (BrokenPipeError, ConnectionResetError):
            pass
        hostile.close()
        assert control.get("/v1/status")["state"] == "serving"
    for method, target, wanted in (("GET", "/v1/nothing", 404), ("POST", "/v1/status", 405), ("GET", "/v1/reload", 405), ("PUT", "/v1/log-level", 400),
                                   ("DELETE", "/v1/flows/t0-99-1", 404), ("DELETE", "/v1/flows/t9-0-1", 404), ("DELETE", "/v1/flows/c7", 404),
                                   ("DELETE", "/v1/flows/nonsense", 400), ("GET", "/v1/config", 404)):
        assert control.ask(method, target)[0] == wanted, (method, target)
    for path in ("/v1/reload", "/v1/drain"):
        assert control.ask("POST", path, {"nonsense": 1})[0] == 400
    exchange(*lasting)
    # A drip does not keep a connection open: each gets its ten seconds for one request, however often it says something.
    for each in slow:
        each.setblocking(False)

    wait_until(lambda: drip_on(slow), "slow clients are closed", 25)
    wait_until(lambda: limpid.descriptors() <= before + 1, "their descriptors are gone")


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_as_many_connections_as_it_takes_end_at_once(lab, start):
    """At its limit it accepts nobody; afterwards it has to begin again by itself."""
    start("--tcp", "80")
    control = Control()
    for count in (4, 32):
        together = [control.connect() for _ in range(count)]
        for each in together:
            each.close()
        assert control.get("/v1/status")["state"] == "serving"


def test_the_socket_is_for_root_and_its_group_and_a_stale_one_is_replaced(lab, start, launch):
    limpid = start("--tcp", "80")
    path = control_path()
    mode = os.stat(path)
    assert stat.S_IMODE(mode.st_mode) == 0o660 and mode.st_uid == 0
    nobody = 65534
    folder = os.path.dirname(path)
    os.chmod(folder, 0o755)  # so that the socket's own permissions decide
    refused = verb(lab, "status", user=nobody, group=nobody, extra_groups=[])
    assert refused.returncode == limpid_process.UNSUPPORTED and "group limpid" in refused.stderr
    assert verb(lab, "status").returncode == 0

    # Another instance that wants the same socket is told, and one of another name has its own.
    clash = launch("--name", "other", "--tcp", "81", "--control", path)
    assert clash.process.wait(10) == limpid_process.FAILURE and "another instance listens there" in clash.messages
    start("--name", "other", "--tcp", "81")
    assert Control(control_path("other")).get("/v1/status")["name"] == "other"
    assert json.loads(verb(lab, "status", "--name", "other", "--json").stdout)["plan"]["tcp"] == "81"
    assert Control().get("/v1/status")["pid"] == limpid.pid

    limpid.kill()
    stale = verb(lab, "status")
    assert stale.returncode == limpid_process.FAILURE and "does not run any more" in stale.stderr
    assert "control socket" in lab.router.run(limpid_process.BINARY, "rules", "remove", "--dry-run").stdout and os.path.exists(path)
    assert f"removed control socket {path}" in lab.router.run(limpid_process.BINARY, "rules", "remove").stdout
    assert not os.path.exists(path)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    again = start("--tcp", "80")
    assert Control().get("/v1/status")["pid"] == again.pid
    assert again.stop() == 0 and not os.path.exists(path)
    gone = verb(lab, "status")
    assert gone.returncode == limpid_process.FAILURE and "does not run (" in gone.stderr


def test_without_a_control_socket_it_serves_all_the_same(lab, start, echo, monkeypatch):
    limpid = start("--tcp", "80", "--control", "none")
    assert not os.path.exists(control_path())
    for asked in ("status", "flows"):
        told = verb(lab, asked)
        assert told.returncode == limpid_process.FAILURE and f"runs (pid {limpid.pid}), but has no control socket" in told.stderr, told
    exchange(*dial_many(lab, lab.server.listen(80), 1)[0])
    monkeypatch.setenv("LIMPID_RUN_DIRECTORY", "/proc/nowhere")
    warned = start("--name", "second", "--tcp", "81")
    assert "no control socket" in warned.messages


@pytest.mark.skipif("LIMPID_TEST_ALL" not in os.environ, reason="thousands of flows; LIMPID_TEST_ALL=1 has them")
def test_thousands_of_flows_are_listed_without_a_pause_of_the_relay(lab, start):
    start("--tcp", "80")
    control = Control(timeout=60)
    listener = lab.server.listen(80)
    pairs = dial_many(lab, listener, 3000)
    assert len(control.every_flow(limit=1000)) == 3000
    for sort in ("bytes", "age", "idle"):
        assert control.flows(sort=sort, limit=1000)["matched"] == 3000
        exchange(*pairs[0])
    close_all(pairs)


def test_alert_rules_and_dashboard_are_valid_and_know_our_metrics(lab, start, configure, need, tmp_path):
    need("promtool", "prometheus")
    rules = Path(__file__).parents[2] / "examples" / "monitoring" / "limpid-alerts.yml"
    checked = subprocess.run(["promtool", "check", "rules", str(rules)], capture_output=True, text=True, timeout=30, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    start("-c", configure(tcp=[80], rules=["otherwise -> direct"]), "--upstream", f"tcp://{lab.server.addresses['ipv4']}:81", "--upstream-check", "0")
    _, text = Control().metrics()
    named = set(re.findall(r"limpid_[a-z_]+", re.sub(r"#.*|summary:.*", "", rules.read_text(encoding="utf-8"))))
    assert len(named) > 5
    for name in named:
        assert re.search(rf"^{name}[ {{]", text, re.MULTILINE), name
    # The dashboard's panels likewise, with the labels that they tell apart.
    dashboard = json.loads(rules.with_name("grafana.json").read_text(encoding="utf-8"))
    targets = [(target["expr"], target["legendFormat"]) for panel in dashboard["panels"] for target in panel["targets"]]
    targets += [(each["expr"], each["titleFormat"]) for each in dashboard["annotations"]["list"]] + [(dashboard["templating"]["list"][1]["query"], "")]
    assert len(targets) > 20
    for expression, legend in targets:
        name, = re.findall(r"limpid_[a-z_]+", expression)
        line = re.search(rf"^{name}(?:{{.*}})? .*$", text, re.MULTILINE)
        assert line, name
        for label in set(re.findall(r"{{(\w+)}}", legend)) - {"instance"}:
            assert f'{label}="' in line[0], (name, label)
    # Each is valid PromQL: as a rule of its own.
    queries = [expression.replace("$instance", "x").replace("$__rate_interval", "5m") for expression, _ in targets[:-1]]
    (tmp_path / "queries.yml").write_text(json.dumps({"groups": [{"name": "g", "rules": [{"record": f"q{number}", "expr": query}
                                                                                         for number, query in enumerate(queries)]}]}))
    checked = subprocess.run(["promtool", "check", "rules", tmp_path / "queries.yml"], capture_output=True, text=True, timeout=30, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_each_instance_gives_its_socket_to_the_group_only_with_its_own_right(lab, launch, need):
    """As control-group.conf has it, by a supplementary group; without, nobody gets in who changes groups later, as systemd does in a shared folder."""
    need("setpriv", "util-linux")
    folder = os.environ["LIMPID_RUN_DIRECTORY"]
    os.chmod(folder, 0o755)
    group = 64123
    # A /etc/group with the group limpid, and the unit's capabilities: without CAP_CHOWN.
    known = f"printf 'root:x:0:\\nlimpid:x:{group}:\\n' > {folder}/group && mount --bind {folder}/group /etc/group && exec \"$@\""
    unit = ["unshare", "--mount", "sh", "-c", known, "sh", "setpriv", "--no-new-privs", "--bounding-set=-all,+net_admin,+net_raw,+net_bind_service", "--inh-caps=-all"]
    launch("--name", "open", "--tcp", "80", wrapper=[*unit, "--groups", str(group)]).ready()
    launch("--name", "closed", "--tcp", "81", wrapper=[*unit, "--clear-groups"]).ready()
    opened, closed = os.stat(control_path("open")), os.stat(control_path("closed"))
    assert (stat.S_IMODE(opened.st_mode), opened.st_gid) == (0o660, group)
    assert (stat.S_IMODE(closed.st_mode), closed.st_gid) == (0o600, 0)
    member = {"user": 65534, "group": 65534, "extra_groups": [group]}
    os.chown(control_path("closed"), 0, group)  # as systemd would, at the start of a unit with Group=limpid
    assert verb(lab, "status", "--name", "open", **member).returncode == 0
    assert verb(lab, "status", "--name", "closed", **member).returncode == limpid_process.UNSUPPORTED
