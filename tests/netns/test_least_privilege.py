"""Which process of `limpid run` holds what, that it is enough, and what happens when one of them dies. docs/privileges.md promises it."""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

import limpid_process
from kernel_state import difference, installed, snapshot
from peers import exchange, wait_until
from process_rights import BPF, DAC_READ_SEARCH, NET_ADMIN, NET_BIND_SERVICE, NET_RAW, PERFMON, SYS_ADMIN, SYS_PTRACE, capabilities, status_of
from supervisor import Supervisor
from traffic import ContinuousClient, failures

# Of `limpid run` with an iptables: nobody listens for the kernel once the heart has been still for so long (docs/backends.md).
ALL_BACKENDS_END_AT_ONCE = pytest.mark.nftables("with an iptables, the kernel notices later that nobody listens")


def service_user():
    try:
        return pwd.getpwnam("limpid").pw_uid
    except KeyError:
        return pwd.getpwnam("nobody").pw_uid


def keeper_of(limpid):
    return limpid.children()["limpid-rules"]


def threads_of(pid):
    return [int(thread) for thread in os.listdir(f"/proc/{pid}/task")]


def has_open(pid, path):
    links = [f"/proc/{pid}/fd/{number}" for number in os.listdir(f"/proc/{pid}/fd")]
    return any(os.path.lexists(link) and os.readlink(link) == str(path) for link in links)


