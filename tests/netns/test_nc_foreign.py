"""`limpid nc` with addresses that its host does not have: as the listener behind tproxy rules, as the caller from a foreign address,
and what --setup installs and takes away again."""

import signal
import socket
import subprocess

import pytest

import limpid_process
from kernel_state import difference, installed, snapshot
from lab import SECONDS
from limpid_process import FAILURE
from peers import Background, bytes_of, exchange, read_exactly, read_to_end

# The kernel's document: 0xDEADBEEF:0xCAFE.
FOREIGN = {"ipv4": "222.173.190.239", "ipv6": "2001:db8:dead:beef::1"}
FOREIGN_PORT = 51966


@pytest.fixture
def foreign(lab):
    """An address that no host has; client and server send what goes there to the router."""
    return FOREIGN[lab.family]


def shown(lab, address, port):
    """As limpid writes it."""
    return f"{address}:{port}" if lab.family == "ipv4" else f"[{address}]:{port}"


def udp_socket(host, lab, port=0):
    with host.inside():
        made = socket.socket(socket.AF_INET if lab.family == "ipv4" else socket.AF_INET6, socket.SOCK_DGRAM)
    made.settimeout(SECONDS)
    made.bind((host.address, port))
    return made


def divert_datagrams(lab, port, listener):
    """By hand, as the kernel's document has it: what people have who bring their own rules."""
    family, ip, loopback = {"ipv4": ("-4", "ip", "127.0.0.1"), "ipv6": ("-6", "ip6", "[::1]")}[lab.family]
    lab.router.nft(f"table inet byhand {{\n chain divert {{\n  type filter hook prerouting priority mangle\n"
                   f"  udp dport {port} tproxy {ip} to {loopback}:{listener} meta mark set 1 accept\n }}\n}}\n")
    lab.router.run("ip", family, "rule", "add", "fwmark", "1", "lookup", "100")
    lab.router.run("ip", family, "route", "add", "local", "default", "dev", "lo", "table", "100")


# The listener, behind rules that somebody else installed


def test_behind_rules_it_stands_in_for_the_server(lab, netcat):
    lab.router.run(limpid_process.BINARY, "rules", "apply", "--tcp", "80", "--listen-port", "50080")
    listener = netcat(lab.router, "-l", "-v", "-N", "--transparent", 50080, stdin=b"from the middle").listening()
    client = lab.client.connect(lab.nowhere, 80)
    client.sendall(b"to nowhere")
    client.shutdown(socket.SHUT_WR)
    assert read_to_end(client) == b"from the middle"
    assert listener.output() == b"to nowhere"
    source = shown(lab, *client.getsockname()[:2])
    assert f"connection from {source} to {shown(lab, lab.nowhere, 80)}" in listener.messages


def test_behind_rules_with_k_and_a_program(lab, netcat):
    """Each learns where its client wanted to go."""
    lab.router.run(limpid_process.BINARY, "rules", "apply", "--tcp", "80-90", "--listen-port", "50080")
    netcat(lab.router, "-l", "-k", "-v", "--transparent", "-c", "printenv LIMPID_ORIGINAL_DESTINATION", 50080).listening()
    for port in range(80, 91):
        client = lab.client.connect(lab.nowhere, port)
        assert read_to_end(client).decode().strip() == shown(lab, lab.nowhere, port)


def test_a_diverted_datagram_is_answered_from_the_address_that_was_dialled(lab, netcat):
    divert_datagrams(lab, 53, 50053)
    listener = netcat(lab.router, "-l", "-u", "-v", "--transparent", 50053, stdin=subprocess.PIPE).listening()
    client = udp_socket(lab.client, lab)
    for turn in range(3):  # the first comes through the listener, the others through the conversation's own socket
        client.sendto(b"question %d" % turn, (lab.nowhere, 53))
        assert listener.read(10) == b"question %d" % turn
        listener.write(b"answer %d" % turn)
        data, address = client.recvfrom(100)
        assert (data, address[:2]) == (b"answer %d" % turn, (lab.nowhere, 53))
    assert f"datagram from {shown(lab, *client.getsockname()[:2])} to {shown(lab, lab.nowhere, 53)}" in listener.messages


