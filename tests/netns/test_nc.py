"""`limpid nc` between hosts that use their own addresses: what any netcat does, and what many get wrong."""

import hashlib
import os
import re
import signal
import socket
import subprocess

import pytest

import limpid_process
from lab import SECONDS
from limpid_process import FAILURE, UNSUPPORTED, USAGE
from peers import Background, bytes_of, read_exactly, read_to_end, reset, wait_until

TEN_MEBIBYTES = 10 << 20


def option(lab):
    return {"ipv4": "-4", "ipv6": "-6"}[lab.family]


def udp_socket(host, lab, port=0):
    with host.inside():
        made = socket.socket(socket.AF_INET if lab.family == "ipv4" else socket.AF_INET6, socket.SOCK_DGRAM)
    made.settimeout(SECONDS)
    made.bind((host.address, port))
    return made


def test_ten_mebibytes_each_way_arrive_whole(lab, netcat):
    """Both at once, between two netcats, every byte value; the end of one side does not cut off the other."""
    up, down = bytes_of(1, TEN_MEBIBYTES), bytes_of(2, TEN_MEBIBYTES)
    server = netcat(lab.server, "-l", "-v", "-N", 7000, stdin=down).listening()
    client = netcat(lab.client, "-N", lab.server.address, 7000, stdin=up)
    received = Background(server.output, 60)
    assert hashlib.sha256(client.output(60)).digest() == hashlib.sha256(down).digest()
    assert hashlib.sha256(received.result()).digest() == hashlib.sha256(up).digest()


def test_the_callers_end_does_not_cut_off_the_answer(lab, netcat):
    listener = lab.server.listen(7000)
    client = netcat(lab.client, "-N", lab.server.address, 7000, stdin=b"question")
    connection, _ = listener.accept()
    connection.settimeout(SECONDS)
    assert read_to_end(connection) == b"question"
    connection.sendall(b"answer")
    connection.close()
    assert client.output() == b"answer"


def test_the_peers_end_does_not_cut_off_what_is_sent(lab, netcat):
    listener = lab.server.listen(7000)
    client = netcat(lab.client, "-N", lab.server.address, 7000, stdin=subprocess.PIPE)
    connection, _ = listener.accept()
    connection.settimeout(SECONDS)
    connection.sendall(b"all there is")
    connection.shutdown(socket.SHUT_WR)
    assert client.read_to_end() == b"all there is", "its standard output ends with the peer"
    client.write(b"late")
    assert read_exactly(connection, 4) == b"late"
    client.close_input()
    assert read_to_end(connection) == b""
    assert client.status() == 0


def test_the_listeners_side_of_the_same(lab, netcat):
    data = bytes_of(3, 1 << 20)
    server = netcat(lab.server, "-l", "-v", "-N", 7000, stdin=data).listening()
    connection = lab.client.connect(lab.server.address, 7000)
    connection.sendall(b"request")
    connection.shutdown(socket.SHUT_WR)
    assert read_to_end(connection) == data
    assert server.output() == b"request"


def test_without_n_the_peer_is_not_told(lab, netcat):
    """As OpenBSD's: -q decides how long to go on."""
    listener = lab.server.listen(7000)
    client = netcat(lab.client, "-q", "700ms", lab.server.address, 7000, stdin=b"question")
    connection, _ = listener.accept()
    assert read_exactly(connection, 8) == b"question"
    connection.settimeout(0.2)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.sendall(b"answer")
    assert client.output() == b"answer"


def test_a_reset_is_a_failure_and_loses_nothing(lab, netcat):
    listener = lab.server.listen(7000)
    client = netcat(lab.client, lab.server.address, 7000, stdin=subprocess.PIPE)
    connection, _ = listener.accept()
    connection.sendall(b"x" * 5000)
    reset(connection)
    assert client.read_to_end() == b"x" * 5000
    assert client.status() == FAILURE
    assert lab.server.address in client.messages and "reset" in client.messages


