"""What is special about the eBPF backend: tcx and clsact, interfaces that come and go, what others take away, pins, and where netfilter is of no help."""

import contextlib
import os
import shutil
import socket
import struct

import pytest

import ebpf_state
import explain_process
import kernel_state
import limpid_process
from another_proxy import TransparentProxy
from limpid_process import DONE, UNSUPPORTED
from local_programs import ALICE, BOB, Teller, was_relayed
from peers import exchange, wait_until

pytestmark = pytest.mark.skipif(limpid_process.BACKEND != "nftables", reason="names its backend itself; runs once")

# In a mount namespace: this host's is as it was.
WITH_BPF_FILE_SYSTEM = ["unshare", "--mount", "sh", "-c", 'mount -t bpf bpf /sys/fs/bpf; exec "$@"', "sh"]
WITHOUT_BPF_FILE_SYSTEM = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/fs/bpf; exec "$@"', "sh"]
CLSACT = {**os.environ, "LIMPID_EBPF_ATTACH": "clsact"}


def rules(lab, *arguments, **options):
    return lab.router.run(limpid_process.BINARY, "rules", *arguments, check=False, **options)


def total_retransmissions(connection):
    """tcpi_total_retrans of TCP_INFO."""
    return struct.unpack_from("I", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 100)[0]


def is_captured(lab, listener):
    return not lab.dial(listener, timeout=2).was_forwarded


@pytest.fixture(params=["tcx", "clsact"])
def attached_by(request):
    return {"env": CLSACT} if request.param == "clsact" else {}


@pytest.mark.parametrize("fail", ["open", "closed"])
def test_both_ways_to_attach(lab, start, attached_by, fail):
    before = kernel_state.snapshot(lab.router)
    listener = lab.server.listen(80)
    limpid = start("--tcp", "80", "--backend", "ebpf", "--fail", fail, **attached_by)
    there = ebpf_state.attached(lab.router)
    assert ("clsact lan" if attached_by else "tcx ingress lan") in there and ("tcx ingress lan" in there) != bool(attached_by)
    assert is_captured(lab, listener)
    limpid.kill()
    if fail == "open":
        assert lab.dial(listener).was_forwarded
    else:
        with pytest.raises(ConnectionRefusedError):
            lab.client.connect(lab.server.address, 80)
    assert rules(lab, "remove").returncode == DONE
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == []


def test_local_programs_by_both_ways_to_attach(lab, start, attached_by):
    before = kernel_state.snapshot(lab.router)
    Teller(lab)
    limpid = start("--tcp", "80", "--local", "--exclude-uid", str(BOB), "--backend", "ebpf", **attached_by)
    there = ebpf_state.attached(lab.router)
    assert ("filter egress wan" if attached_by else "tcx egress wan") in there
    assert was_relayed(lab, ALICE) and not was_relayed(lab, BOB)
    limpid.kill()
    assert not was_relayed(lab, ALICE), "fail-open"
    assert rules(lab, "remove").returncode == DONE
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == []


