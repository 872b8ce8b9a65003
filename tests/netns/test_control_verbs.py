"""limpid status, flows, kill, drain and log-level, with real flows of each kind: relayed, of datagrams, cut through."""

import json
import signal


import cut_flows
import limpid_process
from control_client import Control, control_path, verb
from peers import exchange, wait_until


def is_reset(connection):
    """Waits for the end; True for a reset."""
    try:
        while connection.recv(65536):
            pass
        return False
    except ConnectionResetError:
        return True


def test_flows_are_listed_and_killed_by_name_and_by_filter(lab, start):
    limpid = start("--tcp", "80", "--udp", "9")
    connections = [lab.dial_relayed(lab.server.listen(80)) for _ in range(1)]
    listed = verb(lab, "flows")
    assert listed.returncode == 0, listed.stderr
    head, line = listed.stdout.splitlines()
    assert head.split()[:5] == ["ID", "PROTO", "STATE", "CLIENT", "TARGET"]
    flow_id, protocol, state, client, target = line.split()[:5]
    assert (protocol, state) == ("tcp", "relaying") and lab.client.address in client and lab.server.address in target

    # Datagrams of a client, answered.
    server = lab.server.datagrams(9)
    asking = lab.client.datagrams()
    asking.sendto(b"one", (lab.server.address, 9))
    _, seen = server.recvfrom(100)
    server.sendto(b"two", seen)
    assert asking.recv(100) == b"two"
    session, = json.loads(verb(lab, "flows", "--protocol", "udp", "--json").stdout)["flows"]
    assert (session["state"], session["bytes_up"], session["bytes_down"]) == ("relaying", 3, 3) and session["id"].startswith("u")

    # A filter without --yes only shows; with it, both sides of the connection are reset.
    dry = verb(lab, "kill", "--client", lab.client.address, "--protocol", "tcp")
    assert dry.returncode == 0 and flow_id in dry.stdout and "add --yes" in dry.stdout
    exchange(connections[0].client, connections[0].server)
    assert json.loads(verb(lab, "kill", "--json", flow_id).stdout) == {"schema": 1, "killed": [flow_id], "gone": []}
    assert is_reset(connections[0].client) and is_reset(connections[0].server)
    again = verb(lab, "kill", flow_id)
    assert again.returncode == limpid_process.FAILURE and "no such flow" in again.stderr
    assert verb(lab, "kill", "--protocol", "udp", "-y").stdout == "killed: 1\n"
    assert {flow["end"] for flow in limpid.flows(2)} == {"killed"}
    assert limpid.counters_with(killed=2)
    asking.sendto(b"three", (lab.server.address, 9))
    assert server.recv(100) == b"three"
    assert json.loads(verb(lab, "flows", "--protocol", "udp", "--json").stdout)["flows"][0]["id"] != session["id"]

    for wrong in (("kill",), ("kill", "t0-0-1", "--all"), ("kill", "nonsense"), ("flows", "--client", "nobody"), ("flows", "--sort", "size"),
                  ("log-level", "loud"), ("status", "--name", "a/b")):
        refused = verb(lab, *wrong)
        assert refused.returncode == limpid_process.USAGE, (wrong, refused)


def test_status_log_level_and_drain(lab, start):
    limpid = start("--tcp", "80", "--drain-timeout", "30s")
    connection = lab.dial_relayed(lab.server.listen(80))
    status = verb(lab, "status")
    assert status.returncode == 0 and "serving" in status.stdout and "1 of " in status.stdout, status
    assert "upstreams" not in status.stdout
    assert verb(lab, "log-level").stdout == "info\n"
    wrong = verb(lab, "log-level", "foo")
    assert wrong.returncode == limpid_process.USAGE and "log-level foo: there is no such level (debug, info, warning or error)" in wrong.stderr
    assert verb(lab, "log-level", "error").stdout == "error\n" and Control().get("/v1/log-level") == {"level": "error"}
    limpid.process.send_signal(signal.SIGUSR1)
    assert verb(lab, "log-level", "info").stdout == "info\n"
    assert json.loads(verb(lab, "log-level", "debug", "--json").stdout) == {"level": "debug"}

    assert json.loads(verb(lab, "drain", "--no-wait", "--json", "--timeout", "20s").stdout) == {"ok": True, "flows": 1}
    draining = wait_until(lambda: (seen := verb(lab, "status", "--json")).returncode == 1 and seen, "it drains")
    assert json.loads(draining.stdout)["state"] == "draining"
    assert Control().ask("POST", "/v1/reload")[0] == 409
    again = verb(lab, "drain")
    assert again.returncode == limpid_process.FAILURE and f"to end it at once: kill -TERM {limpid.pid}" in again.stderr
    exchange(connection.client, connection.server)
    connection.client.close()
    connection.server.close()
    assert limpid.process.wait(10) == 0
    assert "at_most_ms=20000" in limpid.messages
    assert verb(lab, "drain").returncode == limpid_process.FAILURE