def test_a_reader_that_stops_ends_it(lab, netcat):
    listener = lab.server.listen(7000)
    client = netcat(lab.client, lab.server.address, 7000, stdin=subprocess.PIPE)
    connection, _ = listener.accept()
    client.process.stdout.close()
    client.process.stdout = None
    connection.sendall(b"nobody reads this")
    assert client.process.wait(SECONDS) == FAILURE
    assert "standard output" in client.messages


def test_a_slow_reader_does_not_hold_up_the_other_direction(lab, netcat):
    listener = lab.server.listen(7000)
    client = netcat(lab.client, "-N", lab.server.address, 7000, stdin=subprocess.PIPE)
    connection, _ = listener.accept()
    connection.settimeout(SECONDS)
    flood = Background(connection.sendall, bytes(4 << 20))  # our end of the pipe is not read meanwhile
    client.write(b"still here")
    assert read_exactly(connection, 10) == b"still here"
    client.close_input()
    assert len(client.read(4 << 20)) == 4 << 20
    flood.result()


def test_k_serves_one_after_the_other(lab, netcat):
    server = netcat(lab.server, "-l", "-k", "-v", "-N", 7000).listening()
    first = lab.client.connect(lab.server.address, 7000)
    second = lab.client.connect(lab.server.address, 7000)
    second.sendall(b"second")
    second.shutdown(socket.SHUT_WR)
    first.sendall(b"first ")
    first.shutdown(socket.SHUT_WR)
    assert server.read(12) == b"first second"
    assert server.process.poll() is None


def test_without_k_the_first_is_the_last(lab, netcat):
    server = netcat(lab.server, "-l", "-v", "-N", 7000).listening()
    first = lab.client.connect(lab.server.address, 7000)
    server.says("connection from")
    with pytest.raises(ConnectionRefusedError):
        lab.client.connect(lab.server.address, 7000)
    first.close()
    assert server.output() == b""


def test_one_listener_for_both_families(lab, netcat):
    server = netcat(lab.server, "-l", "-k", "-v", "-N", 7000).listening()
    for family in ("ipv4", "ipv6"):
        connection = lab.client.connect(lab.server.addresses[family], 7000)
        connection.sendall(family.encode())
        connection.close()
        assert server.read(4) == family.encode()


def test_only_the_wanted_family(lab, netcat):
    netcat(lab.server, "-l", "-k", "-v", option(lab), 7000).listening()
    other = {"ipv4": "ipv6", "ipv6": "ipv4"}[lab.family]
    lab.client.connect(lab.server.address, 7000)
    with pytest.raises(ConnectionRefusedError):
        lab.client.connect(lab.server.addresses[other], 7000)


def test_a_port_of_the_kernels_choice(lab, netcat):
    server = netcat(lab.server, "-l", "-v", "-N", option(lab), 0).listening()
    port = int(server.messages.split(" (")[0].rpartition(":")[2])
    connection = lab.client.connect(lab.server.address, port)
    connection.close()
    assert server.output() == b""


def test_own_address_and_port_of_a_caller(lab, netcat):
    listener = lab.server.listen(7000)
    client = netcat(lab.client, "-v", "-s", lab.client.address, "-p", 4321, lab.server.address, 7000)
    _, peer = listener.accept()
    assert peer[:2] == (lab.client.address, 4321)
    client.says("connected to")
    assert "4321" in client.messages


# -e and -c


def test_e_runs_a_program_for_each_client_at_the_same_time(lab, netcat):
    netcat(lab.server, "-l", "-k", "-v", "-e", "cat", 7000).listening()
    connections = [lab.client.connect(lab.server.address, 7000) for _ in range(5)]
    for number, connection in reversed(list(enumerate(connections))):
        data = bytes_of(number, 200_000)
        sent = Background(connection.sendall, data)
        assert read_exactly(connection, len(data)) == data
        sent.result()
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection) == b""


