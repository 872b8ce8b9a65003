"""--local: what the router's own programs send. The server is elsewhere; the programs run on the router, as several users."""

import os
import socket
import subprocess
import sys
import threading

import pytest

import kernel_state
from lab import SECONDS
from limpid_process import BINARY
from local_programs import ALICE, BOB, PORT, Teller, as_user, talk, was_relayed
from peers import Pattern, exchange, read_to_end, receive_digest, wait_until


@pytest.fixture
def teller(lab):
    return Teller(lab)


def test_a_program_of_this_host_is_relayed_and_its_address_kept(lab, start, teller):
    limpid = start("--local", "--tcp", PORT)
    assert was_relayed(lab)
    flow = limpid.flow()
    assert flow["client"].startswith(("[" + lab.wan) if ":" in lab.wan else lab.wan)
    assert int(flow["bytes_up"]) == 5
    assert teller.received == [b"hello"]


def test_without_local_nothing_of_this_host_is_touched(lab, start, teller):
    start("--tcp", PORT)
    assert not was_relayed(lab)


def test_forwarded_traffic_beside_it_and_alone_and_not_at_all(lab, start):
    listener = lab.server.listen(PORT)
    both = start("--local", "--tcp", PORT)
    lab.dial_relayed(listener)
    both.stop()
    start("--local-only", "--tcp", PORT)
    assert lab.dial(listener).was_forwarded


def test_bytes_arrive_whole_in_both_directions(lab, start):
    start("--local", "--tcp", PORT)
    listener = lab.server.listen(PORT)
    client = lab.router.connect(lab.server.address, PORT)
    server, peer = listener.accept()
    server.settimeout(SECONDS)
    assert peer[1] != client.getsockname()[1]
    up, down = Pattern(1, 40_000_000), Pattern(2, 30_000_000)
    senders = [threading.Thread(target=up.send, args=(client,)), threading.Thread(target=down.send, args=(server,))]
    results = {}
    readers = [threading.Thread(target=lambda: results.update(up=receive_digest(server))),
               threading.Thread(target=lambda: results.update(down=receive_digest(client)))]
    for thread in senders + readers:
        thread.start()
    for thread in senders + readers:
        thread.join(SECONDS * 2)
    assert results == {"up": (up.digest(), up.length), "down": (down.digest(), down.length)}


@pytest.mark.parametrize("arguments, relayed", [
    (("--uid", ALICE), {ALICE}),
    (("--uid", f"{ALICE}-{BOB}"), {ALICE, BOB}),
    (("--uid", f"{ALICE},{BOB}"), {ALICE, BOB}),
    (("--uid", "root"), {0}),
    (("--gid", BOB), {BOB}),
    (("--exclude-uid", ALICE), {0, BOB}),
    (("--exclude-gid", f"{BOB}-{BOB + 5}"), {0, ALICE}),
    (("--uid", f"{ALICE}-{BOB}", "--exclude-uid", BOB), {ALICE}),
], ids=lambda value: " ".join(str(each) for each in value) if isinstance(value, tuple) else "")
def test_users_and_groups_choose(lab, start, teller, arguments, relayed):
    start("--local", "--tcp", PORT, *arguments)
    assert {user for user in (0, ALICE, BOB) if was_relayed(lab, user)} == relayed


def test_what_a_program_had_sent_before_it_closed_takes_the_same_way(lab, start):
    """Its socket has no owner any more then, so the user cannot be asked for: the flow must be known otherwise."""
    start("--local", "--tcp", PORT, "--uid", ALICE)
    for user in (ALICE, BOB):
        listener = lab.server.listen(PORT)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        script = ("import socket,sys\n"
                  "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
                  "s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)\n"
                  "s.setblocking(False)\n"
                  "sent = 0\n"
                  "try:\n"
                  "    while sent < 2_000_000: sent += s.send(bytes(50_000))\n"
                  "except BlockingIOError: pass\n"
                  "print(sent)\n"
                  "s.close()\n")
        with lab.router.inside():
            done = subprocess.run([sys.executable, "-c", script, lab.server.address, str(PORT)], capture_output=True, text=True,
                                  timeout=SECONDS, preexec_fn=as_user(user), check=True)
        server, _ = listener.accept()
        server.settimeout(SECONDS)
        assert len(read_to_end(server)) == int(done.stdout) > 100_000
        server.close()
        listener.close()


def cgroup_shell(command):
    """A shell that sees cgroup v2 on /sys/fs/cgroup, wherever this machine has mounted it, and runs `command` there."""
    return ["unshare", "--mount", "sh", "-c",
            'mounted=$(findmnt --noheadings --first-only --types cgroup2 --output TARGET); '
            '[ "$mounted" = /sys/fs/cgroup ] || mount --bind "$mounted" /sys/fs/cgroup; ' + command, "sh"]


