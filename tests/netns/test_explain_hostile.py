"""`limpid explain` among others who trace, queue packets, or write to the terminal."""

import contextlib
import json
import subprocess
import threading
import time

import pytest

import kernel_state
import limpid_process
from explain_process import Eavesdropper, endpoint, forwarded, run
from packet_queue import PacketQueue
from peers import wait_until

TRACE_OF_OTHERS = """table inet others {
  chain trace {
    type filter hook prerouting priority raw; policy accept;
    udp dport 9 meta nftrace set 1
  }
}
"""


@contextlib.contextmanager
def traced_traffic(lab):
    """Datagrams that arrive at the router, each of which somebody else traces, until the test is done with it."""
    lab.router.nft(TRACE_OF_OTHERS)
    sender, enough = lab.client.datagrams(), threading.Event()

    def send():
        while not enough.wait(0.02):
            sender.sendto(b"x", (lab.router.address, 9))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
        sender.close()


def test_traces_of_others_do_not_hold_it_up(lab):
    """A packet without a route vanishes: it is waited for, but not for as long as others are heard of."""
    with traced_traffic(lab):
        begun = time.monotonic()
        answer = forwarded(lab, address=lab.nowhere)
        assert answer["verdict"] == "dropped" and "no route" in answer["reason"]
        assert time.monotonic() - begun < 8, "it gives up after 0.4 s without news of the probe itself"


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_what_a_program_gives_back_late_goes_nowhere(lab, need, transport):
    program = {"ipv4": "iptables-nft", "ipv6": "ip6tables-nft"}[lab.family]
    need(program, "iptables")
    ears = Eavesdropper(lab.server)
    before = kernel_state.snapshot(lab.router)
    queue = PacketQueue(lab.router, 7)
    lab.router.run(program, "-A", "FORWARD", "-j", "NFQUEUE", "--queue-num", "7")
    process = lab.router.start([limpid_process.BINARY, "explain", transport, lab.client.address, endpoint(lab.server.address, 80), "--json"],
                               stdout=subprocess.PIPE, text=True)
    packet = queue.take(10)
    thinks_until = time.monotonic() + 0.6
    wait_until(lambda: time.monotonic() > thinks_until or "limpid__explain" not in lab.router.run("nft", "list", "tables").stdout,
               "the program has thought about it")
    queue.give_back(packet)
    output, _ = process.communicate(timeout=20)
    answer = json.loads(output)
    assert answer["verdict"] == "bypassed" and answer["left_by"] == "wan", "it is followed to its end"
    assert ears.packets == 0, "and nobody has heard it"
    queue.close()
    lab.router.run(program, "-F", "FORWARD")
    assert [line for line in kernel_state.difference(before, kernel_state.snapshot(lab.router)) if "limpid" in line] == []


def test_a_queue_that_nobody_reads_is_not_waited_for(lab, need):
    program = {"ipv4": "iptables-nft", "ipv6": "ip6tables-nft"}[lab.family]
    need(program, "iptables")
    lab.router.run(program, "-A", "FORWARD", "-j", "NFQUEUE", "--queue-num", "7")
    assert forwarded(lab)["verdict"] == "unknown"


def test_a_comment_does_not_act_on_the_terminal(lab):
    evil = "a\x1b[2Jb\u009b2Jc\u202ed"
    lab.router.nft(f'table inet others {{\n  chain drops {{\n    type filter hook forward priority 0; policy accept;\n    tcp dport 80 drop comment "{evil}"\n  }}\n}}\n')
    text = run(lab, "tcp", lab.client.address, endpoint(lab.server.address, 80)).stdout
    assert "a?[2Jb?2Jc?d" in text
    assert all(character >= " " and not "\x7f" <= character <= "\x9f" for character in text.replace("\n", ""))