def test_e_gives_arguments_as_they_are(lab, netcat):
    """No shell: nothing in them means anything."""
    netcat(lab.server, "-l", "-v", "-e", "printf", 7000, "--", "%s|", "a b", "$HOME", "`id`", "-n").listening()
    assert read_to_end(lab.client.connect(lab.server.address, 7000)) == b"a b|$HOME|`id`|-n|"


def test_c_splits_words_without_a_shell(lab, netcat):
    netcat(lab.server, "-l", "-v", "-c", r"""printf %s| "a b" 'c"d' e\ f $HOME ;""", 7000).listening()
    assert read_to_end(lab.client.connect(lab.server.address, 7000)) == b'a b|c"d|e f|$HOME|;|'


def test_a_program_learns_who_came_and_what_was_dialled(lab, netcat):
    netcat(lab.server, "-l", "-v", "-c", "printenv LIMPID_CLIENT LIMPID_ORIGINAL_DESTINATION", 7000).listening()
    connection = lab.client.connect(lab.server.address, 7000)
    client, dialled = read_to_end(connection).decode().split()
    assert client.endswith(f":{connection.getsockname()[1]}") and lab.client.address in client
    assert dialled.endswith(":7000") and lab.server.address in dialled


def test_a_program_that_ends_tells_the_peer(lab, netcat):
    server = netcat(lab.server, "-l", "-v", "-e", "true", 7000).listening()
    connection = lab.client.connect(lab.server.address, 7000)
    assert read_to_end(connection) == b""
    connection.close()
    assert server.status() == 0


def test_a_programs_failure_is_told(lab, netcat):
    server = netcat(lab.server, "-l", "-v", "-e", "false", 7000).listening()
    lab.client.connect(lab.server.address, 7000).close()
    assert server.status() == FAILURE and "status 1" in server.messages


def test_a_callers_program(lab, netcat):
    listener = lab.server.listen(7000)
    client = netcat(lab.client, "-e", "cat", lab.server.address, 7000)
    connection, _ = listener.accept()
    connection.settimeout(SECONDS)
    connection.sendall(b"round and round")
    connection.shutdown(socket.SHUT_WR)
    assert read_to_end(connection) == b"round and round"
    connection.close()
    assert client.status() == 0


def test_a_program_that_does_not_exist(lab, netcat):
    server = netcat(lab.server, "-l", "-v", "-e", "no-such-program", 7000).listening()
    lab.client.connect(lab.server.address, 7000).close()
    assert server.status() == FAILURE and "no-such-program" in server.messages


# Time limits and scans


def test_w_limits_connecting(lab, netcat):
    lab.router.nft("table inet silent {\n chain f {\n type filter hook forward priority 0\n tcp dport 7000 drop\n }\n}\n")
    client = netcat(lab.client, "-w", "300ms", lab.server.address, 7000)
    assert client.status() == FAILURE
    assert "no answer" in client.messages and "300 ms" in client.messages


def test_w_ends_a_silent_conversation(lab, netcat):
    listener = lab.server.listen(7000)
    client = netcat(lab.client, "-w", "300ms", lab.server.address, 7000, stdin=subprocess.PIPE)
    connection, _ = listener.accept()
    connection.sendall(b"hello")
    assert client.output() == b"hello"
    assert read_to_end(connection) == b"", "an end, not a reset"


def test_refused(lab, netcat):
    client = netcat(lab.client, lab.server.address, 7000)
    assert client.status() == FAILURE
    assert "refused" in client.messages and len(client.messages.splitlines()) == 1


def test_a_scan_finds_what_is_open(lab, netcat):
    for port in (7001, 7003):
        lab.server.listen(port)
    client = netcat(lab.client, "-v", "-z", lab.server.address, "7000-7003,7100-7200")
    lines = client.output().decode().splitlines()
    assert [line.rpartition(":")[2] for line in lines] == ["7001 open", "7003 open"]
    assert "7000 closed: Connection refused" in client.messages


def test_a_scan_that_finds_nothing_fails(lab, netcat):
    client = netcat(lab.client, "-z", lab.server.address, "7000-7003")
    assert client.status() == FAILURE and "7000-7003" in client.messages