def may_change_rules(lab, pid):
    """Whether a program with the user and capabilities of that process may: the program is nft, which says so itself."""
    status = status_of(pid)
    held = ",".join(f"+cap_{number}" for number in sorted(capabilities(pid)))
    keep = [f"--inh-caps=-all,{held}", f"--ambient-caps=-all,{held}", f"--bounding-set=-all,{held}"] if held else ["--inh-caps=-all", "--bounding-set=-all"]
    uid, gid = status["Uid"].split()[0], status["Gid"].split()[0]
    done = lab.router.run("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *keep, shutil.which("nft"), "add", "table", "inet", "taken_over", check=False)
    lab.router.run("nft", "delete", "table", "inet", "taken_over", check=False)
    return done.returncode == 0


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.nftables("an iptables is kept by the same process with the same rights")
def test_who_relays_may_not_change_the_rules(lab, start, need):
    need("setpriv", "util-linux")
    limpid = start("--tcp", "80")
    keeper = keeper_of(limpid)
    for thread in threads_of(limpid.pid):
        for kind in ("CapEff", "CapPrm"):
            assert capabilities(thread, kind) == {NET_RAW}, kind
        for kind in ("CapInh", "CapAmb", "CapBnd"):
            assert capabilities(thread, kind) == set(), kind
        status = status_of(thread)
        assert status["NoNewPrivs"] == "1"
        assert {int(uid) for uid in status["Uid"].split()} == {service_user()} and status["Groups"].split() == []
    assert status_of(keeper)["Uid"].split()[0] == "0" and NET_ADMIN in capabilities(keeper) and status_of(keeper)["NoNewPrivs"] == "1"
    assert len(threads_of(keeper)) == 1
    assert may_change_rules(lab, keeper) and not may_change_rules(lab, limpid.pid)
    lab.dial_relayed(lab.server.listen(80))


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.nftables("the others' rights are the keeper's")
@pytest.mark.parametrize("flags, more", [
    (["--source", "address+port"], {NET_BIND_SERVICE}),
    (["--udp", "7000"], {NET_BIND_SERVICE}),
    (["--udp", "7000", "--source", "address"], set()),
    (["--sandbox", "off"], None)])
def test_what_a_configuration_needs_is_kept_and_nothing_else(lab, start, flags, more):
    limpid = start("--tcp", "80", *flags)
    if more is None:
        assert status_of(limpid.pid)["Uid"].split()[0] == "0" and NET_ADMIN in capabilities(limpid.pid)
        assert "--sandbox off" in limpid.messages
    else:
        assert capabilities(limpid.pid) == {NET_RAW} | more


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.nftables("the others' rights are the keeper's")
def test_a_configuration_that_only_root_can_read_costs_a_capability(lab, start, configure, tmp_path):
    """And one that the service's user can read costs none: pytest's folders are for their owner alone."""
    path = configure(tcp=80)
    limpid = start("-c", path)
    assert capabilities(limpid.pid) == {NET_RAW, NET_BIND_SERVICE, DAC_READ_SEARCH}
    limpid.stop()
    folder = Path(f"/tmp/limpid-least-{os.getpid()}")
    shutil.copytree(path.parent, folder)
    try:
        folder.chmod(0o755)
        limpid = start("-c", folder / "limpid.toml")
        assert capabilities(limpid.pid) == {NET_RAW, NET_BIND_SERVICE}
        (folder / "limpid.toml").write_text('tcp = "80-81"\nrules = ["dport(81) -> reject"]\n')
        assert lab.router.run(limpid_process.BINARY, "reload").stdout == "reloaded: 1 rule\n"
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.nftables("the others' rights are the keeper's")
def test_rules_by_program_keep_what_they_need(lab, start, configure):
    limpid = start("-c", configure(tcp=80, local=True, rules=["process(nobody-has-it) -> reject"]))
    assert capabilities(limpid.pid) == {NET_RAW, NET_BIND_SERVICE, SYS_PTRACE, DAC_READ_SEARCH}


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.nftables("flows are cut through with each of them alike")
def test_cut_through_keeps_the_rights_to_its_programs(lab, start):
    if not limpid_process.has_ebpf():
        pytest.skip("made without clang, bpftool or libbpf")
    limpid = start("--tcp", "80", "--cut-through", "auto")
    if "no cut-through here" in limpid.messages:
        pytest.skip("this kernel cannot cut through")
    assert capabilities(limpid.pid) == {NET_RAW, NET_ADMIN, SYS_ADMIN, PERFMON, BPF}


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.nftables("started so, it has no right to use an iptables")
def test_started_without_root_by_ambient_capabilities(lab, start, need):
    need("setpriv", "util-linux")
    # The last one for /proc/net/ip_tables_names, which is there where an iptables-legacy is, and belongs to root.
    held = "+net_admin,+net_raw,+net_bind_service,+dac_read_search"
    before = snapshot(lab.router)
    limpid = start("--tcp", "80", "--control", "none", wrapper=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"--inh-caps=-all,{held}", f"--ambient-caps=-all,{held}"])
    keeper = keeper_of(limpid)
    assert capabilities(limpid.pid) == {NET_RAW} and capabilities(keeper) == {NET_ADMIN, NET_RAW, NET_BIND_SERVICE, DAC_READ_SEARCH}
    lab.dial_relayed(lab.server.listen(80))
    lab.router.nft("delete table inet limpid\n")
    wait_until(lambda: "table inet limpid" in "\n".join(installed(lab.router)), "put back by the keeper")
    assert limpid.stop() == 0
    assert difference(before, snapshot(lab.router)) == []


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_when_the_relay_dies_fail_open_leaves_nothing(lab, start, echo, death):
    server = echo(80)
    before = snapshot(lab.router)
    limpid = start("--tcp", "80", "--udp", "7000", "--fail", "open")
    keeper = keeper_of(limpid)
    client = ContinuousClient(lab, 80, range(1025, 10001))
    client.wait_for_more(20)
    os.kill(limpid.pid, death)
    limpid.process.wait()
    wait_until(lambda: not Path(f"/proc/{keeper}").exists(), "the keeper's end")
    client.wait_for_more(20)
    attempts = client.stop()
    assert failures(attempts[-15:]) == []
    assert {attempt.local for attempt in attempts[-15:]} <= set(server.peers), "forwarded, as without us"
    assert difference(before, snapshot(lab.router)) == []
    assert "the rules are gone, and traffic passes as without us" in limpid.messages
    assert os.listdir(os.environ["LIMPID_RUN_DIRECTORY"]) == []


