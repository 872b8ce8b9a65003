"""`limpid flows capture`: the packets of both legs of one flow, read by tcpdump; and of nobody else's."""

import json
import os
import re
import signal
import stat
import time

import pytest

import cut_flows
import limpid_process
from control_client import Control, verb
from limpid_process import DONE, FAILURE, UNSUPPORTED, USAGE
from peers import exchange, wait_until
from udp_exchange import PORT, ask


class Capture:
    """One that runs on the router."""

    def __init__(self, lab, folder, *arguments, host=None, **options):
        folder.mkdir()
        self.file, self._err = folder / "capture.pcapng", folder / "stderr"
        with open(folder / "stdout", "wb") as out, open(self._err, "wb") as err:
            self.process = (host or lab.router).start([limpid_process.BINARY, "flows", "capture", *arguments, "--json", "-w", self.file],
                                                      stdout=out, stderr=err, **options)
        self._out = folder / "stdout"
        self._lab = lab
        wait_until(lambda: "capturing" in self._err.read_text() or self.process.poll() is not None, "it captures")
        assert self.process.poll() is None, self._err.read_text()

    def summary(self):
        """Once it has ended."""
        assert self.process.wait(10) == DONE, self._err.read_text()
        return json.loads(self._out.read_text())

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        return self.summary()

    def packets(self, *expression):
        """A line of tcpdump's for each."""
        return [line for line in self._lab.router.run("tcpdump", "-nSr", self.file, *expression).stdout.splitlines() if line]


@pytest.fixture
def capture(lab, need, tmp_path):
    """capture(ID, arguments…) starts one; its file is removed by nobody."""
    need("tcpdump", "tcpdump")
    started = []

    def run(*arguments, **options):
        started.append(Capture(lab, tmp_path / f"capture{len(started)}", *arguments, **options))
        return started[-1]

    yield run
    for each in started:
        assert not limpid_process.has_sanitizer_report(each._err.read_text())
    # No packet socket is left in the kernel.
    assert len(lab.router.run("cat", "/proc/net/packet").stdout.splitlines()) == 1


def ends(socket_or_address):
    address, port = (socket_or_address if isinstance(socket_or_address, tuple) else socket_or_address.getsockname())[:2]
    return f"{address}.{port}"


def both_ways(packets, one, other):
    """Whether there are packets from each to the other."""
    return all(any(f" {source} > {target}:" in line for line in packets) for source, target in ((one, other), (other, one)))


def only_flow(**which):
    flow, = Control().flows(**which)["flows"]
    return flow


def test_both_legs_of_one_connection(lab, start, capture):
    start("--tcp", "80")
    connection = lab.dial_relayed(lab.server.listen(80))
    flow = only_flow()
    other = lab.client.connect(lab.server.address, 80)
    shown = Control().get(f"/v1/flows/{flow['id']}")["flow"]
    assert shown["legs"]["client"] == {"local": flow["original_destination"], "remote": flow["client"]}
    assert shown["legs"]["target"]["remote"] == flow["target"] and shown["legs"]["target"]["local"].endswith(f":{connection.seen[1]}")

    running = capture(flow["id"])
    exchange(connection.client, connection.server, count=10_000)
    other.sendall(b"not of this flow")
    connection.client.close()
    connection.server.close()
    summary = running.summary()
    assert summary["ended"] == "flow-ended" and summary["dropped"] == 0 and summary["flow"] == flow["id"]
    packets = running.packets()
    server = ends((lab.server.address, 80))
    assert summary["packets"] == len(packets) == summary["client_leg"]["packets"] + summary["target_leg"]["packets"]
    assert both_ways(packets, ends(connection.local), server) and both_ways(packets, ends(connection.seen), server)
    assert summary["client_leg"]["bytes"] > 20_000 and summary["target_leg"]["bytes"] > 20_000
    assert any("Flags [F" in line for line in packets), "its end is there"
    assert not any(ends(other) in line for line in packets), "nobody else's packets"
    assert stat.S_IMODE(running.file.stat().st_mode) == 0o600
    content = running.file.read_bytes()
    assert b"client leg: " in content and b"target leg: " in content and b"lan\0" in content and b"wan\0" in content


def test_the_ends_of_a_capture(lab, start, capture):
    start("--tcp", "80")
    connection = lab.dial_relayed(lab.server.listen(80))
    flow = only_flow()["id"]
    few = capture(flow, "--packets", "3")
    beginning = capture(flow, "--bytes", "2000", "--snaplen", "64")
    late = capture(flow, "--for", "1s")
    small = capture(flow, "--file-size", "3000")
    interrupted = capture(flow)
    for _ in range(5):
        exchange(connection.client, connection.server, count=20_000)
    assert few.summary()["ended"] == "packets" and len(few.packets()) == 3
    assert beginning.summary()["ended"] == "bytes" and beginning.file.stat().st_size < 20_000
    assert beginning.packets(), "cut packets are read"
    assert late.summary()["ended"] == "time" and late.packets()
    assert small.summary()["ended"] == "file-size" and small.file.stat().st_size <= 3000
    assert interrupted.stop()["ended"] == "interrupted" and len(interrupted.packets()) > 10