def test_a_udp_scan_believes_icmp(lab, netcat):
    peer = udp_socket(lab.server, lab, 7001)
    scanned = netcat(lab.client, "-u", "-v", "-z", "-w", "500ms", lab.server.address, "7001-7002")
    assert [line.rpartition(":")[2] for line in scanned.output().decode().splitlines()] == ["7001 open or filtered"]
    assert "7002 closed" in scanned.messages
    assert peer.recv(100) == b"", "asked with an empty datagram"


# UDP


def test_datagrams_keep_their_borders_and_size(lab, netcat):
    peer = udp_socket(lab.server, lab, 7000)
    client = netcat(lab.client, "-u", lab.server.address, 7000, stdin=subprocess.PIPE)
    for size in (1, 1472, 60_000):
        client.write(bytes_of(size, size))
        data, address = peer.recvfrom(65535)
        assert data == bytes_of(size, size)
        peer.sendto(data[::-1], address)
        assert client.read(size) == data[::-1]


def test_a_udp_listener_keeps_to_its_first_client(lab, netcat):
    server = netcat(lab.server, "-l", "-u", "-v", 7000, stdin=subprocess.PIPE).listening()
    first, second = udp_socket(lab.client, lab), udp_socket(lab.client, lab)
    first.sendto(b"first", (lab.server.address, 7000))
    assert server.read(5) == b"first"
    server.write(b"answer")
    data, address = first.recvfrom(100)
    assert data == b"answer" and address[:2] == (lab.server.address, 7000)
    second.sendto(b"second", (lab.server.address, 7000))
    first.sendto(b"again", (lab.server.address, 7000))
    assert server.read(5) == b"again"


def test_a_udp_listener_with_k_answers_whoever_sent_last(lab, netcat):
    server = netcat(lab.server, "-l", "-k", "-u", "-v", 7000, stdin=subprocess.PIPE).listening()
    clients = [udp_socket(lab.client, lab) for _ in range(2)]
    for number in (0, 1, 0):
        clients[number].sendto(b"from %d" % number, (lab.server.address, 7000))
        assert server.read(6) == b"from %d" % number
        server.write(b"to %d" % number)
        data, address = clients[number].recvfrom(100)
        assert data == b"to %d" % number and address[:2] == (lab.server.address, 7000)


def test_a_udp_program_for_each_client(lab, netcat):
    netcat(lab.server, "-l", "-k", "-u", "-v", "-w", 5, "-e", "cat", 7000).listening()
    clients = [udp_socket(lab.client, lab) for _ in range(3)]
    for turn in range(3):
        for number, client in enumerate(clients):
            client.sendto(b"%d %d" % (number, turn), (lab.server.address, 7000))
            assert client.recv(100) == b"%d %d" % (number, turn)


def test_an_unreachable_port_ends_a_udp_caller(lab, netcat):
    client = netcat(lab.client, "-u", lab.server.address, 7000, stdin=subprocess.PIPE)
    client.write(b"anybody?")
    assert client.status() == FAILURE and "refused" in client.messages


# Other people's netcats