def test_explain_asks_the_programs(lab, start):
    """In the text too; test_explain.py runs over this backend as a whole."""
    start("--tcp", "80", "--exclude", lab.nowhere, "--backend", "ebpf")
    text = explain_process.run(lab, "tcp", lab.client.address, explain_process.endpoint(lab.server.address, 81)).stdout
    assert "tc ingress (lan)\n  eBPF programs of limpid: other port\n      the port is not in scope (TCP 80)\n" in text
    answer = explain_process.forwarded(lab, address=lab.nowhere)
    [asked] = answer["ebpf"]
    assert (asked["decision"], asked["interface"]) == ("excluded destination", "lan")
    assert asked["words"] == f"the destination is excluded (--exclude {lab.nowhere})"
    assert explain_process.forwarded(lab)["verdict"] == "intercepted"


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_others_filters_and_their_qdisc_stay(lab, start):
    lab.router.run("tc", "qdisc", "add", "dev", "lan", "clsact")
    lab.router.run("tc", "filter", "add", "dev", "lan", "ingress", "protocol", "ip", "prio", "7", "u32", "match", "u32", "0", "0",
                   "flowid", "1:1")
    before = lab.router.run("tc", "filter", "show", "dev", "lan", "ingress").stdout
    limpid = start("--tcp", "80", "--backend", "ebpf", env=CLSACT)
    assert "filter ingress lan" in ebpf_state.attached(lab.router) and "clsact wan" in ebpf_state.attached(lab.router)
    assert limpid.stop() == DONE
    assert lab.router.run("tc", "filter", "show", "dev", "lan", "ingress").stdout == before
    assert ebpf_state.attached(lab.router) == ["clsact lan"]
    lab.router.run("tc", "qdisc", "del", "dev", "lan", "clsact")


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_what_others_detach_is_put_back(lab, start):
    listener = lab.server.listen(80)
    limpid = start("--tcp", "80", "--backend", "ebpf")
    ebpf_state.detach(lab.router, "lan", "ingress")
    wait_until(lambda: limpid.counters()["rules_repaired"] == 1, "it is repaired", 5)
    assert is_captured(lab, listener)
    assert limpid.stop() == DONE


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_a_qdisc_that_others_delete_is_put_back(lab, start):
    listener = lab.server.listen(80)
    limpid = start("--tcp", "80", "--backend", "ebpf", env=CLSACT)
    lab.router.run("tc", "qdisc", "del", "dev", "lan", "clsact")
    wait_until(lambda: limpid.counters()["rules_repaired"] == 1, "it is repaired", 5)
    assert is_captured(lab, listener)
    assert limpid.stop() == DONE


def test_an_interface_that_is_made_again_is_followed(lab, start):
    """With the name that --from has, and another index."""
    limpid = start("--tcp", "80", "--from", "lan", "--backend", "ebpf")
    listener = lab.server.listen(80)
    assert is_captured(lab, listener)
    lab.router.run("ip", "link", "del", "lan")
    end = f"/proc/{os.getpid()}/fd/{lab.client.namespace}"
    lab.router.run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", end)
    lab.router.run("ip", "-batch", "-", input="link set lan up\naddr add 192.0.2.1/24 dev lan\naddr add 2001:db8:1::1/64 dev lan nodad")
    lab.client.run("ip", "-batch", "-", input="link set eth0 up\naddr add 192.0.2.2/24 dev eth0\naddr add 2001:db8:1::2/64 dev eth0 nodad\n"
                   "route add default via 192.0.2.1\nroute add default via 2001:db8:1::1")
    wait_until(lambda: "tcx ingress lan" in ebpf_state.attached(lab.router), "it is followed", 5)
    assert is_captured(lab, listener)
    assert limpid.counters()["rules_repaired"] == 0, "nobody has taken anything away"
    assert limpid.stop() == DONE


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("name", ["a.b@c", "-x", "$(id)", "limpid", "lan'\"", "ÿ"])
def test_hostile_interface_names(lab, start, name):
    lab.router.run("ip", "link", "add", "name", name, "type", "veth", "peer", "name", "other")
    limpid = start("--tcp", "80", "--backend", "ebpf")
    assert f"tcx ingress {name}" in ebpf_state.attached(lab.router)
    assert rules(lab, "diff", "--tcp", "80", "--backend", "ebpf").returncode == DONE
    assert limpid.stop() == DONE
    assert ebpf_state.attached(lab.router) == []