@pytest.fixture
def cgroup(lab, need):
    """The path of a new cgroup, and a wrapper that runs a program in it."""
    need("findmnt", "util-linux")
    found = subprocess.run(["findmnt", "--noheadings", "--first-only", "--types", "cgroup2", "--output", "TARGET"],
                           capture_output=True, text=True, check=False).stdout.strip()
    if not found:
        pytest.skip("cgroup v2 is not mounted here")
    path = f"limpid_test_{os.getpid()}/inner"
    folder = os.path.join(found, path)
    os.makedirs(folder)
    yield path, ("sh", "-c", f'echo $$ > {folder}/cgroup.procs; exec "$@"', "sh")
    for each in (folder, os.path.dirname(folder)):
        wait_until(lambda each=each: remove_cgroup(each), "the cgroup is empty")


def remove_cgroup(folder):
    try:
        os.rmdir(folder)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("flag, inside, outside", [("--cgroup", True, False), ("--exclude-cgroup", False, True)])
def test_cgroups_choose(lab, launch, teller, cgroup, flag, inside, outside):
    path, wrapper = cgroup
    launch("--local", "--tcp", PORT, flag, "/" + path, wrapper=cgroup_shell('exec "$@"')).ready()
    assert was_relayed(lab, wrapper=wrapper) == inside
    assert was_relayed(lab) == outside


def test_a_cgroup_that_does_not_exist_is_named(lab, launch):
    limpid = launch("--local", "--tcp", PORT, "--cgroup", "nosuch.slice/limpid", wrapper=cgroup_shell('exec "$@"'))
    assert limpid.process.wait(SECONDS) == 1
    assert "nosuch.slice/limpid" in limpid.messages
    assert kernel_state.installed(lab.router) == []


# What goes out must belong to a connection that the firewall knows, or be new and to a port that it admits.
STATEFUL_EGRESS = """table inet stateful {
  chain output {
    type filter hook output priority 0; policy drop
    oif lo accept
    meta l4proto ipv6-icmp accept
    ct state established,related accept
    ct state new tcp dport 80 accept
  }
}
"""


@pytest.mark.parametrize("stateful", [False, True], ids=["", "stateful"])
@pytest.mark.parametrize("mode", ["open", "closed"])
def test_connections_that_are_older_live_on(lab, start, mode, stateful):
    if stateful:
        lab.router.nft(STATEFUL_EGRESS)
    listener = lab.server.listen(PORT)
    outgoing = lab.router.connect(lab.server.address, PORT)
    far, _ = listener.accept()
    far.settimeout(SECONDS)
    # Somebody's session on this host: its answers go to a port that --tcp all names.
    service = lab.router.listen(2222)
    session = lab.server.connect(lab.wan, 2222)
    near, _ = service.accept()
    near.settimeout(SECONDS)
    exchange(outgoing, far)
    limpid = start("--local", "--tcp", "all", "--fail", mode)
    exchange(outgoing, far, count=100_000)
    exchange(session, near, count=100_000)
    limpid.stop()
    exchange(outgoing, far)
    exchange(session, near)


def test_new_sessions_on_this_host_are_not_captured(lab, start):
    lab.router.nft(STATEFUL_EGRESS)
    limpid = start("--local", "--tcp", "all", "--fail", "closed")
    service = lab.router.listen(2222)
    session = lab.client.connect(lab.router.address, 2222)
    near, _ = service.accept()
    near.settimeout(SECONDS)
    exchange(session, near, count=100_000)
    assert limpid.counters()["flows_total"] == 0


def test_dead_and_open_it_goes_its_way(lab, start, teller):
    limpid = start("--local", "--tcp", PORT, "--fail", "open")
    assert was_relayed(lab)
    limpid.kill()
    assert not was_relayed(lab)
    start("--local", "--tcp", PORT)
    assert was_relayed(lab)


def test_dead_and_closed_it_is_refused(lab, start, teller):
    limpid = start("--local", "--tcp", PORT, "--fail", "closed", "--uid", ALICE)
    assert was_relayed(lab, ALICE)
    limpid.kill()
    assert "ConnectionRefusedError" in talk(lab, ALICE, check=False).stderr
    assert not was_relayed(lab, BOB)
    start("--local", "--tcp", PORT).stop()
    assert not was_relayed(lab, ALICE)


def test_dead_and_closed_nothing_of_an_open_connection_gets_out(lab, start):
    listener = lab.server.listen(PORT)
    limpid = start("--local", "--tcp", PORT, "--fail", "closed")
    client = lab.router.connect(lab.server.address, PORT)
    server, _ = listener.accept()
    exchange(client, server)
    lab.server.nft("""table inet watch { chain pre { type filter hook prerouting priority 0; tcp dport 80 tcp flags & (syn | fin | rst) == 0 counter; }; }""")
    # The end of Limpid's leg must not be what ends the program's connection.
    lab.router.nft("table inet cut { chain in { type filter hook input priority 0; iif lo tcp sport 80 tcp flags & (fin | rst) != 0 drop; }; }")
    limpid.kill()
    lab.router.run("nft", "delete", "table", "inet", "cut")
    client.sendall(b"secret")
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    watched = lab.server.run("nft", "list", "table", "inet", "watch").stdout
    assert "packets 0 bytes 0" in watched, watched


