"""`limpid relay`: a plain relay on the router, from its own port to a server; nothing is installed in any kernel."""

import contextlib
import os
import re
import signal
import socket
import time

import pytest

import limpid_process
from kernel_state import difference, snapshot
from limpid_process import DONE, FAILURE, UNSUPPORTED, USAGE
from peers import Background, Pattern, exchange, read_to_end, read_to_reset, receive_digest, reset, wait_until
from plain_relay import FAMILIES, PORT, at, dial, is_relayed, refused, status_of


# --- one target


def test_a_confined_relay_keeps_nothing_that_its_caller_had_open(relay, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    with open("/etc/hostname", "rb") as file:
        instance = relay("--chroot", root, PORT, "192.0.2.2", wrapper=("sh", "-c", 'exec 9</etc; exec "$@"', "sh"), pass_fds=[file.fileno()])
    opened = [os.readlink(f"/proc/{instance.pid}/fd/{each}") for each in os.listdir(f"/proc/{instance.pid}/fd")]
    assert not [each for each in opened if each.startswith("/etc")], opened


@pytest.mark.parametrize("target_family", FAMILIES)
def test_relays_between_families_as_well_as_within_one(lab, relay, target_family):
    before = snapshot(lab.router)
    instance = relay(PORT, lab.server.addresses[target_family], 80)
    listener = lab.server.listen(80, family=target_family)
    connection = is_relayed(lab, listener)
    assert connection.seen[0] == lab.router.wan_addresses[target_family], "the server sees the relay"
    flow = instance.flow()
    assert flow["client"] == at(*connection.local)
    assert flow["orig_dst"] == at(lab.router.address, PORT)
    assert flow["target"] == at(lab.server.addresses[target_family], 80)
    assert (flow["source"], flow["bytes_up"], flow["bytes_down"], flow["end"]) == ("none", "1000", "1000", "closed")
    assert difference(before, snapshot(lab.router)) == [], "it installs nothing"


def test_the_port_is_the_listeners_unless_given(lab, relay):
    relay(PORT, lab.server.address)
    is_relayed(lab, lab.server.listen(PORT))


@pytest.mark.parametrize("flag", ["-4", "-6"])
def test_one_family_to_listen_on_and_any_to_dial(lab, relay, flag):
    listens = {"-4": "ipv4", "-6": "ipv6"}[flag]
    for target_family in FAMILIES:
        instance = relay(flag, PORT, lab.server.addresses[target_family], 80)
        if lab.family == listens:
            with contextlib.closing(lab.server.listen(80, family=target_family)) as listener:
                is_relayed(lab, listener)
        else:
            assert refused(lab)
        assert instance.stop() == DONE


def test_listens_on_the_given_addresses_only(lab, relay):
    relay("-L", lab.router.address, "--listen-address", "127.0.0.1", PORT, lab.server.address, 80)
    is_relayed(lab, lab.server.listen(80))
    with pytest.raises(ConnectionRefusedError):
        lab.server.connect(lab.wan, PORT)
    lab.router.connect("127.0.0.1", PORT)


def test_a_large_stream_each_way_stays_intact(lab, relay):
    other = {"ipv4": "ipv6", "ipv6": "ipv4"}[lab.family]
    instance = relay(PORT, lab.server.addresses[other], 80)
    connection = dial(lab, lab.server.listen(80, family=other))
    up, down = Pattern(1, 8_000_000), Pattern(2, 8_000_000)
    received = [Background(receive_digest, end) for end in (connection.server, connection.client)]
    sent = [Background(pattern.send, end) for pattern, end in ((up, connection.client), (down, connection.server))]
    for each in sent:
        each.result()
    assert [each.result() for each in received] == [(up.digest(), up.length), (down.digest(), down.length)]
    connection.client.close()
    connection.server.close()
    assert instance.flow()["end"] == "closed"


def test_each_half_is_closed_by_itself(lab, relay):
    relay(PORT, lab.server.address, 80)
    listener = lab.server.listen(80)
    for first, second in (("client", "server"), ("server", "client")):
        connection = dial(lab, listener)
        early, late = getattr(connection, first), getattr(connection, second)
        early.sendall(b"that is all")
        early.shutdown(socket.SHUT_WR)
        assert read_to_end(late) == b"that is all"
        late.sendall(b"not from here")
        late.shutdown(socket.SHUT_WR)
        assert read_to_end(early) == b"not from here"


def test_a_reset_is_passed_on(lab, relay):
    instance = relay(PORT, lab.server.address, 80)
    connection = dial(lab, lab.server.listen(80))
    connection.server.sendall(b"last words")
    reset(connection.server)
    assert read_to_reset(connection.client) == b"last words"
    assert instance.flow()["end"] == "target_reset"


# --- --once


def test_once_serves_one_and_ends_well(lab, relay):
    instance = relay("--once", PORT, lab.server.address, 80)
    connection = dial(lab, lab.server.listen(80))
    exchange(connection.client, connection.server)
    assert refused(lab), "nobody else is served"
    assert instance.process.poll() is None
    connection.client.close()
    connection.server.close()
    assert instance.process.wait(5) == DONE
    assert instance.flow()["end"] == "closed"


@pytest.mark.parametrize("end", ["connect_refused", "target_reset", "client_reset"])
def test_once_says_how_it_failed(lab, relay, end):
    instance = relay("--once", PORT, lab.server.address, 80)
    if end == "connect_refused":
        with pytest.raises(ConnectionResetError):
            lab.client.connect(lab.router.address, PORT).recv(1)
    else:
        connection = dial(lab, lab.server.listen(80))
        exchange(connection.client, connection.server)
        reset(connection.server if end == "target_reset" else connection.client)
    assert instance.process.wait(5) == FAILURE
    assert instance.messages.splitlines()[-1].endswith(end)
    assert instance.flow()["end"] == end


def test_once_without_anybody_is_a_failure(relay):
    instance = relay("--once", PORT, "192.0.2.2", 80)
    assert instance.stop() == FAILURE
    assert "before anybody came" in instance.messages


# --- the end


def test_a_flow_finishes_and_nobody_new_is_served(lab, relay):
    instance = relay("--drain-timeout", "20", PORT, lab.server.address, 80)
    with contextlib.closing(lab.server.listen(80)) as listener:
        old = dial(lab, listener)
    instance.process.send_signal(signal.SIGTERM)
    wait_until(lambda: refused(lab), "it stops listening")
    exchange(old.client, old.server)
    assert instance.process.poll() is None
    old.client.close()
    old.server.close()
    assert instance.process.wait(3) == DONE
    assert [flow["end"] for flow in instance.flows(1) if flow["client"] == at(*old.local)] == ["closed"]


def test_the_drain_is_bounded_and_a_second_signal_ends_it(lab, relay):
    listener = lab.server.listen(80)
    for signals, at_least, at_most in ((1, 0.4, 3), (2, 0, 3)):
        instance = relay("--drain-timeout", "500ms" if signals == 1 else "60s", PORT, lab.server.address, 80)
        connection = dial(lab, listener)
        began = time.monotonic()
        instance.process.send_signal(signal.SIGTERM)
        if signals == 2:
            wait_until(lambda: "draining" in instance.messages, "it drains")
            instance.process.send_signal(signal.SIGTERM)
        assert instance.process.wait(10) == DONE
        assert at_least < time.monotonic() - began < at_most
        assert instance.flow()["end"] == "stopped"
        with pytest.raises(ConnectionResetError):
            connection.client.recv(1)


def test_the_port_is_free_at_once_after_a_kill(lab, relay):
    listener = lab.server.listen(80)
    instance = relay(PORT, lab.server.address, 80)
    dial(lab, listener)
    instance.kill()
    relay(PORT, lab.server.address, 80)
    is_relayed(lab, listener)


# --- what cannot work


def ends_with(lab, *arguments, wrapper=()):
    done = lab.router.run(*wrapper, limpid_process.BINARY, "relay", *arguments, check=False)
    assert not limpid_process.has_sanitizer_report(done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.startswith("limpid: ")]
    assert len(lines) == 1, done.stderr
    return done.returncode, lines[0]


@pytest.mark.parametrize("family", ["ipv4"])  # both families stand in the arguments
@pytest.mark.parametrize("arguments, message", [
    ((), "no LISTEN-PORT given"),
    (("8080",), "no HOST given"),
    (("0", "192.0.2.2"), "LISTEN-PORT 0: not a port"),
    (("65536", "192.0.2.2"), "LISTEN-PORT 65536: not a port"),
    (("http", "192.0.2.2"), "LISTEN-PORT http: not a port"),
    (("", "192.0.2.2"), 'LISTEN-PORT "": not a port'),
    (("8080", "192.0.2.2", "0"), "PORT 0: not a port"),
    (("8080", "192.0.2.2", "80", "81"), "81"),
    (("8080", ""), 'HOST "": not a host'),
    (("8080", "two words"), "HOST two words: not a host"),
    (("8080", "192.0.2.2", "--target", ""), '--target "": not a host'),
    (("8080", "192.0.2.2", "--target", "a:"), "--target a:: not a port"),
    (("8080", "192.0.2.2", "--target", "192.0.2.11:99999"), "--target 192.0.2.11:99999: not a port"),
    (("8080", "192.0.2.9:80"), "write the port apart: limpid relay 8080 192.0.2.9 80"),
    (("8080", "www.example.org:80", "80"), "write the port apart: limpid relay 8080 www.example.org 80"),
    (("8080", "[2001:db8::1]:80"), "write the port apart: limpid relay 8080 2001:db8::1 80"),
    (("8080", "224.0.0.1", "80"), "HOST 224.0.0.1: the address of many hosts"),
    (("8080", "ff02::1", "80"), "HOST ff02::1: the address of many hosts"),
    (("8080", "255.255.255.255", "80"), "HOST 255.255.255.255: the address of many hosts"),
    (("8080", "0.0.0.0", "80"), "HOST 0.0.0.0: no host has this address"),
    (("8080", "::", "80"), "HOST ::: no host has this address"),
    (("8080", "fe80::1", "80"), "add the interface, for example fe80::1%eth0"),
    (("8080", "192.0.2.2", "--target", "[fe80::1]:80"), "--target [fe80::1]:80: a link-local address"),
    (("8080", "192.0.2.2", "--target", "[::1"), "--target [::1: not HOST[:PORT]"),
    (("8080", "192.0.2.2", "--target", "[::1]80"), "not HOST[:PORT]"),
    (("-4", "-6", "8080", "192.0.2.2"), "they contradict each other"),
    (("-4", "-L", "::1", "8080", "192.0.2.2"), "--listen-address ::1: an IPv6 address"),
    (("-L", "192.0.2.1", "-L", "192.0.2.1", "8080", "192.0.2.2"), "--listen-address 192.0.2.1: given twice"),
    (("-L", "::1", "-L", "[0::1]", "8080", "192.0.2.2"), "--listen-address [0::1]: given twice"),
    (("-L", "fe80::1", "8080", "192.0.2.2"), "--listen-address fe80::1: a link-local address"),
    (("-L", "lo", "8080", "192.0.2.2"), "--listen-address lo: not an address"),
    (("--once", "--loop", "8080", "192.0.2.2"), "it contradicts --once"),
    (("--source", "address", "8080", "192.0.2.2"), "add --tproxy"),
    (("--source", "client", "8080", "192.0.2.2"), "not a source mode"),
    (("--mark", "0", "8080", "192.0.2.2"), "--mark 0: not a mark"),
    (("--mark", "", "8080", "192.0.2.2"), '--mark "": not a mark'),
    (("--mark", "0x1/0x3", "8080", "192.0.2.2"), "--mark 0x1/0x3: a socket's mark has no mask"),
    (("--resolve-interval", "1ms", "8080", "192.0.2.2"), "too short"),
    (("--chroot", "/nonexistent", "8080", "192.0.2.2"),
     "--chroot /nonexistent: there is no such directory (mkdir -p /nonexistent, or name another)"),
    (("--chroot", "/etc/passwd/", "8080", "192.0.2.2"), "--chroot /etc/passwd/: not a directory"),
    (("--chroot", "", "8080", "192.0.2.2"), "it is empty"),
    (("--connect-timeout", "0", "8080", "192.0.2.2"), "--connect-timeout 0"),
    (("8080", "127.0.0.1"), "this relay listens there itself"),
    (("8080", "[::1]"), "this relay listens there itself"),
    (("8080", "192.0.2.1"), "this relay listens there itself"),
    (("8080", "2001:db8:2::1"), "this relay listens there itself"),
    (("8080", "localhost"), "this relay listens there itself"),
    (("8080", "192.0.2.2", "--target", "[::1]:8080"), "this relay listens there itself"),
    (("--tproxy", "--source", "address+port", "8080", "127.0.0.1", "80"), "give --source none"),
])
def test_bad_input(lab, arguments, message):
    status, line = ends_with(lab, *arguments)
    assert (status, message in line) == (USAGE, True), line


def test_a_busy_port_names_its_owner(lab):
    lab.router.listen(PORT)
    status, line = ends_with(lab, PORT, lab.server.address)
    assert status == FAILURE
    assert re.search(rf"port {PORT}: it is in use by \S+ \(pid {os.getpid()}\)", line), line


def test_an_address_that_is_not_ours(lab):
    status, line = ends_with(lab, "-L", lab.nowhere, PORT, lab.server.address)
    assert status == FAILURE
    assert lab.nowhere in line and "not this host's address: `ip addr` lists them; with --tproxy it may be foreign" in line


NO_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def test_needs_no_privileges(lab, relay):
    instance = relay("--fastopen", PORT, lab.server.address, 80, wrapper=NO_CAPABILITIES)
    assert int(status_of(instance.pid)["CapEff"], 16) == 0
    is_relayed(lab, lab.server.listen(80))


@pytest.mark.parametrize("arguments, message", [
    (("--tproxy", "8080"), "CAP_NET_ADMIN"),
    (("--chroot", "/", "8080"), "CAP_SYS_CHROOT"),
    (("80",), "CAP_NET_BIND_SERVICE"),
])
def test_says_which_privilege_is_missing(lab, arguments, message):
    status, line = ends_with(lab, *arguments, "198.51.100.2", wrapper=NO_CAPABILITIES)
    assert (status, message in line) == (UNSUPPORTED, True), line


def test_a_circle_that_no_address_shows_is_cut_at_its_second_connection(lab, relay):
    """A route makes an address ours that no interface has."""
    lab.router.run("ip", "route", "add", "local", lab.nowhere, "dev", "lo")
    instance = relay(PORT, lab.nowhere)
    with pytest.raises(ConnectionResetError):
        lab.client.connect(lab.router.address, PORT).recv(1)
    assert {flow["end"] for flow in instance.flows(2)} == {"refused_self", "target_reset"}
    assert instance.counters()["flows_total"] == 2