def test_a_bridge_with_br_netfilter(lab, start):
    """Where TPROXY fails: the client's port joins a bridge whose frames pass the IP chains first."""
    if not os.path.exists("/proc/sys/net/bridge"):
        pytest.skip("this kernel has no br_netfilter")
    lab.router.run("ip", "-batch", "-", input="link add br0 type bridge\naddr flush dev lan\nlink set lan master br0\nlink set br0 up\n"
                   "addr add 192.0.2.1/24 dev br0\naddr add 2001:db8:1::1/64 dev br0 nodad")
    for key in ("iptables", "ip6tables"):
        lab.router.sysctl(f"net/bridge/bridge-nf-call-{key}", 1)
    listener = lab.server.listen(80)
    limpid = start("--tcp", "80", "--backend", "ebpf")
    assert is_captured(lab, listener)
    assert "tcx ingress lan" not in ebpf_state.attached(lab.router), "a port's frames arrive at the bridge once more"
    assert limpid.stop() == DONE


def without(*programs):
    mounts = "".join(f"mount --bind /dev/null {os.path.realpath(shutil.which(program))}; " for program in programs if shutil.which(program))
    return ["unshare", "--mount", "sh", "-c", mounts + 'exec "$@"', "sh"]


def test_without_nft_and_iptables_auto_takes_it(lab, start):
    limpid = start("--tcp", "80", "--backend", "auto", wrapper=without("nft", "iptables-nft", "iptables-legacy"))
    assert "backend=ebpf" in limpid.messages and "refused=\"nftables" in limpid.messages
    assert is_captured(lab, lab.server.listen(80))
    assert limpid.stop() == DONE


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_pins_where_a_bpf_file_system_is_mounted(lab, start):
    limpid = start("--tcp", "80", "--backend", "ebpf", wrapper=WITH_BPF_FILE_SYSTEM)
    root = os.path.join(f"/proc/{limpid.pid}", "root", "sys/fs/bpf")
    (namespace,) = os.listdir(f"{root}/limpid")
    assert os.listdir(f"{root}/limpid/{namespace}") == ["limpid"]
    assert {"ingress", "owner", "policies", "counters"} <= set(os.listdir(f"{root}/limpid/{namespace}/limpid"))
    held = os.open(root, os.O_RDONLY)
    try:
        assert limpid.stop() == DONE
        assert "limpid" not in os.listdir(held)
    finally:
        os.close(held)


def test_a_new_policy_replaces_the_old_one_without_a_gap(lab):
    """`apply` again: the same programs, other maps; and what is not in scope any more is forwarded."""
    with TransparentProxy(lab, 3129):
        assert rules(lab, "apply", "--tcp", "80,81", "--to-port", "3129", "--backend", "ebpf").returncode == DONE
        before = ebpf_state.tcx(lab.router, "lan", "ingress")
        lab.dial_relayed(lab.server.listen(81))
        assert rules(lab, "apply", "--tcp", "80", "--to-port", "3129", "--backend", "ebpf").returncode == DONE
        assert ebpf_state.tcx(lab.router, "lan", "ingress") == before
        lab.dial_relayed(lab.server.listen(80))
        assert lab.dial(lab.server.listen(82)).was_forwarded
        compared = rules(lab, "diff", "--tcp", "80,443", "--to-port", "3129", "--backend", "ebpf")
        assert compared.returncode == 1 and "- tcp 80,443" in compared.stdout and "+ tcp 80" in compared.stdout
    assert rules(lab, "remove").returncode == DONE
    assert kernel_state.installed(lab.router) == []


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("flags", [("--source", "address+port"), ("--local", "--gid", "0")])
def test_what_it_cannot_do_is_refused(lab, flags):
    refused = rules(lab, "show", "--tcp", "80", "--to-port", "3129", "--backend", "ebpf", *flags)
    assert refused.returncode == UNSUPPORTED and "--backend ebpf" in refused.stderr


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_the_doctor_knows_it(lab, start):
    limpid = start("--tcp", "80", "--backend", "ebpf", "--repair", "off")
    said = lab.router.run(limpid_process.BINARY, "doctor", check=False, timeout=60).stdout
    assert "by ebpf" in said and "the program at" not in said and "not intercepted" not in said
    ebpf_state.detach(lab.router, "lan", "ingress")
    said = lab.router.run(limpid_process.BINARY, "doctor", check=False, timeout=60).stdout
    assert "the program at ingress of lan" in said
    assert limpid.stop() == DONE


