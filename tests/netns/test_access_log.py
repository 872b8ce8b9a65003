"""One line a flow, always parseable, whatever a client does."""

import json
import pathlib
import re

import pytest

from limpid_process import parse_logfmt
from peers import exchange, read_exactly, wait_until

FIELDS = ["ts", "proto", "client", "orig_dst", "target", "source", "bytes_up", "bytes_down", "duration_ms", "end"]
# A log on a disk of two pages, of which one is taken.
ON_A_SMALL_DISK = """
mount -t tmpfs -o size=8k none /mnt && head -c 4096 /dev/zero >/mnt/filling || exit 1
exec "$@" >/mnt/access.log
"""
HOSTILE = [b"\nts=2000-01-01T00:00:00.000Z client=6.6.6.6:6 end=closed\n", b'"}\n{"ts": "x"}\n', b"\x1b[2J\x1b]0;owned\x07",
           bytes(range(256)), "\u2028\u202e\u0085".encode(), b"%s%n{}{0}\\", b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
           b"\x16\x03\x01\x02\x00\x01" + b"\n" * 300]


def end_flow(lab, listener, payload=b""):
    connection = lab.dial(listener)
    connection.client.sendall(payload)
    assert read_exactly(connection.server, len(payload)) == payload
    connection.client.close()
    connection.server.close()


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_hostile_bytes_never_break_a_line(lab, start, log_format):
    limpid = start("--tcp", "80", "--log-format", log_format)
    listener = lab.server.listen(80)
    for payload in HOSTILE:
        end_flow(lab, listener, payload)
    flows = limpid.flows(len(HOSTILE))
    assert len(flows) == len(HOSTILE)
    for flow in flows:
        assert list(flow) == FIELDS
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", flow["ts"])
        assert flow["client"].rpartition(":")[0].strip("[]") == lab.client.address
        assert flow["end"] == "closed"
    assert sorted(int(flow["bytes_up"]) for flow in flows) == sorted(map(len, HOSTILE))
    for line in limpid.messages.splitlines():
        assert json.loads(line) if log_format == "json" else parse_logfmt(line)


def test_json_numbers_are_numbers(lab, start):
    limpid = start("--tcp", "80", "--log-format", "json")
    end_flow(lab, lab.server.listen(80), b"12345")
    flow = limpid.flow()
    assert (flow["bytes_up"], flow["bytes_down"]) == (5, 0)
    assert 0 <= flow["duration_ms"] < 10_000


def test_quiet_says_nothing_but_keeps_serving(lab, launch):
    limpid = launch("--tcp", "80", "--quiet")
    connection = relayed_once_ready(lab, limpid)
    exchange(connection.client, connection.server)
    connection.client.close()
    connection.server.close()
    assert limpid.stop() == 0
    assert limpid.log == []
    assert "level=info" not in limpid.messages


def relayed_once_ready(lab, limpid):
    """--quiet does not say when it is ready; the first connection that is not forwarded does."""
    listener = lab.server.listen(80)

    def relayed():
        assert limpid.process.poll() is None
        connection = lab.dial(listener)
        if not connection.was_forwarded:
            return connection
        connection.client.close()
        connection.server.close()
        return None

    return wait_until(relayed, "it intercepts")


def test_verbose_says_more(lab, start):
    quiet, verbose = start("--tcp", "80", "--name", "one"), start("--tcp", "81", "--name", "two", "--verbose")
    assert "level=debug" not in quiet.messages and "level=debug" in verbose.messages


def test_the_counters_end_the_log(lab, start):
    limpid = start("--tcp", "80")
    end_flow(lab, lab.server.listen(80), b"12345")
    limpid.stop()
    last = parse_logfmt(limpid.messages.splitlines()[-1])
    assert last["msg"] == "stopped"
    assert (last["flows_total"], last["flows_ended"], last["bytes_up"]) == ("1", "1", "5")


def test_idle_flows_end_on_request(lab, start):
    limpid = start("--tcp", "80", "--idle-timeout", "1")
    connection = lab.dial(lab.server.listen(80))
    exchange(connection.client, connection.server)
    for end in (connection.client, connection.server):
        try:
            assert end.recv(1) == b""
        except ConnectionResetError:
            pass
    assert limpid.flow()["end"] == "idle_timeout"
    assert limpid.counters()["idle_timeouts"] == 1


def test_a_log_that_nobody_reads_holds_nothing_up(lab, launch, echo):
    """Standard output is a pipe that is full; flows go on."""
    limpid = launch("--tcp", "80", "--workers", "1", stdout=-1).ready()
    echo(80)
    for _ in range(700):  # some 150 bytes a line fill a pipe of 64 KiB
        with lab.client.connect(lab.server.address, 80) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
    assert limpid.counters()["flows_total"] == 700
    assert limpid.stop(seconds=5) == 0


def test_a_full_disk_loses_lines_is_told_of_and_cuts_none(lab, start):
    limpid = start("--tcp", "80", wrapper=["unshare", "--mount", "sh", "-c", ON_A_SMALL_DISK, "sh"])
    listener = lab.server.listen(80)
    for _ in range(40):
        end_flow(lab, listener)
    wait_until(lambda: "access log lines are being lost" in limpid.messages, "the loss is told of")
    lost = limpid.counters_with(flows_ended=40)["access_log_dropped"]
    assert 0 < lost < 40
    disk = pathlib.Path("/proc") / str(limpid.pid) / "root/mnt"
    assert not (disk / "access.log").read_bytes().endswith(b"\n"), "a line is cut"

    (disk / "filling").unlink()
    end_flow(lab, listener)
    wait_until(lambda: "the access log is written again" in limpid.messages, "the end of the loss is told of")
    lines = (disk / "access.log").read_text().splitlines()
    assert [list(parse_logfmt(line)) for line in lines] == [FIELDS] * (41 - lost)
    assert limpid.stop() == 0
    told = [parse_logfmt(line) for line in limpid.messages.splitlines() if "access log" in line]
    assert [message["msg"] for message in told] == ["access log lines are being lost", "the access log is written again", "access log lines were lost"]
    assert told[0]["cause"] == told[2]["cause"] == "No space left on device"
    assert told[1]["lines_lost"] == told[2]["lines"] == str(lost)