@pytest.mark.parametrize("flag", [[], ["-u"]], ids=["tcp", "udp"])
def test_with_debians_netcat(lab, netcat, need, flag):
    need("nc.openbsd", "netcat-openbsd")
    theirs = lab.server.start(["nc.openbsd", "-l", *flag, option(lab), "7000"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_until(lambda: ":7000" in lab.server.run("ss", "-lntuH").stdout, "it listens")
    ours = netcat(lab.client, *flag, lab.server.address, 7000, stdin=subprocess.PIPE)
    ours.write(b"question")
    assert theirs.stdout.read(8) == b"question"
    theirs.stdin.write(b"answer")
    theirs.stdin.flush()
    assert ours.read(6) == b"answer"
    back = netcat(lab.server, "-l", "-v", *flag, 7001, stdin=subprocess.PIPE).listening()
    theirs = lab.client.start(["nc.openbsd", *flag, lab.server.address, "7001"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    theirs.stdin.write(b"question")
    theirs.stdin.flush()
    assert back.read(8) == b"question"
    back.write(b"answer")
    assert theirs.stdout.read(6) == b"answer"


def test_with_socat(lab, netcat, need):
    need("socat", "socat")
    data = bytes_of(4, 1 << 20)
    suffix = lab.family[-1]
    theirs = lab.server.start(["socat", "-t", "20", f"TCP{suffix}-LISTEN:7000,reuseaddr", "EXEC:cat"])
    wait_until(lambda: ":7000" in lab.server.run("ss", "-lntH").stdout, "it listens")
    assert netcat(lab.client, "-N", lab.server.address, 7000, stdin=data).output() == data
    theirs.wait(SECONDS)


# Bad input


WRONG_USE = [
    # arguments, what the line must name
    ([], "host"),
    (["198.51.100.2"], "port"),
    (["198.51.100.2", "0"], "0"),
    (["198.51.100.2", "65536"], "65536"),
    (["198.51.100.2", "http"], "http"),
    (["198.51.100.2", "80-90"], "-z"),
    (["198.51.100.2", "80", "81"], "81"),
    (["", "80"], "host"),
    (["-n", "localhost", "80"], "localhost"),
    (["-l"], "port"),
    (["-l", "x"], "x"),
    (["-l", "70000"], "70000"),
    (["-l", "80", "81"], "81"),
    (["-l", "-p", "80", "81"], "81"),
    (["-l", "-z", "80"], "-z"),
    (["-k", "198.51.100.2", "80"], "-k"),
    (["-4", "-6", "198.51.100.2", "80"], "-4"),
    (["-s", "nonsense", "198.51.100.2", "80"], "nonsense"),
    (["-s", "", "198.51.100.2", "80"], "-s"),
    (["-6", "-s", "192.0.2.9", "2001:db8:2::2", "80"], "192.0.2.9"),
    (["-p", "-1", "198.51.100.2", "80"], "-1"),
    (["-w", "0", "198.51.100.2", "80"], "-w"),
    (["-w", "soon", "198.51.100.2", "80"], "soon"),
    (["-q", "x", "198.51.100.2", "80"], "-q"),
    (["-e", "cat", "-c", "cat", "-l", "80"], "-c"),
    (["-e", "", "-l", "80"], "-e"),
    (["-c", "", "-l", "80"], "-c"),
    (["-c", "cat 'x", "-l", "80"], "quote"),
    (["-c", "cat \\", "-l", "80"], "backslash"),
    (["-c", "  ", "-l", "80"], "-c"),
    (["-z", "-e", "cat", "198.51.100.2", "80"], "-z"),
    (["--transparent", "198.51.100.2", "80"], "--transparent"),
    (["--tcp", "80", "-l", "80"], "--setup"),
    (["--setup", "-l", "80"], "--setup"),
    (["--setup", "198.51.100.2", "80"], "-s"),
    (["--setup", "-l", "--udp", "53"], "--udp"),
    (["--setup", "-l", "-u", "--tcp", "53"], "--tcp"),
    (["--setup", "-l", "--tcp", "99999"], "99999"),
    (["--setup", "-l", "--tcp", "80", "-s", "127.0.0.1"], "-s"),
    (["--setup", "--tcp", "80", "198.51.100.2", "80"], "--tcp"),
    (["--setup", "-l", "--tcp", "80", "--name", "A B"], "A B"),
    (["--name", "x", "198.51.100.2", "80"], "add --setup"),
    (["-4", "2001:db8:2::2", "80"], "-4: 2001:db8:2::2 is an IPv6 address"),
    (["-4", "[2001:db8:2::2]", "80"], "-4: 2001:db8:2::2 is an IPv6 address"),
    (["-6", "198.51.100.2", "80"], "-6: 198.51.100.2 is an IPv4 address"),
    (["-z", "-6", "198.51.100.2", "80"], "-6: 198.51.100.2 is an IPv4 address"),
    (["-s", "192.0.2.7", "2001:db8:2::2", "7000"], "-s 192.0.2.7: 2001:db8:2::2 is an IPv6 address"),
    (["-4", "-s", "192.0.2.7", "2001:db8:2::2", "7000"], "-4 -s 192.0.2.7: "),
    (["-s", "[192.0.2.7]", "198.51.100.2", "7000"], "-s [192.0.2.7]: not an address"),
    (["198.51.100.2:80", "80"], "limpid nc 198.51.100.2 80"),
    (["198.51.100.2", "80", "-s"], "limpid: -s: ADDRESS missing (see limpid nc --help)"),
    (["--no-such-flag", "198.51.100.2", "80"], "limpid: --no-such-flag: no such option (see limpid nc --help)"),
]


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("arguments, says", WRONG_USE, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_wrong_use(lab, netcat, arguments, says):
    wrong = netcat(lab.client, *arguments)
    assert (wrong.status(), len(wrong.messages.splitlines())) == (USAGE, 1), wrong.messages
    assert says in wrong.messages


def test_a_busy_port_names_who_holds_it(lab, netcat):
    lab.server.listen(7000)
    server = netcat(lab.server, "-l", option(lab), 7000)
    assert server.status() == FAILURE
    assert re.fullmatch(rf"limpid: listen on port 7000: it is in use by \S+ \(pid {os.getpid()}\) \(give another PORT\)\n",
                        server.messages), server.messages


def test_a_busy_udp_port_is_not_shared(lab, netcat):
    first = netcat(lab.server, "-l", "-u", "-v", 7000).listening()
    second = netcat(lab.server, "-l", "-u", "-v", 7000)
    assert second.status() == FAILURE
    assert f"listen on UDP port 7000: it is in use by limpid (pid {first.process.pid}) (give another PORT)" in second.messages


@pytest.mark.parametrize("family", ["ipv6"], indirect=True)
def test_ipv6_addresses_may_stand_in_brackets(lab, netcat):
    server = netcat(lab.server, "-l", "-v", "-s", f"[{lab.server.address}]", 7000).listening()
    client = netcat(lab.client, "-N", "-s", f"[{lab.client.address}]", f"[{lab.server.address}]", 7000, stdin=b"in brackets")
    assert client.status() == 0, client.messages
    assert server.output() == b"in brackets"
    assert f"connection from [{lab.client.address}]:" in server.messages


@pytest.mark.parametrize("arguments, says", [
    (["-l", "-s", "FOREIGN", "7000"], "an address that this host does not have needs CAP_NET_ADMIN"),
    (["-s", "FOREIGN", "SERVER", "7000"], "an address that this host does not have needs CAP_NET_ADMIN"),
    (["-l", "-u", "-s", "FOREIGN", "7000"], "an address that this host does not have needs CAP_NET_ADMIN"),
    (["-l", "--transparent", "7000"], "(--transparent needs CAP_NET_ADMIN"),
    (["-l", "--setup", "--tcp", "80"], "(--setup needs CAP_NET_ADMIN")],
                         ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_what_needs_privileges_says_so(lab, arguments, says):
    words = [{"FOREIGN": lab.nowhere, "SERVER": lab.server.address}.get(word, word) for word in arguments]
    done = lab.client.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", limpid_process.BINARY, "nc", *words,
                          check=False)
    assert done.returncode == UNSUPPORTED and says in done.stderr and len(done.stderr.splitlines()) == 1


def test_own_addresses_need_no_privileges(lab, netcat):
    server = netcat(lab.server, "-l", "-v", "-N", 7000).listening()
    done = lab.client.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", limpid_process.BINARY, "nc", "-N",
                          "-s", lab.client.address, lab.server.address, "7000", input="as nobody")
    assert done.returncode == 0
    assert server.output() == b"as nobody"


def test_a_signal_ends_it_as_it_ends_everything(lab, netcat):
    server = netcat(lab.server, "-l", "-v", 7000).listening()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(SECONDS) == -signal.SIGTERM
