"""kill -9: what was declared holds without any process of Limpid's alive, and the next start finds its feet.

Beside it runs a control client outside the policy, which must lose nothing at any moment.
"""

import time

import pytest

from kernel_state import difference, installed, snapshot
from limpid_process import DONE
from peers import exchange, wait_until
from traffic import ContinuousClient, failures


@pytest.fixture
def control(lab, echo):
    """Lost nothing when the test is over."""
    echo(9999)
    client = ContinuousClient(lab, 9999, range(20001, 30001))
    yield client
    attempts = client.stop()
    assert len(attempts) > 20
    assert failures(attempts) == []


@pytest.fixture
def busy(lab, echo):
    """(continuous client in scope, its echo server)"""
    server = echo(80)
    client = ContinuousClient(lab, 80, range(1025, 10001))
    yield client, server
    client.stop()


def test_fail_open_forwards_when_limpid_was_killed(start, control, busy):
    limpid = start("--tcp", "80", "--fail", "open")
    client, server = busy
    relayed_from = time.monotonic()
    client.wait_for_more(50)
    relayed_until = time.monotonic()
    limpid.kill()
    killed = time.monotonic()
    client.wait_for_more(50)
    control.wait_for_more(20)
    attempts = client.stop()
    relayed = {attempt.local for attempt in attempts if attempt.started > relayed_from and attempt.ended < relayed_until}
    assert len(relayed) >= 49 and not relayed & set(server.peers), "the server does not see the client's own ports"
    after = [attempt for attempt in attempts if attempt.started >= killed]
    assert len(after) >= 49 and failures(after) == []
    assert {attempt.local for attempt in after} <= set(server.peers), "the server sees them come from the client's own ports"
    assert failures([attempt for attempt in attempts if attempt.ended < relayed_until]) == []


def test_fail_closed_rejects_when_limpid_was_killed(lab, start, control, busy):
    limpid = start("--tcp", "80", "--fail", "closed")
    relayed_from = time.monotonic()
    client, server = busy
    client.wait_for_more(50)
    relayed_until = time.monotonic()
    limpid.kill()
    killed = time.monotonic()
    client.wait_for_more(50)
    control.wait_for_more(20)
    served = len(server.peers)
    attempts = client.stop()
    after = [attempt for attempt in attempts if attempt.started >= killed]
    assert len(after) >= 49
    assert {type(attempt.error) for attempt in after} == {ConnectionRefusedError}
    assert max(attempt.ended - attempt.started for attempt in after) < 0.5
    assert len(server.peers) == served
    assert failures([attempt for attempt in attempts if attempt.started > relayed_from
                     and attempt.ended < relayed_until]) == []
    with pytest.raises(ConnectionRefusedError):
        lab.client.connect(lab.server.address, 80)


@pytest.mark.parametrize("fail", ["open", "closed"])
def test_a_restart_after_kill_reaps_and_serves(lab, start, control, fail):
    before = snapshot(lab.router)
    first = start("--tcp", "80,81", "--fail", fail)
    clean = installed(lab.router)
    assert clean
    listener = lab.server.listen(80)
    for _ in range(3):
        first.kill()
        assert installed(lab.router), "nothing of a killed instance's can be cleaned up by itself"
        first = start("--tcp", "80", "--fail", fail)
        assert len(installed(lab.router)) == len(clean), "duplicates"
        connection = lab.dial(listener)
        assert not connection.was_forwarded
        exchange(connection.client, connection.server)
    forwarded = lab.dial(lab.server.listen(81))
    assert forwarded.was_forwarded, "81 was in the scope of the killed instance only"
    connection.client.close()
    connection.server.close()
    assert first.stop() == DONE
    assert difference(before, snapshot(lab.router)) == []
    control.wait_for_more(1)


def test_fail_closed_leaks_nothing_around_a_restart(start, control, busy):
    """Not one connection in scope reaches the server unrelayed, from the first start to the second stop."""
    limpid = start("--tcp", "80", "--fail", "closed")
    client, server = busy
    client.wait_for_more(20)
    guarded = time.monotonic()
    for _ in range(3):
        limpid.kill()
        client.wait_for_more(5)
        limpid = start("--tcp", "80", "--fail", "closed")
        client.wait_for_more(20)
    attempts = [attempt for attempt in client.stop() if attempt.started > guarded]
    assert not {attempt.local for attempt in attempts} & set(server.peers)
    assert len([attempt for attempt in attempts if not attempt.error]) >= 50
    control.wait_for_more(1)


def test_fail_open_serves_across_a_stop(start, control, busy):
    """Forwarded before, relayed between, forwarded afterwards; the client notices nothing at all."""
    client, server = busy
    client.wait_for_more(20)
    limpid = start("--tcp", "80", "--fail", "open", "--drain-timeout", "5")
    client.wait_for_more(50)
    assert limpid.stop() == DONE
    client.wait_for_more(20)
    attempts = client.stop()
    assert failures(attempts) == []
    wait_until(lambda: len(server.peers) == len(attempts), "the server has seen all of them")
    relayed = {attempt.local for attempt in attempts} - set(server.peers)
    assert 45 <= len(relayed) <= len(attempts) - 35
    control.wait_for_more(1)


def test_fail_open_leaves_existing_connections_alone(lab, start, control):
    listener = lab.server.listen(80)
    old = lab.dial(listener)
    exchange(old.client, old.server, 1)
    limpid = start("--tcp", "80", "--fail", "open")
    exchange(old.client, old.server, 2)
    assert not lab.dial(listener).was_forwarded
    limpid.kill()
    exchange(old.client, old.server, 3)
    limpid = start("--tcp", "80", "--fail", "open")
    exchange(old.client, old.server, 4)
    assert limpid.stop() == DONE
    exchange(old.client, old.server, 5)
    control.wait_for_more(1)


def test_fail_closed_ends_existing_connections(lab, start):
    """Nothing in scope passes unseen, however old."""
    old = lab.dial(lab.server.listen(80))
    exchange(old.client, old.server)
    start("--tcp", "80", "--fail", "closed")
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        old.client.sendall(b"x")
        old.client.recv(1)