@ALL_BACKENDS_END_AT_ONCE
@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_when_the_relay_dies_fail_closed_goes_on_refusing(lab, start, echo):
    server = echo(80)
    limpid = start("--tcp", "80", "--fail", "closed")
    keeper = keeper_of(limpid)
    os.kill(limpid.pid, signal.SIGKILL)
    limpid.process.wait()
    wait_until(lambda: not Path(f"/proc/{keeper}").exists(), "the keeper's end")
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            lab.client.connect(lab.server.address, 80, timeout=5)
    assert not server.peers
    assert "is refused now (--fail closed)" in limpid.messages
    again = start("--tcp", "80", "--fail", "closed")
    lab.client.connect(lab.server.address, 80, timeout=5).close()
    assert again.stop() == 0


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_a_restart_does_not_meet_the_end_of_the_last_one(lab, start, echo):
    """Started again at once, it waits until the rules of the dead one have been taken away, and then has its own."""
    echo(80)
    for _ in range(3):
        limpid = start("--tcp", "80", "--fail", "open")
        os.kill(limpid.pid, signal.SIGKILL)
        limpid.process.wait()
    limpid = start("--tcp", "80", "--fail", "open")
    assert installed(lab.router)
    lab.client.connect(lab.server.address, 80, timeout=5).close()
    assert limpid.flow()["end"] == "closed"


@ALL_BACKENDS_END_AT_ONCE
@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_when_the_keeper_dies_flows_go_on_and_everybody_is_told(lab, start, configure):
    limpid = start("-c", configure(tcp="80", rules=[]))
    connection = lab.dial_relayed(lab.server.listen(80))
    exchange(connection.client, connection.server)
    os.kill(keeper_of(limpid), signal.SIGKILL)
    wait_until(lambda: "the process that keeps the rules has ended" in limpid.messages, "it is said")
    exchange(connection.client, connection.server, seed=2)
    status = lab.router.run(limpid_process.BINARY, "status", check=False)
    assert "abandoned" in status.stdout, status.stdout
    # Rules for the relay alone can still be exchanged; what the kernel would have to be told, not.
    configure(tcp="80", rules=["dport(81) -> reject"])
    assert lab.router.run(limpid_process.BINARY, "reload").stdout == "reloaded: 1 rule\n"
    configure(tcp="80,81", rules=[])
    refused = lab.router.run(limpid_process.BINARY, "reload", check=False)
    assert refused.returncode == limpid_process.FAILURE and "the process that keeps the rules has ended" in refused.stderr
    connection.client.close()
    connection.server.close()
    assert limpid.stop() == limpid_process.FAILURE
    assert "rules stay in the kernel" in limpid.messages and "limpid rules remove" in limpid.messages
    assert installed(lab.router)
    lab.router.run(limpid_process.BINARY, "rules", "remove")
    assert installed(lab.router) == []


