"""`limpid relay` with several targets, and with names whose addresses change."""

import contextlib
import os
import signal

import pytest

import limpid_process
from hosts_file import Names
from limpid_process import FAILURE
from peers import Background, bytes_of, exchange, read_exactly, wait_until
from plain_relay import FAMILIES, PORT, at, children, exists, is_relayed

ADDRESSES = {"ipv4": "198.51.100.7", "ipv6": "2001:db8:2::7"}  # a second one of the server's


# --- several targets


def test_the_next_target_is_dialled_when_one_fails(lab, relay):
    """The first refuses, the second never answers, the third serves; what the client said at once is not lost."""
    lab.server.nft("table inet hole {\nchain input {\ntype filter hook input priority 0\ntcp dport 81 drop\n}\n}\n")
    other = {"ipv4": "ipv6", "ipv6": "ipv4"}[lab.family]
    instance = relay("--connect-timeout", "300ms", PORT, lab.server.address, 80, "--target", at(lab.server.address, 81),
                     "--target", at(lab.server.addresses[other], 82))
    listener = lab.server.listen(82, family=other)
    client = lab.client.connect(lab.router.address, PORT)
    early = bytes_of(3, 100_000)
    sent = Background(client.sendall, early)
    server, _ = listener.accept()
    server.settimeout(5)
    assert read_exactly(server, len(early)) == early
    sent.result()
    exchange(client, server)
    server.close()
    client.close()
    assert instance.flow()["target"] == at(lab.server.addresses[other], 82)
    assert instance.counters()["target_failovers"] == 2


def test_a_target_that_cannot_even_be_called_is_passed_over(lab, relay):
    instance = relay(PORT, lab.nowhere, 80, "--target", lab.server.address)
    is_relayed(lab, lab.server.listen(80))
    assert instance.counters()["target_failovers"] == 1


def test_the_client_is_reset_when_none_is_left(lab, relay):
    instance = relay(PORT, lab.server.address, 80, "--target", lab.nowhere, "--target", at(lab.server.address, 81))
    with pytest.raises(ConnectionResetError):
        lab.client.connect(lab.router.address, PORT).recv(1)
    flow = instance.flow()
    assert (flow["end"], flow["target"]) == ("connect_refused", at(lab.server.address, 81))
    before = instance.descriptors()
    for _ in range(20):
        with pytest.raises(ConnectionResetError):
            lab.client.connect(lab.router.address, PORT).recv(1)
    instance.flows(21)
    assert instance.descriptors() <= before


def test_round_robin(lab, relay):
    relay("--workers", "1", "--round-robin", PORT, lab.server.address, 81, "--target", at(lab.server.address, 82))
    listeners = [lab.server.listen(port) for port in (81, 82)]
    for turn in range(4):
        is_relayed(lab, listeners[turn % 2])


# --- names


@pytest.fixture
def names(tmp_path, lab):
    if not os.path.exists("/etc/nsswitch.conf"):
        pytest.skip("there is no /etc/nsswitch.conf to mount over")
    for family in FAMILIES:
        length = {"ipv4": 24, "ipv6": 64}[family]
        lab.server.run("ip", "address", "add", f"{ADDRESSES[family]}/{length}", "dev", "eth0",
                       *(["nodad"] if family == "ipv6" else []))
    return Names(tmp_path)


@pytest.mark.parametrize("confined", [False, True], ids=["plain", "chroot"])
def test_a_name_is_resolved_again(lab, relay, names, tmp_path, confined):
    names.say(f"{lab.server.address} target.test")
    root = tmp_path / "root"
    root.mkdir()
    instance = relay("--resolve-interval", "100ms", PORT, "target.test", 80, *(["--chroot", root] if confined else []),
                     wrapper=names.wrapper)
    old = lab.server.listen(80, address=lab.server.address)
    new = lab.server.listen(80, address=ADDRESSES[lab.family])
    is_relayed(lab, old)
    names.say(f"{ADDRESSES[lab.family]} target.test")
    wait_until(lambda: "targets changed" in instance.messages, "it notices")
    is_relayed(lab, new)
    names.say()
    wait_until(lambda: "cannot be resolved any more" in instance.messages, "it notices")
    is_relayed(lab, new)
    names.say(f"{lab.server.address} target.test")
    wait_until(lambda: instance.messages.count("targets changed") == 2, "it notices")
    is_relayed(lab, old)


def test_a_name_that_nobody_knows(lab, names):
    done = lab.router.run(*names.wrapper, limpid_process.BINARY, "relay", PORT, "nobody.test", check=False)
    assert done.returncode == FAILURE
    assert done.stderr.startswith("limpid: resolve nobody.test: ")


def test_every_address_of_a_name_is_a_target(lab, relay, names):
    names.say(*(f"{address} target.test" for address in (ADDRESSES["ipv4"], ADDRESSES["ipv6"])))
    relay(PORT, "target.test", 80, wrapper=names.wrapper)
    for family in FAMILIES:  # only one of them answers
        with contextlib.closing(lab.server.listen(80, address=ADDRESSES[family], family=family)) as listener:
            is_relayed(lab, listener)


def test_a_name_that_becomes_ourselves_is_left_out(lab, relay, names):
    names.say(f"{lab.server.address} target.test")
    instance = relay("--resolve-interval", "100ms", PORT, "target.test", PORT, wrapper=names.wrapper)
    names.say(f"{lab.router.address} target.test")
    wait_until(lambda: "this relay listens there itself" in instance.messages, "it notices")
    is_relayed(lab, lab.server.listen(PORT))


@pytest.mark.parametrize("many", ["addresses of a name", "targets"])
def test_very_many_targets_come_to_an_end(lab, relay, names, many):
    """Each refuses. A DNS answer is somebody else's, so of that only the first 32 count."""
    addresses = [f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(300)]
    names.say(*(f"{address} target.test" for address in addresses))
    given = ["target.test", 81] if many != "targets" else [addresses[0], 81, *(
        word for address in addresses[1:] for word in ("--target", f"{address}:81"))]
    instance = relay(PORT, *given, wrapper=names.wrapper)
    with pytest.raises(ConnectionResetError):
        lab.client.connect(lab.router.address, PORT).recv(1)
    assert instance.flow()["end"] == "connect_refused"
    assert instance.counters()["target_failovers"] == (31 if many != "targets" else 299)
    assert instance.stop() == 0


def test_the_resolver_ends_with_the_relay(relay, names):
    names.say("192.0.2.2 target.test")
    for end in (lambda instance: instance.stop(), lambda instance: instance.kill()):
        instance = relay(PORT, "target.test", wrapper=names.wrapper)
        resolver, = children(instance.pid)
        end(instance)
        wait_until(lambda: not exists(resolver), "the resolver ends")


def test_a_resolver_that_dies_is_reported_and_the_relay_goes_on(lab, relay, names):
    names.say(f"{lab.server.address} target.test")
    instance = relay(PORT, "target.test", 80, wrapper=names.wrapper)
    resolver, = children(instance.pid)
    os.kill(resolver, signal.SIGKILL)
    wait_until(lambda: "resolver process has ended" in instance.messages, "it says so")
    cpu = instance.cpu_seconds()
    is_relayed(lab, lab.server.listen(80))
    assert instance.cpu_seconds() - cpu < 0.5


def test_addresses_need_no_resolver(relay):
    assert children(relay(PORT, "192.0.2.2").pid) == []
    assert children(relay("--resolve-interval", "0", PORT + 1, "localhost", 80).pid) == []