def test_diverted_datagrams_of_many_clients_to_many_addresses(lab, netcat):
    divert_datagrams(lab, 53, 50053)
    netcat(lab.router, "-l", "-k", "-u", "-v", "-w", 5, "--transparent", "-e", "cat", 50053).listening()
    clients = [udp_socket(lab.client, lab) for _ in range(3)]
    prefix = {"ipv4": "203.0.113.", "ipv6": "2001:db8:9::"}[lab.family]
    for turn in range(3):
        for number, client in enumerate(clients):
            for host in (7, 8):
                client.sendto(b"%d %d %d" % (number, turn, host), (f"{prefix}{host}", 53))
                data, address = client.recvfrom(100)
                assert (data, address[:2]) == (b"%d %d %d" % (number, turn, host), (f"{prefix}{host}", 53))


def test_diverted_datagrams_answered_by_one_standard_input(lab, netcat):
    """Although a resolver of the router's own has the port that was dialled, on any address."""
    lab.router.datagrams(53)
    divert_datagrams(lab, 53, 50053)
    listener = netcat(lab.router, "-l", "-k", "-u", "-v", "--transparent", 50053, stdin=subprocess.PIPE).listening()
    clients = [udp_socket(lab.client, lab) for _ in range(2)]
    for number in (0, 1, 0):
        clients[number].sendto(b"%d" % number, (lab.nowhere, 53))
        assert listener.read(1) == b"%d" % number
        listener.write(b"to %d" % number)
        data, address = clients[number].recvfrom(100)
        assert (data, address[:2]) == (b"to %d" % number, (lab.nowhere, 53))


# The caller


def test_calls_from_the_documents_address(lab, netcat, foreign):
    before = snapshot(lab.router)
    listener = lab.server.listen(80)
    caller = netcat(lab.router, "-v", "-N", "--setup", "-s", foreign, "-p", FOREIGN_PORT, lab.server.address, 80,
                    stdin=b"as somebody else")
    connection, peer = listener.accept()
    connection.settimeout(SECONDS)
    assert peer[:2] == (foreign, FOREIGN_PORT)
    assert read_to_end(connection) == b"as somebody else"
    answer = bytes_of(5, 1 << 20)
    sent = Background(connection.sendall, answer)
    assert caller.read(len(answer)) == answer
    sent.result()
    connection.close()
    assert caller.output() == b""
    assert f"from {shown(lab, foreign, FOREIGN_PORT)}" in caller.messages
    assert difference(before, snapshot(lab.router)) == []


def test_without_setup_it_installs_nothing(lab, netcat, foreign):
    """And the answer to its SYN finds nobody."""
    before = snapshot(lab.router)
    lab.server.listen(80)
    caller = netcat(lab.router, "-w", "400ms", "-s", foreign, lab.server.address, 80)
    assert caller.status() == FAILURE and "no answer" in caller.messages
    assert difference(before, snapshot(lab.router)) == []


def test_rules_that_are_there_serve_the_caller_too(lab, netcat, foreign):
    lab.router.run(limpid_process.BINARY, "rules", "apply", "--tcp", "80", "--listen-port", "50080")
    listener = lab.server.listen(8080)
    caller = netcat(lab.router, "-N", "-s", foreign, lab.server.address, 8080, stdin=b"hello")
    connection, peer = listener.accept()
    assert peer[0] == foreign
    assert read_to_end(connection) == b"hello"
    connection.close()
    assert caller.output() == b""


def test_sends_datagrams_from_a_foreign_address_and_hears_the_answers(lab, netcat, foreign):
    peer = udp_socket(lab.server, lab, 7000)
    caller = netcat(lab.router, "-u", "--setup", "-s", foreign, "-p", FOREIGN_PORT, lab.server.address, 7000,
                    stdin=subprocess.PIPE)
    for size in (1, 1400, 20_000):
        caller.write(bytes_of(size, size))
        data, address = peer.recvfrom(65535)
        assert (data, address[:2]) == (bytes_of(size, size), (foreign, FOREIGN_PORT))
        peer.sendto(data[::-1], address)
        assert caller.read(size) == data[::-1]
    caller.process.terminate()
    assert caller.process.wait(SECONDS) == -signal.SIGTERM
    assert installed(lab.router) == []


def test_a_spoofing_sender_needs_no_setup(lab, netcat, foreign):
    """Who wants no answer, as with socat's ip-transparent."""
    peer = udp_socket(lab.server, lab, 7000)
    caller = netcat(lab.router, "-u", "-q", 0, "-s", foreign, "-p", FOREIGN_PORT, lab.server.address, 7000, stdin=b"one way")
    data, address = peer.recvfrom(100)
    assert (data, address[:2]) == (b"one way", (foreign, FOREIGN_PORT))
    assert caller.output() == b""