def test_a_session_of_datagrams(lab, start, capture):
    start("--udp", str(PORT))
    server, client, other = lab.server.datagrams(PORT), lab.client.datagrams(), lab.client.datagrams()
    ask(client, server, lab)
    flow = only_flow()
    running = capture(flow["id"])
    seen = ask(client, server, lab, b"captured")
    ask(other, server, lab, b"others")
    ask(client, server, lab, b"again")
    summary = running.stop()
    packets = running.packets()
    port = flow["client"].rsplit(":", 1)[1]
    assert summary["client_leg"]["packets"] == summary["target_leg"]["packets"] == 4, (packets, seen)
    assert both_ways(packets, f"{lab.client.address}.{port}", ends((lab.server.address, PORT)))
    assert not any(f".{other.getsockname()[1]} " in line or f".{other.getsockname()[1]}:" in line for line in packets)


def test_flows_that_leave_the_proxy(lab, start, capture):
    limpid = start("--tcp", "80", "--cut-through", "always")
    connection = cut_flows.dial_cut(lab, limpid, lab.server.listen(80))
    flow = only_flow()
    assert flow["id"].startswith("c")
    running = capture(flow["id"])
    exchange(connection.client, connection.server, count=50_000)
    connection.client.close()
    connection.server.close()
    summary = running.summary()
    assert summary["ended"] == "flow-ended"
    assert summary["client_leg"]["bytes"] > 100_000 and summary["target_leg"]["bytes"] > 100_000
    server = ends((lab.server.address, 80))
    packets = running.packets()
    assert both_ways(packets, ends(connection.local), server) and both_ways(packets, ends(connection.seen), server)


def test_a_session_that_leaves_while_it_is_captured(lab, cut_udp, server, capture):
    cut_udp()
    client = lab.client.datagrams()
    ask(client, server, lab)
    flow = only_flow()
    assert flow["id"].startswith("u")
    running = capture(flow["id"])
    for _ in range(20):
        ask(client, server, lab)
    wait_until(lambda: Control().flows(cut_through="true")["flows"], "it has left")
    time.sleep(0.7)  # the capture asks twice a second; a flow that it takes for over would end it
    ask(client, server, lab)
    summary = running.stop()
    assert summary["ended"] == "interrupted"
    assert summary["client_leg"]["packets"] == summary["target_leg"]["packets"] == 42, running.packets()


def test_from_another_network_namespace_and_into_a_pipe(lab, start, need, tmp_path):
    need("tcpdump", "tcpdump")
    start("--tcp", "80", "--name", "web")
    connection = lab.dial_relayed(lab.server.listen(80))
    flow, = json.loads(verb(lab, "flows", "--name", "web", "--json").stdout)["flows"]
    said = tmp_path / "stderr"
    with open(said, "wb") as err:
        piped = lab.client.start(["sh", "-c", f"{limpid_process.BINARY} flows capture {flow['id']} --name web | tcpdump -nr - -c 2"], stdout=-1, stderr=err)
    wait_until(lambda: "capturing" in said.read_text(), "it captures")
    exchange(connection.client, connection.server)
    connection.client.close()
    connection.server.close()
    out, _ = piped.communicate(timeout=10)
    assert len(out.splitlines()) == 2 and piped.returncode == 0, (out, said.read_text())


def test_what_is_refused(lab, start, need, tmp_path):
    need("tcpdump", "tcpdump")
    start("--tcp", "80")
    lab.dial_relayed(lab.server.listen(80))
    flow = only_flow()["id"]
    file = tmp_path / "file"
    unknown = verb(lab, "flows", "capture", "t0-99-1", "-w", file)
    assert unknown.returncode == FAILURE and "no such flow" in unknown.stderr
    for wrong in (("nonsense",), (), (flow, "--snaplen", "1"), (flow, "--for", "soon"), (flow, "--packets", "0")):
        assert verb(lab, "flows", "capture", *wrong, "-w", file).returncode == USAGE, wrong
    file.write_text("mine")
    there = verb(lab, "flows", "capture", flow, "-w", file, "--for", "1")
    assert there.returncode == FAILURE and "--force" in there.stderr and file.read_text() == "mine"
    link = tmp_path / "link"
    link.symlink_to(file)
    assert verb(lab, "flows", "capture", flow, "-w", link, "--force", "--for", "1").returncode == FAILURE and file.read_text() == "mine"
    assert verb(lab, "flows", "capture", flow, "-w", file, "--force", "--for", "100ms").returncode == DONE
    assert re.match(rb"\x0a\x0d\x0d\x0a", file.read_bytes())
    assert lab.router.run("tcpdump", "-nr", file).stdout == "", "without a packet it is a file nevertheless"
    # Without the right, nothing is made.
    fresh = tmp_path / "fresh"
    unprivileged = lab.router.run("setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-net_raw", limpid_process.BINARY, "flows", "capture", flow, "-w", fresh, check=False)
    assert unprivileged.returncode == UNSUPPORTED and "CAP_NET_RAW" in unprivileged.stderr and "sudo" in unprivileged.stderr
    assert not os.path.exists(fresh)
    assert Control().ask("GET", "/v1/flows/t0-99-1")[0] == 404 and Control().ask("PUT", f"/v1/flows/{flow}")[0] == 405
