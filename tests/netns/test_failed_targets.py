"""A target that cannot be reached reaches the client as an error, quickly."""

import time

import pytest

from peers import exchange, read_to_reset


def reset_after(lab, address, port, within):
    """Connects, and waits for the RST. Limpid has accepted by then or not: both are an error to the client."""
    began = time.monotonic()
    try:
        read_to_reset(lab.client.connect(address, port, source_port=lab.client_port()))
    except OSError as error:
        assert not isinstance(error, TimeoutError), f"nothing happened in {time.monotonic() - began} s"
    took = time.monotonic() - began
    assert took < within
    return took


def test_refused(lab, start):
    limpid = start("--tcp", "80")
    reset_after(lab, lab.server.address, 80, within=0.5)
    assert limpid.flow()["end"] == "connect_refused"


def test_timed_out(lab, start):
    lab.server.nft("table inet hole {\nchain input {\ntype filter hook input priority 0\ntcp dport 80 drop\n}\n}\n")
    limpid = start("--tcp", "80", "--connect-timeout", "1")
    took = reset_after(lab, lab.server.address, 80, within=2)
    assert took > 0.9, "nothing but the timeout can have ended it"
    assert limpid.flow()["end"] == "connect_timeout"


@pytest.mark.parametrize("answer", ["host-unreachable", "admin-prohibited"])
def test_an_icmp_error_ends_the_attempt(lab, start, answer):
    kind = {"ipv4": "icmp", "ipv6": "icmpv6"}[lab.family]
    answer = {("ipv6", "host-unreachable"): "addr-unreachable"}.get((lab.family, answer), answer)
    lab.server.nft("table inet wall {\nchain input {\ntype filter hook input priority 0\n"
                   f"tcp dport 80 reject with {kind} type {answer}\n}}\n}}\n")
    limpid = start("--tcp", "80")
    reset_after(lab, lab.server.address, 80, within=2)  # where the first error is missed, the repeated SYN's counts
    assert limpid.flow()["end"] in ("connect_unreachable", "connect_refused")


def test_no_route(lab, start):
    limpid = start("--tcp", "80")
    reset_after(lab, lab.nowhere, 80, within=0.5)
    assert limpid.flow()["end"] == "connect_unreachable"


def test_data_sent_before_the_refusal_does_not_delay_it(lab, start):
    limpid = start("--tcp", "80")
    began = time.monotonic()
    try:
        client = lab.client.connect(lab.server.address, 80)
        client.sendall(b"x" * 100_000)
        read_to_reset(client)
    except ConnectionError:
        pass
    assert time.monotonic() - began < 0.5
    assert limpid.flow()["end"] == "connect_refused"


def test_failures_leave_nothing_behind(lab, start):
    limpid = start("--tcp", "80")
    reset_after(lab, lab.server.address, 80, within=0.5)
    before = limpid.descriptors()
    for _ in range(100):
        reset_after(lab, lab.server.address, 80, within=0.5)
    limpid.flows(101)
    assert limpid.descriptors() <= before
    connection = lab.dial(lab.server.listen(80))
    exchange(connection.client, connection.server)
