"""`limpid upgrade`: another process takes over, and nobody notices: connections that begin, and those that are under way. docs/upgrade.md."""

import json
import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

import limpid_process
from control_client import Control, verb
from cut_flows import dial_cut, exchange_digests
from kernel_state import installed
from limpid_process import parse_logfmt
from peers import Background, Pattern, bytes_of, exchange, read_exactly, read_to_end, receive_digest, wait_until
from succession import Orphan, pretend, refused, replace, succeed, upgrade
from supervisor import Supervisor
from traffic import ContinuousClient, failures
from udp_exchange import PORT, ask

MEGABYTE = 1 << 20


pytestmark = pytest.mark.usefixtures("orphans")


@pytest.fixture(name="program")
def own_copy(tmp_path, monkeypatch):
    """Limpid, from a file that a test may replace."""
    copy = tmp_path / "program"
    shutil.copy(limpid_process.BINARY, copy)
    monkeypatch.setattr(limpid_process, "BINARY", str(copy))
    return copy


def fill(sender, connection_is_full_after=0.3):
    """Sends until nothing goes any more for a while; what was sent."""
    sender.setblocking(False)
    sent, last = bytearray(), time.monotonic()
    piece = bytes_of(7, MEGABYTE)
    while time.monotonic() - last < connection_is_full_after:
        try:
            sent += piece[:sender.send(piece)]
            last = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
    sender.settimeout(10)
    return bytes(sent)


def test_no_connection_fails_while_one_process_follows_another(lab, start, echo):
    echo(80)
    limpid = start("--tcp", "80")
    clients = [ContinuousClient(lab, 80, range(first, first + 5000)) for first in (11000, 17000)]
    for _ in range(5):
        for client in clients:
            client.wait_for_more(20)
        upgrade(lab, limpid)
    for client in clients:
        client.wait_for_more(20)
    attempts = [attempt for client in clients for attempt in client.stop()]
    assert failures(attempts) == []
    assert len(attempts) > 250
    wait_until(lambda: len(limpid.log) == len(attempts), "a line for each of them, and one only")


def test_flows_live_on_with_all_their_bytes(lab, start):
    listener = lab.server.listen(80)
    limpid = start("--tcp", "80", "--workers", "2")
    idle = lab.dial_relayed(listener)
    exchange(idle.client, idle.server)
    half = lab.dial_relayed(listener)
    half.client.sendall(b"question")
    half.client.shutdown(socket.SHUT_WR)
    assert read_to_end(half.server) == b"question"
    slow = lab.dial_relayed(listener)
    held = fill(slow.client)
    up, down = Pattern(1, 300 * MEGABYTE), Pattern(2, 300 * MEGABYTE)
    busy = lab.dial_relayed(listener)
    work = [Background(up.send, busy.client), Background(down.send, busy.server),
            Background(receive_digest, busy.server), Background(receive_digest, busy.client)]
    for turn in range(3):
        answer = upgrade(lab, limpid)
        # The busy one may be over by the second.
        assert answer["flows"] in ((4,) if turn == 0 else (3, 4)) and answer["stays"] == 0
        exchange(idle.client, idle.server)
    _, _, at_server, at_client = (task.result(90) for task in work)
    assert (at_server, at_client) == ((up.digest(), up.length), (down.digest(), down.length))
    exchange(idle.client, idle.server)
    half.server.sendall(b"answer")
    half.server.close()
    assert read_to_end(half.client) == b"answer"
    assert read_exactly(slow.server, len(held)) == held
    exchange(slow.client, slow.server)
    assert {flow["state"] for flow in Control().every_flow()} == {"relaying"}
    for each in (idle, slow):
        each.client.close()
        assert read_to_end(each.server) == b""
        each.server.close()
    lines = {int(flow["bytes_up"]): flow for flow in limpid.flows(4)}
    assert set(lines) == {5000, 8, len(held) + 1000, up.length}
    assert {flow["end"] for flow in lines.values()} == {"closed"}
    assert int(lines[up.length]["bytes_down"]) == down.length
    assert int(lines[5000]["bytes_down"]) == 5000
    assert int(lines[5000]["duration_ms"]) >= 300, "its duration is that of both lives"
    counted = limpid.counters()
    assert (counted["flows_total"], counted["flows_ended"], counted["flows_open"]) == (4, 4, 0)


def test_udp_sessions_keep_their_ports(lab, start, server):
    limpid = start("--udp", str(PORT), "--source", "address")
    clients = [lab.client.datagrams() for _ in range(8)]
    seen = [ask(client, server, lab) for client in clients]
    for turn in range(3):
        assert upgrade(lab, limpid)["udp_sessions"] == len(clients)
        assert [ask(client, server, lab, payload=b"again %d" % turn) for client in clients] == seen
        server.sendto(b"unasked", seen[0])
        assert clients[0].recv(100) == b"unasked"
    assert limpid.counters()["udp_sessions_total"] == len(clients)
    limpid.stop()
    for flow in limpid.flows(len(clients)):
        assert (flow["proto"], flow["bytes_up"], flow["end"]) == ("udp", str(8 + 3 * 7), "stopped")