def test_a_scan_from_a_foreign_address(lab, netcat, foreign):
    lab.server.listen(7001)
    scanned = netcat(lab.router, "-z", "--setup", "-s", foreign, lab.server.address, "7000-7002")
    assert scanned.output().decode().splitlines() == [f"{shown(lab, lab.server.address, 7001)} open"]
    assert installed(lab.router) == []


# The listener that sets up what it needs


def test_listens_on_an_address_that_is_not_there(lab, netcat, foreign):
    before = snapshot(lab.router)
    listener = netcat(lab.router, "-l", "-k", "-v", "--setup", "-s", foreign, "-e", "cat", FOREIGN_PORT).says("diverting")
    clients = [lab.client.connect(foreign, FOREIGN_PORT), lab.server.connect(foreign, FOREIGN_PORT)]
    for client in clients:
        data = bytes_of(6, 100_000)
        sent = Background(client.sendall, data)
        assert read_exactly(client, len(data)) == data
        sent.result()
    with pytest.raises(OSError):  # other ports of that address go their way: nowhere
        lab.client.connect(foreign, FOREIGN_PORT + 1, timeout=0.3)
    listener.process.terminate()
    assert listener.process.wait(SECONDS) == -signal.SIGTERM
    assert difference(before, snapshot(lab.router)) == []


def test_receives_datagrams_for_an_address_that_is_not_there(lab, netcat, foreign):
    netcat(lab.router, "-l", "-u", "-v", "--setup", "-s", foreign, "-e", "cat", FOREIGN_PORT).says("diverting")
    client = udp_socket(lab.client, lab)
    for turn in range(3):
        client.sendto(b"%d" % turn, (foreign, FOREIGN_PORT))
        data, address = client.recvfrom(100)
        assert (data, address[:2]) == (b"%d" % turn, (foreign, FOREIGN_PORT))


def test_intercepts_connections_by_itself(lab, netcat):
    before = snapshot(lab.router)
    listener = netcat(lab.router, "-l", "-v", "-N", "--setup", "--tcp", "80,443", stdin=b"got you").says("intercepting TCP 80,443")
    client = lab.client.connect(lab.nowhere, 443)
    client.shutdown(socket.SHUT_WR)
    assert read_to_end(client) == b"got you"
    assert listener.output() == b""
    assert shown(lab, lab.nowhere, 443) in listener.messages
    assert difference(before, snapshot(lab.router)) == []


def test_intercepts_datagrams_by_itself(lab, netcat):
    before = snapshot(lab.router)
    listener = netcat(lab.router, "-l", "-k", "-u", "-v", "--setup", "--udp", "53,5000-6000", "-e", "cat").says("intercepting UDP")
    client = udp_socket(lab.client, lab)
    for address, port in ((lab.nowhere, 53), (lab.nowhere, 5500), (lab.server.address, 53)):
        client.sendto(b"question", (address, port))
        data, source = client.recvfrom(100)
        assert (data, source[:2]) == (b"question", (address, port))
    server = udp_socket(lab.server, lab, 7000)
    client.sendto(b"not in scope", (lab.server.address, 7000))
    assert server.recv(100) == b"not in scope"
    listener.process.send_signal(signal.SIGINT)
    assert listener.process.wait(SECONDS) == -signal.SIGINT
    assert difference(before, snapshot(lab.router)) == []


def test_nobody_reaches_its_listener_directly(lab, netcat):
    listener = netcat(lab.router, "-l", "-k", "-v", "-N", "--setup", "--tcp", "80", 50080).says("intercepting")
    with pytest.raises(ConnectionRefusedError):
        lab.client.connect(lab.router.address, 50080)
    assert "connection from" not in listener.messages


# Every way out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_remove_what_was_set_up(lab, netcat, foreign, number):
    before = snapshot(lab.router)
    listener = netcat(lab.router, "-l", "-v", "--setup", "-s", foreign, FOREIGN_PORT).says("diverting")
    assert installed(lab.router)
    listener.process.send_signal(number)
    assert listener.process.wait(SECONDS) == -number
    assert difference(before, snapshot(lab.router)) == []