def test_what_a_running_instance_holds_is_not_offered_for_removal(lab, start):
    limpid = start("--tcp", "80")
    done = verb(lab, "rules", "remove", "--dry-run")
    assert done.returncode == 0 and "would remove" in done.stdout
    assert f"runs (pid {limpid.pid}" in done.stderr and "`limpid drain`" in done.stderr
    assert limpid.stop() == 0
    assert verb(lab, "rules", "remove", "--dry-run").stderr == ""


def test_drain_waits_for_the_end_and_no_longer_than_told(lab, start):
    limpid = start("--tcp", "80", "--drain-timeout", "30s")
    connection = lab.dial_relayed(lab.server.listen(80))
    done = verb(lab, "drain", "--timeout", "1s")
    assert (done.returncode, done.stdout) == (0, "drained: 1 flow was open\n"), done.stderr
    assert is_reset(connection.client)
    assert limpid.process.wait(10) == 0


def test_flows_without_sockets_are_listed_and_killed(lab, start):
    limpid = start("--tcp", "80", "--udp", "9", "--cut-through", "always")
    connection = cut_flows.dial_cut(lab, limpid, lab.server.listen(80))
    exchange(connection.client, connection.server, count=100_000)
    flow, = Control().flows(cut_through="true", protocol="tcp")["flows"]
    assert (flow["state"], flow["bytes_up"], flow["bytes_down"]) == ("cut_through", 100_000, 100_000) and flow["id"].startswith("c")
    assert Control().get("/v1/status")["flows"]["cut_through"] == 1
    assert verb(lab, "kill", flow["id"]).returncode == 0
    assert is_reset(connection.client) and is_reset(connection.server)
    assert limpid.flow()["end"] == "killed"

    server, asking = lab.server.datagrams(9), lab.client.datagrams()

    def is_cut():
        asking.sendto(b"one", (lab.server.address, 9))
        _, seen = server.recvfrom(100)
        server.sendto(b"two", seen)
        assert asking.recv(100) == b"two"
        return Control().flows(protocol="udp", cut_through="true")["flows"]

    session, = wait_until(is_cut, "the session is cut through")
    assert verb(lab, "kill", session["id"]).returncode == 0
    wait_until(lambda: len(limpid.log) >= 2, "its record")
    assert limpid.flows(2)[1]["end"] == "killed" and limpid.flows(2)[1]["proto"] == "udp"
    asking.sendto(b"more", (lab.server.address, 9))
    assert server.recv(100) == b"more"


def test_a_plain_relay_is_controlled_where_it_is_told(lab, relay):
    path = control_path("relay")
    instance = relay("8080", lab.server.address, "80", "--control", path, "--metrics", "127.0.0.1:9464")
    listener = lab.server.listen(80)
    client = lab.client.connect(lab.router.address, 8080)
    server, _ = listener.accept()
    server.settimeout(10)
    exchange(client, server)
    control = Control(path)
    status = control.get("/v1/status")
    assert (status["verb"], status["name"], status["plan"], status["flows"]["tcp"]) == ("relay", None, None, 1)
    assert control.metrics()[0]['limpid_flows_total{protocol="tcp"}'] == "1"
    assert verb(lab, "reload", "--control", path).returncode == limpid_process.FAILURE
    flow, = control.flows()["flows"]
    assert verb(lab, "kill", "--control", path, flow["id"]).returncode == 0 and is_reset(client) and is_reset(server)
    assert verb(lab, "drain", "--control", path, "--timeout", "1s").returncode == 0
    assert instance.process.wait(10) == 0
    refused = verb(lab, "relay", "8081", "192.0.2.9", "80", "--chroot", "/tmp", "--control", path)
    assert refused.returncode == limpid_process.USAGE and "--chroot" in refused.stderr


def test_the_access_log_has_a_format_and_a_limit_of_its_own(lab, start):
    limpid = start("--tcp", "80", "--access-log-format=json", "--access-log-rate", "2")
    listener = lab.server.listen(80)
    for _ in range(2):
        connection = lab.dial_relayed(listener)
        connection.client.close()
        connection.server.close()
    wait_until(lambda: len(limpid.log) == 2, "two lines")
    assert all(json.loads(line)["end"] == "closed" for line in limpid.log)
    assert "level=info" in limpid.messages, "messages keep theirs"
    # More at once than the limit: all end in one second.
    many = [lab.dial_relayed(listener) for _ in range(40)]
    for connection in many:
        connection.client.close()
        connection.server.close()
    wait_until(lambda: limpid.counters()["flows_ended"] == 42, "all are over")
    assert limpid.stop() == 0
    told = [limpid_process.parse_logfmt(line) for line in limpid.messages.splitlines() if "--access-log-rate" in line]
    left_out = sum(int(line["lines"]) for line in told)
    assert left_out > 0 and len(limpid.log) + left_out == 42