def test_who_has_not_been_decided_about_is_decided_about_by_the_successor(lab, start, configure, echo):
    echo(80)
    file = configure(tcp=[80], udp=[PORT], rules=["domain(refused.example) -> reject", "otherwise -> direct"], **{"sniff-timeout": "20s"})
    limpid = start("-c", file)
    silent = [lab.client.connect(lab.server.address, 80) for _ in range(3)]
    silent[1].sendall(b"GET / HTTP/1.1\r\nHost: good.exa")
    wait_until(lambda: [flow["state"] for flow in Control().every_flow()] == ["deciding"] * 3, "all three wait")
    assert upgrade(lab, limpid)["flows"] == 3
    silent[0].sendall(b"GET / HTTP/1.1\r\nHost: refused.example\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        silent[0].recv(1)
    silent[1].sendall(b"mple\r\n\r\n")
    assert read_exactly(silent[1], 38) == b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n"
    configure(tcp=[80], udp=[PORT], rules=["domain(refused.example) -> drop", "domain(good.example) -> reject", "otherwise -> direct"], **{"sniff-timeout": "20s"})
    upgrade(lab, limpid)
    silent[2].sendall(b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        silent[2].recv(1)
    flows = limpid.flows(2)
    assert [(flow["end"], flow["name"]) for flow in flows] == [("rejected", "refused.example"), ("rejected", "good.example")]
    silent[1].close()
    last = limpid.flows(3)[-1]
    assert (last["end"], last["name"], last["rule"]) == ("closed", "good.example", "2"), "decided by the rules of its time"


def test_flows_that_were_cut_through_stay_so(lab, start):
    listener = lab.server.listen(80)
    limpid = start("--tcp", "80", "--cut-through", "always")
    if "no cut-through here" in limpid.messages:
        pytest.skip("no cut-through here")
    connection = dial_cut(lab, limpid, listener)
    exchange(connection.client, connection.server)
    upgrade(lab, limpid)
    assert Control().get("/v1/status")["flows"]["tcp"] == 1
    exchange(connection.client, connection.server)
    work = Background(exchange_digests, connection, 200 * MEGABYTE)
    upgrade(lab, limpid)
    work.result()
    connection.client.close()
    connection.server.close()
    another = dial_cut(lab, limpid, listener)
    exchange(another.client, another.server)
    flow = limpid.flows(1)[0]
    assert (flow["bytes_up"], flow["bytes_down"], flow["cut_through"]) == (str(2000 + 200 * MEGABYTE), str(2000 + 200 * MEGABYTE), "yes")


@pytest.mark.parametrize("program_text, why", [
    ("#!/bin/sh\nexit 1\n", "it ended with status 1"),
    ("#!/bin/sh\nexec sleep 1000\n", "it does not speak to us in time"),
    ("not a program", "Exec format error"),
    (None, "No such file or directory"),
])
def test_without_a_successor_that_works_everything_goes_on(lab, start, echo, program, program_text, why):
    echo(80)
    original = Path(shutil.copy(program, program.with_name("kept")))
    limpid = start("--tcp", "80")
    connection = lab.client.connect(lab.server.address, 80)
    if program_text is None:
        program.unlink()
    else:
        replace(program, program_text)
    client = ContinuousClient(lab, 80, range(11000, 16000))
    limpid_process.BINARY = str(original)
    said = refused(lab, "--timeout", "500ms")
    assert why in said and "everything goes on as before" in said and "not upgraded: this process goes on" in limpid.messages
    client.wait_for_more(10)
    assert failures(client.stop()) == []
    connection.sendall(b"still here")
    assert read_exactly(connection, 10) == b"still here"
    # And with one that works, it works.
    os.replace(original, program)
    limpid_process.BINARY = str(program)
    assert upgrade(lab, limpid)["flows"] == 1
    connection.sendall(b"still here")
    assert read_exactly(connection, 10) == b"still here"


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("last, then", [("hello", "die"), ("instance", "die"), ("ready", "die"), ("end", "die"), ("end", "hang"), ("hello", "nonsense"),
                                        ("instance", "nonsense"), ("end", "nonsense"), ("taken", "hang"), ("start", "version")])
def test_a_successor_that_fails_half_way_has_changed_nothing(lab, start, echo, program, last, then):
    echo(80)
    listener = lab.server.listen(81)
    original = shutil.copy(program, program.with_name("kept"))
    limpid = start("--tcp", "80,81")
    slow = lab.dial_relayed(listener)
    held = fill(slow.client)
    connection = lab.client.connect(lab.server.address, 80)
    before = limpid.descriptors()
    pretend(program, last, then, version=99 if then == "version" else 1)
    limpid_process.BINARY = original
    client = ContinuousClient(lab, 80, range(11000, 16000))
    waits = Background(refused, lab, "--timeout", "1s")
    said = waits.result(30)
    assert "everything goes on as before" in said or "restart instead" in said, said
    client.wait_for_more(10)
    assert failures(client.stop()) == []
    connection.sendall(b"still here")
    assert read_exactly(connection, 10) == b"still here"
    assert read_exactly(slow.server, len(held)) == held
    assert limpid.descriptors() <= before + 2, "nothing is left of the attempt"


def test_a_mistake_in_the_configuration_keeps_the_old_process(lab, launch, configure):
    file = configure(tcp=[80])
    limpid = launch("-c", file).ready()
    connection = lab.dial_relayed(lab.server.listen(80))
    for wrong, why in (({"rules": ["nonsense"]}, "it ended with status 2"), ({"workers": 7}, "--workers"), ({"mark": "0x10/0x30"}, "--mark"),
                       ({"listen_port": 7777}, "--listen-port")):
        configure(**{"tcp": [80], **{key.replace("_", "-"): value for key, value in wrong.items()}})
        assert why in refused(lab)
        exchange(connection.client, connection.server)
    configure(tcp=[80, 443])
    assert upgrade(lab, limpid)["flows"] == 1
    exchange(connection.client, connection.server)
    lab.dial_relayed(lab.server.listen(443))


def test_the_supervisor_hears_whom_to_look_after(lab, launch, tmp_path):
    supervisor = Supervisor(lab.router, tmp_path, abstract=lab.family == "ipv6", watchdog=0.4)
    limpid = launch("--tcp", "80", "--workers", "2", env=supervisor.environment).ready()
    supervisor.await_message("READY")
    old = limpid.pid
    os.kill(old, signal.SIGUSR2)
    assert supervisor.await_message("RELOADING")["STATUS"] == "Starting the program anew"
    pid = int(supervisor.await_message("MAINPID")["MAINPID"])
    succeed(limpid, pid)
    assert supervisor.await_message("READY")["STATUS"] == "Intercepting TCP 80"
    for _ in range(2):
        supervisor.await_message("WATCHDOG")
    assert Control().get("/v1/status")["pid"] == pid != old
    assert f"pid {pid}" in verb(lab, "run", "--tcp", "80").stderr, "the lock is the successor's"
    limpid.process.terminate()
    assert supervisor.await_message("STOPPING")["STOPPING"] == "1"
    assert limpid.process.wait(15) == 0
    assert installed(lab.router) == []
    supervisor.close()


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("milliseconds", [1, 60, 90, 120, 150])
def test_the_old_process_is_killed_at_any_moment_of_it(lab, start, echo, milliseconds):
    """Either it was too early, and it is as with every process that is killed; or the new one has everything."""
    echo(80)
    limpid = start("--tcp", "80")
    connection = lab.client.connect(lab.server.address, 80)
    old = limpid.process
    old.send_signal(signal.SIGUSR2)
    time.sleep(milliseconds / 1000)  # a moment to be killed at: there is nothing to wait for
    old.kill()
    old.wait()
    started = [parse_logfmt(line) for line in limpid.messages.splitlines() if "the program was started anew" in line]
    if started:
        limpid.process = Orphan(int(started[0]["successor"]))
    wait_until(lambda: limpid.process.poll() is not None or limpid.messages.count("msg=intercepting") == 2, "it serves, or has ended")
    if limpid.process.poll() is None:
        connection.sendall(b"still here")
        assert read_exactly(connection, 10) == b"still here"
        assert Control().get("/v1/status")["flows"]["tcp"] == 1
    elif started:
        assert limpid.process.returncode == 1 and "take over from the running instance: it has ended" in limpid.messages
    again = lab.client.connect(lab.server.address, 80)
    again.sendall(b"another")
    assert read_exactly(again, 7) == b"another", "it is relayed or, as nobody is there, forwarded"
    if limpid.process.poll() is not None:
        assert start("--tcp", "80").stop() == 0  # which finds what was left, and takes it away


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_one_upgrade_at_a_time_and_nothing_is_left_of_many(lab, start, echo):
    echo(80)
    limpid = start("--tcp", "80", "--udp", str(PORT))
    upgrade(lab, limpid)
    connection = lab.client.connect(lab.server.address, 80)
    before = limpid.descriptors()
    threads = len(os.listdir(f"/proc/{limpid.pid}/task"))
    for _ in range(8):
        upgrade(lab, limpid)
        connection.sendall(b"still here")
        assert read_exactly(connection, 10) == b"still here"
    wait_until(lambda: limpid.descriptors() <= before + 1, "it has as many descriptors as the first")
    wait_until(lambda: len(os.listdir(f"/proc/{limpid.pid}/task")) == threads, "it has as many threads as the first")
    answers = []
    both = [threading.Thread(target=lambda: answers.append(Control(timeout=60).ask("POST", "/v1/upgrade"))) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert sorted(status for status, _ in answers) == [200, 409], answers
    done, = [json.loads(text) for status, text in answers if status == 200]
    succeed(limpid, done["pid"])
    assert limpid.stop() == 0
    assert installed(lab.router) == []
