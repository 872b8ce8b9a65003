"""Beside the programs that manage firewalls and networks: what they take away is put back, and what is theirs stays."""

import os
import threading

import pytest

import kernel_state
import limpid_process
from peers import wait_until
from third_parties import Docker, Firewalld, Networkd

ROUNDS = int(os.environ.get("LIMPID_REPAIR_ROUNDS", "3"))
LAN = ["192.0.2.1/24", "2001:db8:1::1/64"]  # as in the lab


class Caller:
    """Calls the server's echo service again and again, through the router."""

    def __init__(self, lab):
        self._lab = lab
        self.calls = 0
        self.failures = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._call)

    def __enter__(self):
        self._thread.start()
        wait_until(lambda: self.calls > 0, "the first call is through")
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _call(self):
        while not self._ended.is_set():
            try:
                client = self._lab.client.connect(self._lab.server.address, 80, timeout=3)
                client.sendall(b"x")
                assert client.recv(1) == b"x"
                client.close()
                self.calls += 1
            except (OSError, AssertionError) as error:
                self.failures.append(error)


def test_networkd_deletes_foreign_policy_rules(lab, start, echo):
    """It does so whenever it configures an interface, so at each of its starts."""
    echo(80)
    limpid = start("--tcp", "80")
    before = kernel_state.installed(lab.router)
    with Caller(lab):
        for _ in range(ROUNDS):
            repairs = limpid.counters()["rules_repaired"]
            with Networkd(lab.router, "lan", LAN):
                wait_until(lambda: limpid.counters()["rules_repaired"] > repairs, "the rules are put back")
    wait_until(lambda: kernel_state.installed(lab.router) == before, "no more and no less than before")
    assert "missing: ip -4 rule" in limpid.messages


def test_networkd_can_be_told_to_leave_foreign_rules_alone(lab, start):
    limpid = start("--tcp", "80")
    with Networkd(lab.router, "lan", [*LAN, "192.0.2.77/24"], settings="[Network]\nManageForeignRoutingPolicyRules=no\n"):
        wait_until(lambda: "192.0.2.77" in lab.router.run("ip", "addr", "show", "lan").stdout, "it has configured the interface")
    assert limpid.counters()["rules_repaired"] == 0


def assert_left_alone(limpid):
    """firewalld flushes all tables of what `iptables` names (here the nft variant), for its direct rules; that is repaired."""
    if limpid_process.BACKEND != "iptables-nft":
        assert limpid.counters()["rules_repaired"] == 0


@pytest.mark.parametrize("disturb", [["--reload"], ["--complete-reload"]], ids=["reload", "complete-reload"])
def test_firewalld_reloads(lab, start, echo, disturb):
    """It replaces its own table only; and ours is none of its business."""
    echo(80)
    with Firewalld(lab.router) as firewalld:
        for interface in ("lan", "wan"):
            firewalld.command("--zone=trusted", f"--add-interface={interface}")
            firewalld.command("--permanent", "--zone=trusted", f"--add-interface={interface}")
        limpid = start("--tcp", "80")
        before = kernel_state.installed(lab.router)
        with Caller(lab) as caller:
            for _ in range(ROUNDS):
                calls = caller.calls
                firewalld.command(*disturb)
                wait_until(lambda: caller.calls > calls + 2, "calls go on")
        wait_until(lambda: kernel_state.installed(lab.router) == before, "no more and no less than before")
        assert "firewalld" in lab.router.run("nft", "list", "tables").stdout
        assert_left_alone(limpid)
        assert limpid.counters()["flows_total"] >= caller.calls


def test_firewalld_starts_and_ends_beside_it(lab, start, echo):
    echo(80)
    limpid = start("--tcp", "80")
    before = kernel_state.installed(lab.router)
    with Firewalld(lab.router):
        wait_until(lambda: kernel_state.installed(lab.router) == before, "no more and no less than before")
    lab.router.run("nft", "delete", "table", "inet", "firewalld", check=False)  # killed, it leaves it there
    with Caller(lab):
        pass
    assert_left_alone(limpid)


def test_docker_comes_and_makes_networks(lab, start, echo):
    """It lets nothing be forwarded that is not its own (policy drop), and that is all the same to connections which are relayed."""
    echo(80)
    limpid = start("--tcp", "80")
    before = kernel_state.installed(lab.router)
    lab.router.run("sysctl", "-qw", "net.ipv4.ip_forward=0")  # whoever switches it on answers for what is forwarded
    with Docker(lab.router) as docker:
        with Caller(lab) as caller:
            for number in range(ROUNDS):
                calls = caller.calls
                docker.command("network", "create", f"net{number}")
                wait_until(lambda: caller.calls > calls + 2, "calls go on")
            docker.command("network", "prune", "--force")
        assert caller.failures == []
        assert "-P FORWARD DROP" in lab.router.run("iptables", "-S", "FORWARD").stdout
        chains = lab.router.run("iptables-save").stdout
    # eBPF follows the interfaces of Docker: programs come, and nothing of before is gone.
    assert [line for line in kernel_state.installed(lab.router) if not line.startswith("tcx") or line in before] == before
    assert limpid.counters()["rules_repaired"] == 0
    assert limpid.stop() == 0
    assert without_counters(lab.router.run("iptables-save").stdout) == without_counters(chains), "and what is Docker's stays"


def without_counters(saved):
    return [line for line in saved.splitlines() if not line.startswith(("#", ":"))]