@pytest.mark.parametrize("program", ["nft", "iptables-nft", "iptables-legacy"])
def test_source_translation_is_warned_of(lab, start, program):
    def warned(*arguments):
        name = "_".join(("w", *(word.strip("-") for word in arguments)))
        return [line for line in start("--tcp", "80", "--backend", "ebpf", "--name", name, *arguments).messages.splitlines()
                if "translates source addresses" in line]

    assert not warned()
    if program == "nft":
        lab.router.nft("table inet theirs { chain post { type nat hook postrouting priority srcnat; oifname wan masquerade; }; }")
    else:
        name = {"ipv4": "iptables", "ipv6": "ip6tables"}[lab.family] + program.removeprefix("iptables")
        lab.router.run(name, "-t", "nat", "-A", "POSTROUTING", "-o", "wan", "-j", "MASQUERADE")
    [warning] = warned("--source", "address")
    assert "--source none" in warning
    assert not warned("--source", "none")


def test_interfaces_to_come_are_warned_of(lab):
    def complaint(*arguments):
        done = rules(lab, *arguments, "--tcp", "80", "--listen-port", "3129", "--backend", "ebpf")
        assert done.returncode == DONE, done.stderr
        return "interfaces that appear later" in done.stderr

    assert complaint("apply", "--fail", "closed") and not complaint("apply", "--fail", "open")
    assert rules(lab, "remove").returncode == DONE


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("ends", [False, True], ids=["while it runs", "and after its end"])
def test_an_interface_that_becomes_a_containers(lab, start, ends):
    """As container engines do it: the pair is made here, where the programs are attached at once, then one end is moved. There, nobody listens."""
    limpid = start("--tcp", "80", "--backend", "ebpf", "--fail", "closed")
    container = lab.another_host("container")
    lab.router.run("ip", "link", "add", "outside", "type", "veth", "peer", "name", "inside")
    wait_until(lambda: ebpf_state.tcx(lab.router, "inside", "ingress"), "the program is attached")
    with container.inside():
        namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        lab.router.run("ip", "link", "set", "inside", "netns", f"/proc/{os.getpid()}/fd/{namespace}")
    finally:
        os.close(namespace)
    lab.router.run("ip", "address", "add", "10.9.0.1/24", "dev", "outside")
    lab.router.run("ip", "link", "set", "outside", "up")
    container.run("ip", "address", "add", "10.9.0.2/24", "dev", "inside")
    container.run("ip", "link", "set", "inside", "up")
    assert ebpf_state.tcx(container, "inside", "ingress"), "it came along"
    if ends:
        assert limpid.stop() == DONE
    listener = container.listen(80)

    def is_reached():
        with contextlib.suppress(ConnectionRefusedError), lab.router.connect("10.9.0.2", 80) as client:
            server, _ = listener.accept()
            exchange(client, server)
            return True

    wait_until(is_reached, "nobody refuses there what is in scope here")


@pytest.mark.parametrize("bpf_file_system", [True, False], ids=["at once", "at the second attempt"])
def test_a_port_that_comes_again(lab, start, bpf_file_system):
    """The server ends its connections first, so that those of the client are in TIME_WAIT here."""
    limpid = start("--tcp", "80", "--backend", "ebpf", wrapper=WITH_BPF_FILE_SYSTEM if bpf_file_system else WITHOUT_BPF_FILE_SYSTEM)
    assert ("mount -t bpf" in limpid.messages) != bpf_file_system
    listener = lab.server.listen(80)
    attempts = set()
    for _ in range(4):
        with lab.client.connect(lab.server.address, 80, source_port=5555) as client:
            accepted, _ = listener.accept()
            accepted.close()
            assert client.recv(1) == b""
            attempts.add(1 + total_retransmissions(client))
    assert attempts == ({1} if bpf_file_system else {1, 2})
