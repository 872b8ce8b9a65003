"""examples/ for UDP and for foreign addresses: the echo that answers as whoever was dialled, the client and the sender that speak
from the address of the kernel's document, 0xDEADBEEF:0xCAFE."""

import os
import signal
import socket
from pathlib import Path

import pytest

import limpid_process
from exec_process import FOREIGN, FOREIGN_PORT
from kernel_state import difference, snapshot
from lab import SECONDS
from peers import Background, bytes_of, read_to_end, wait_until

EXAMPLES = Path(os.environ.get("LIMPID_EXAMPLES", ""))


def as_text(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@pytest.fixture
def example():
    """example(name): the built program."""
    def find(name):
        if not os.access(EXAMPLES / name, os.X_OK):
            pytest.skip(f"{EXAMPLES / name} is not built; LIMPID_EXAMPLES names the folder of the built examples")
        return EXAMPLES / name

    return find


@pytest.fixture
def echoing(lab, example, tmp_path):
    """The echo on the router, for ports 7 and 5000 to 6000."""
    program = example("datagram_echo")
    before = snapshot(lab.router)
    with open(tmp_path / "stderr", "wb") as errors:
        process = lab.router.start([program, "7,5000-6000"], stderr=errors)
    process.said = (tmp_path / "stderr").read_text
    process.kernel_before = before

    threads = 4 if b"__tsan_init" in program.read_bytes() else 3  # ThreadSanitizer has one of its own

    def intercepts():
        # A thread for each family begins when install() has returned.
        return len(os.listdir(f"/proc/{process.pid}/task")) == threads

    wait_until(lambda: intercepts() or process.poll() is not None, "it intercepts")
    assert process.poll() is None, process.said()
    return process


def test_the_echo_answers_as_the_address_that_was_dialled(lab, echoing):
    clients = [lab.client.datagrams() for _ in range(2)]
    for turn, (address, port) in enumerate([(lab.nowhere, 7), (lab.server.address, 7), (lab.nowhere, 5500)] * 2):
        for number, client in enumerate(clients):
            question = bytes_of(turn * 2 + number, (0, 1, 1400, 20_000, 65_507)[turn % 5])
            client.sendto(question, (address, port))
            data, source = client.recvfrom(70_000)
            assert (data, source[:2]) == (question, (address, port))
    client = as_text(lab.client.address, clients[0].getsockname()[1])
    assert f"{client} asked {as_text(lab.server.address, 7)}, TTL 63" not in echoing.said(), "the router did not forward it"
    assert f"{client} asked {as_text(lab.server.address, 7)}, TTL 64, TOS 0, 1 bytes\n" in echoing.said()


def test_the_echo_leaves_other_datagrams_alone(lab, echoing):
    server, client = lab.server.datagrams(7000), lab.client.datagrams()
    client.sendto(b"forwarded", (lab.server.address, 7000))
    data, source = server.recvfrom(100)
    assert (data, source[:2]) == (b"forwarded", (lab.client.address, client.getsockname()[1]))
    assert echoing.said() == ""


def test_the_echo_does_not_answer_who_writes_to_its_listener(lab, echoing):
    listing = lab.router.run("nft", "list", "table", "inet", "limpid").stdout
    port = int(listing.split("tproxy ip to 127.0.0.1:")[1].split()[0])
    loopback = {"ipv4": "127.0.0.1", "ipv6": "::1"}[lab.family]
    own, client = lab.router.datagrams(), lab.client.datagrams()
    own.sendto(b"directly", (loopback, port))
    client.sendto(b"after it", (lab.nowhere, 7))
    assert client.recv(100) == b"after it"
    own.setblocking(False)
    with pytest.raises(BlockingIOError):
        own.recv(100)


def test_the_echo_undoes_what_it_installed(lab, echoing):
    assert difference(echoing.kernel_before, snapshot(lab.router)) != []
    echoing.send_signal(signal.SIGTERM)
    assert echoing.wait(SECONDS) == 0, echoing.said()
    assert difference(echoing.kernel_before, snapshot(lab.router)) == []


def test_the_client_calls_from_an_address_that_is_not_there(lab, example):
    lab.router.run(limpid_process.BINARY, "rules", "apply", "--tcp", "80", "--listen-port", "50080")
    listener = lab.server.listen(7000)
    source, target = as_text(FOREIGN[lab.family], FOREIGN_PORT), as_text(lab.server.address, 7000)
    calling = Background(lab.router.run, example("foreign_client"), source, target)
    connection, peer = listener.accept()
    connection.settimeout(SECONDS)
    assert peer[:2] == (FOREIGN[lab.family], FOREIGN_PORT)
    assert read_to_end(connection) == b"hello\n"
    connection.sendall(b"good day " * 1000)
    connection.shutdown(socket.SHUT_WR)
    done = calling.result()
    assert done.stdout == "good day " * 1000
    assert done.stderr == f"calling from {source}\n"


def test_the_client_says_why_it_cannot(lab, example):
    lab.router.run(limpid_process.BINARY, "rules", "apply", "--tcp", "80", "--listen-port", "50080")
    refused = lab.router.run(example("foreign_client"), FOREIGN[lab.family], as_text(lab.server.address, 7000), check=False)
    assert refused.returncode == 1 and "refused" in refused.stderr
    assert lab.router.run(example("foreign_client"), "here", "there", check=False).returncode == 2


def test_the_sender_needs_no_rules(lab, example):
    """A sender's answers would find nobody."""
    before = snapshot(lab.router)
    server = lab.server.datagrams(514)
    source, target = as_text(FOREIGN[lab.family], FOREIGN_PORT), as_text(lab.server.address, 514)
    lines = [f"line {number}" for number in range(200)] + ["", "x" * 5000, "the end"]
    # No more at once than a socket's buffer holds: nobody reads meanwhile.
    sent = lab.router.run(example("foreign_sender"), source, target, input="\n".join(lines))
    assert sent.stdout == f"{len(lines)} datagrams from {source} to {target}\n"
    for line in lines:
        data, peer = server.recvfrom(10_000)
        assert (data.decode(), peer[:2]) == (line, (FOREIGN[lab.family], FOREIGN_PORT))
    assert difference(before, snapshot(lab.router)) == []