def test_a_port_that_another_program_had_before(lab, start):
    """What is remembered of the first one's connection must not meet the second one's."""
    listener = lab.server.listen(PORT)
    start("--local", "--tcp", PORT, "--uid", ALICE)
    script = ("import socket,sys\n"
              "s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)\n"
              "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
              "s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\\1\\0\\0\\0\\0\\0\\0\\0')\n"
              "s.bind(('', 7777)); s.connect((sys.argv[1], 80)); s.sendall(b'x'); assert s.recv(1) == b'y'\n")
    for user in (ALICE, BOB, ALICE):
        with lab.router.inside():
            process = subprocess.Popen([sys.executable, "-c", script, lab.server.address], preexec_fn=as_user(user))
        server, peer = listener.accept()
        server.settimeout(SECONDS)
        assert server.recv(1) == b"x"
        server.sendall(b"y")
        assert process.wait(SECONDS) == 0
        assert (peer[1] == 7777) == (user == BOB)
        server.close()


def test_what_others_have_marked_is_theirs(lab, start):
    listener = lab.server.listen(PORT)
    limpid = start("--local", "--tcp", PORT, "--fail", "closed")
    client = lab.router.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x51)
    client.connect((lab.server.address, PORT))
    server, peer = listener.accept()
    server.settimeout(SECONDS)
    assert peer[1] == client.getsockname()[1]
    exchange(client, server)
    assert limpid.counters()["flows_total"] == 0


@pytest.mark.parametrize("mode", ["open", "closed"])
def test_a_socket_that_is_bound_to_an_interface(lab, start, mode):
    """Its packets cannot be routed through lo."""
    listener = lab.server.listen(PORT)
    start("--local", "--tcp", PORT, "--fail", mode)
    client = lab.router.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"wan")
    if mode == "open":
        client.connect((lab.server.address, PORT))
        assert listener.accept()[1][1] == client.getsockname()[1]
    else:
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.connect((lab.server.address, PORT))


def test_excluded_destinations_and_this_host_itself(lab, start, teller):
    limpid = start("--local", "--tcp", "all", "--exclude", lab.server.address)
    assert not was_relayed(lab)
    own = lab.router.listen(8080)
    for address in (lab.wan, {"ipv4": "127.0.0.1", "ipv6": "::1"}[lab.family]):
        client = lab.router.connect(address, 8080)
        served, peer = own.accept()
        served.settimeout(SECONDS)
        assert peer[:2] == client.getsockname()[:2]
        exchange(client, served)
    assert limpid.counters()["flows_total"] == 0


def test_a_destination_that_is_named_is_all_that_is_taken(lab, start, teller):
    start("--local", "--tcp", PORT, "--to-net", lab.nowhere)
    assert not was_relayed(lab)


def test_two_instances_do_not_take_each_others_connections(lab, start, launch, teller):
    start("--local", "--tcp", PORT)
    second = launch("--local", "--tcp", PORT, "--name", "second")
    assert second.process.wait(SECONDS) == 1
    assert "the instance limpid intercepts this host's own traffic already" in second.messages
    assert was_relayed(lab)


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("arguments, said", [
    (("--uid", "1"), "--local"),
    (("--local", "--uid", "no-such-user"), "--uid no-such-user"),
    (("--local", "--uid", "7-3"), "--uid"),
    (("--local", "--uid", "4294967295"), "--uid 4294967295"),
    (("--local", "--gid", "x y"), "--gid"),
    (("--local", "--cgroup", "../etc"), "--cgroup ../etc"),
    (("--local", "--cgroup", 'a"; flush ruleset; "'), "--cgroup"),
    (("--local", "--exclude-cgroup", "/"), "--exclude-cgroup"),
    (("--local", "--source", "prefer-port"), "--source prefer-port"),
    (("--local-only", "--from", "lan"), "--from lan"),
])
def test_bad_input(lab, launch, arguments, said):
    before = kernel_state.snapshot(lab.router)
    limpid = launch("--tcp", PORT, *arguments)
    assert limpid.process.wait(SECONDS) == 2
    assert said in limpid.messages and len(limpid.messages.splitlines()) == 1
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == []


def test_connections_outlive_a_reload_that_changes_the_rules_of_the_kernel(lab, start, configure):
    """What the table remembers of them goes over into the one that replaces it."""
    limpid = start("-c", configure(tcp=[PORT], local=True))
    listener = lab.server.listen(PORT)
    client = lab.router.connect(lab.server.address, PORT)
    server, _ = listener.accept()
    server.settimeout(SECONDS)
    exchange(client, server)
    configure(tcp=[PORT, 8080], local=True)
    assert "rules" in lab.router.run(BINARY, "reload").stdout
    wait_until(lambda: "kernel_rules=changed" in limpid.messages, "the table is another one")
    exchange(client, server)