@ALL_BACKENDS_END_AT_ONCE
@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("waits", [(), ("--no-wait",)])
def test_a_drain_without_the_keeper_says_that_rules_stay(lab, start, echo, waits):
    echo(80)
    limpid = start("--tcp", "80", "--fail", "closed")
    os.kill(keeper_of(limpid), signal.SIGKILL)
    wait_until(lambda: "the process that keeps the rules has ended" in limpid.messages, "it is said")
    done = lab.router.run(limpid_process.BINARY, "drain", *waits, check=False)
    assert done.returncode == limpid_process.FAILURE
    assert "stay in the kernel, and with --fail closed refuse" in done.stderr and "limpid rules remove --name limpid" in done.stderr
    assert limpid.process.wait(10) == limpid_process.FAILURE
    if not waits:
        assert os.listdir(os.environ["LIMPID_RUN_DIRECTORY"]) == []
    with pytest.raises(ConnectionRefusedError):
        lab.client.connect(lab.server.address, 80, timeout=5)
    lab.router.run(limpid_process.BINARY, "rules", "remove", "--name", "limpid")
    lab.client.connect(lab.server.address, 80, timeout=5).close()
    assert os.listdir(os.environ["LIMPID_RUN_DIRECTORY"]) == []


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_a_reload_is_the_keepers_own_reading(lab, start, configure, echo):
    """Ports come and go by way of the keeper; a configuration that cannot be used changes nothing."""
    limpid = start("-c", configure(tcp="80", rules=[]))
    echo(81)
    configure(tcp="80,81", rules=[])
    assert lab.router.run(limpid_process.BINARY, "reload").stdout == "reloaded: 0 rules\n"
    lab.client.connect(lab.server.address, 81, timeout=5).close()
    assert re.search(r":81\b", limpid.flow()["orig_dst"])
    held = installed(lab.router)
    configure(tcp="80,81,none-such", rules=[])
    assert lab.router.run(limpid_process.BINARY, "reload", check=False).returncode == limpid_process.FAILURE
    assert installed(lab.router) == held


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.nftables("one is enough")
def test_a_configuration_that_changes_meanwhile_is_not_taken_over(lab, start, tmp_path):
    """It is read twice, by who relays and by who keeps the rules: a pipe gives the one and the other what it likes."""
    folder = tmp_path / "two"
    folder.mkdir()
    path = folder / "limpid.toml"
    path.write_text('tcp = "80"\n')
    limpid = start("-c", path)
    path.unlink()
    os.mkfifo(path)
    reload = lab.router.start([limpid_process.BINARY, "reload"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    path.write_text('tcp = "80,81"\n')
    wait_until(lambda: not has_open(limpid.pid, path), "the first reader is done")
    path.write_text('tcp = "80,82"\n')
    said = reload.communicate(timeout=20)
    assert reload.returncode == limpid_process.FAILURE and "changed while it was being read" in said[1], said
    assert "81" not in lab.router.run("nft", "list", "table", "inet", "limpid").stdout
    assert limpid.process.poll() is None


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.nftables("one is enough")
def test_signals_to_all_of_its_processes_end_it_in_order(lab, start, tmp_path):
    """As systemd stops a unit (KillMode=control-group), and as its watchdog ends one: every process is sent the signal."""
    before = snapshot(lab.router)
    supervisor = Supervisor(lab.router, tmp_path, abstract=False)
    limpid = start("--tcp", "80", env=supervisor.environment)
    supervisor.await_message("READY")
    for pid in limpid.children().values():
        os.kill(pid, signal.SIGTERM)
    assert limpid.stop() == 0
    supervisor.close()
    assert difference(before, snapshot(lab.router)) == []
    limpid = start("--tcp", "80", "--fail", "open")
    keeper = keeper_of(limpid)
    for pid in (keeper, limpid.pid):
        os.kill(pid, signal.SIGABRT)
    assert limpid.process.wait(10) == -signal.SIGABRT
    wait_until(lambda: not Path(f"/proc/{keeper}").exists(), "the keeper's end")
    assert difference(before, snapshot(lab.router)) == []


def ask_about_doctor(lab, method, target="/v1/doctor"):
    with lab.router.inside(), socket.socket(socket.AF_UNIX) as asker:
        asker.connect(str(Path(os.environ["LIMPID_RUN_DIRECTORY"]) / "ctl.sock"))
        asker.sendall(f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode())
        return b"".join(iter(lambda: asker.recv(65536), b"")).decode()


def test_the_doctor_may_still_be_asked(lab, start):
    """Its examination needs rights that who relays has not: the keeper runs it."""
    limpid = start("--tcp", "80")
    assert "202" in ask_about_doctor(lab, "POST").splitlines()[0]
    report = wait_until(lambda: (text := ask_about_doctor(lab, "GET")) and '"state":"done"' in text and text, "the report", 60)
    assert '"findings"' in report or '"checks"' in report or '"report"' in report
    assert limpid.process.poll() is None


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.nftables("one is enough")
def test_an_examination_that_dies_is_reported_and_another_may_follow(lab, start):
    limpid = start("--tcp", "80")
    children = Path(f"/proc/{keeper_of(limpid)}/task/{keeper_of(limpid)}/children")
    # As often as one likes; mere looks are not.
    probe = "/v1/doctor/probe"
    for _ in range(2):
        assert "202" in ask_about_doctor(lab, "POST", probe).splitlines()[0]
        examiner = wait_until(lambda: [int(pid) for pid in children.read_text().split()], "the examination's process")[0]
        os.kill(examiner, signal.SIGKILL)
        failed = wait_until(lambda: (text := ask_about_doctor(lab, "GET")) and '"state":"running"' not in text and text, "its end")
        assert '"state":"failed"' in failed and "has made no report" in failed
    assert "202" in ask_about_doctor(lab, "POST", probe).splitlines()[0]
    wait_until(lambda: '"state":"done"' in ask_about_doctor(lab, "GET"), "the report", 60)
