"""--target HOST:PORT: everything in scope goes to one place, whatever was dialled."""

import pytest

from peers import exchange


def at(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@pytest.mark.parametrize("target_family", ["ipv4", "ipv6"])
def test_a_fixed_target_serves_what_was_dialled(lab, start, target_family):
    target = lab.server.addresses[target_family]
    limpid = start("--tcp", "80", "--target", at(target, 8080))
    listener = lab.server.listen(8080, family=target_family)
    connection = lab.dial(listener, address=lab.nowhere, port=80)
    assert connection.client.getpeername()[:2] == (lab.nowhere, 80)
    exchange(connection.client, connection.server)
    same_family = target_family == lab.family
    assert connection.seen[0] == (lab.client.address if same_family else lab.router.wan_addresses[target_family])
    connection.client.close()
    connection.server.close()
    flow = limpid.flow()
    assert (flow["orig_dst"], flow["target"]) == (at(lab.nowhere, 80), at(target, 8080))
    assert flow["source"] == ("address" if same_family else "none")
    assert limpid.counters()["source_fallback_none"] == (0 if same_family else 1)


def test_the_target_named_original_is_the_default(lab, start):
    start("--tcp", "80", "--target", "original")
    connection = lab.dial_relayed(lab.server.listen(80))
    exchange(connection.client, connection.server)


def test_the_target_may_be_in_scope_itself(lab, start):
    """Our own connection to it is not captured again."""
    limpid = start("--tcp", "80,8080", "--target", at(lab.server.address, 8080))
    connection = lab.dial(lab.server.listen(8080), address=lab.nowhere, port=80)
    exchange(connection.client, connection.server)
    assert limpid.counters()["flows_total"] == 1