def test_a_signal_while_connecting(lab, netcat, foreign):
    lab.router.run("ip", "-4" if lab.family == "ipv4" else "-6", "route", "add", "default", "dev", "wan")
    before = snapshot(lab.router)
    caller = netcat(lab.router, "-v", "--setup", "-s", foreign, lab.nowhere, 80).says("diverting")
    caller.process.terminate()
    assert caller.process.wait(SECONDS) == -signal.SIGTERM
    assert difference(before, snapshot(lab.router)) == []


def test_failures_remove_what_was_set_up(lab, netcat, foreign):
    before = snapshot(lab.router)
    refused = netcat(lab.router, "--setup", "-s", foreign, lab.server.address, 7000)
    assert refused.status() == FAILURE and "refused" in refused.messages
    unknown = netcat(lab.router, "--setup", "-s", foreign, "no-such-host.invalid", 7000)
    assert unknown.status() == FAILURE and "no-such-host.invalid" in unknown.messages
    closed = netcat(lab.router, "--setup", "-s", foreign, lab.server.address, 80)
    closed.process.stdout.close()
    closed.process.stdout = None
    assert closed.process.wait(SECONDS) == FAILURE
    program = netcat(lab.router, "-l", "--setup", "-v", "-s", foreign, "-e", "no-such-program", FOREIGN_PORT).says("diverting")
    lab.client.connect(foreign, FOREIGN_PORT)
    assert program.status() == FAILURE
    assert difference(before, snapshot(lab.router)) == []


def test_rules_remove_takes_what_a_kill_left(lab, netcat, foreign):
    before = snapshot(lab.router)
    listener = netcat(lab.router, "-l", "-v", "--setup", "--name", "mine", "-s", foreign, FOREIGN_PORT).says("diverting")
    listener.process.kill()
    listener.process.wait()
    assert installed(lab.router)
    lab.router.run(limpid_process.BINARY, "rules", "remove", "--name", "mine")
    assert difference(before, snapshot(lab.router)) == []


def test_two_at_one_time_need_two_names(lab, netcat, foreign):
    first = netcat(lab.router, "-l", "-v", "--setup", "-s", foreign, FOREIGN_PORT).says("diverting")
    second = netcat(lab.router, "-l", "-v", "--setup", "-s", foreign, FOREIGN_PORT + 1)
    assert second.status() == FAILURE
    assert str(first.process.pid) in second.messages and "--name" in second.messages
    netcat(lab.router, "-l", "-v", "--setup", "--name", "other", "-s", foreign, FOREIGN_PORT + 1, "-c", "echo hi").says("diverting")
    assert read_to_end(lab.client.connect(foreign, FOREIGN_PORT + 1)) == b"hi\n"


def test_own_address_needs_no_setup(lab, netcat):
    """--setup in a script that does not know whose address it has."""
    before = snapshot(lab.server)
    listener = netcat(lab.server, "-l", "-v", "-N", "--setup", "-s", lab.server.address, 7000).says("nothing to set up")
    assert difference(before, snapshot(lab.server)) == []
    lab.client.connect(lab.server.address, 7000).close()
    assert listener.output() == b""


# Beside socat


def test_socat_talks_to_the_transparent_listener(lab, netcat, need):
    need("socat", "socat")
    netcat(lab.router, "-l", "-k", "-v", "--setup", "--tcp", "80", "-e", "cat").says("intercepting")
    target = f"TCP{lab.family[-1]}:{shown(lab, lab.nowhere, 80)}"
    done = lab.client.run("socat", "-t", "10", "-", target, input="through the middle")
    assert done.stdout == "through the middle"


def test_a_transparent_proxy_out_of_two_netcats(lab, netcat):
    """The listener's program is a caller, from the client's own address to where the client wanted to go."""
    program = (f"import os; address = os.environ['LIMPID_CLIENT'].rpartition(':')[0].strip('[]'); "
               f"target, _, port = os.environ['LIMPID_ORIGINAL_DESTINATION'].rpartition(':'); "
               f"os.execv('{limpid_process.BINARY}', ['limpid', 'nc', '-N', '-s', address, target.strip('[]'), port])")
    listener = lab.server.listen(80)
    netcat(lab.router, "-l", "-k", "-v", "--setup", "--tcp", "80", "-e", "/usr/bin/python3", 50080, "--", "-c",
           program).says("intercepting")
    client = lab.client.connect(lab.server.address, 80)
    connection, peer = listener.accept()
    assert peer[0] == lab.client.address and peer[1] != client.getsockname()[1]
    exchange(client, connection)
