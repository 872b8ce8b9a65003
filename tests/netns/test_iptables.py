"""The iptables backends: what is special about them. What they have in common with nftables is shown by the rest of the suite, which runs
over each of them (LIMPID_TEST_BACKEND, `make test-backends`)."""

import os
import shutil
import threading
import time

import pytest

import kernel_state
import limpid_process
from another_proxy import TransparentProxy
from limpid_process import DONE, HEART_PATIENCE, UNSUPPORTED, USAGE
from peers import exchange, wait_until
from traffic import ContinuousClient, failures
from udp_exchange import ask

pytestmark = pytest.mark.skipif(limpid_process.BACKEND != "nftables", reason="names its backends itself; runs once")

VARIANTS = ["iptables-nft", "iptables-legacy"]
DOCKER_LIKE = """*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
COMMIT
*filter
:DOCKER-USER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-USER -j RETURN
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j RETURN
COMMIT
*mangle
:theirs - [0:0]
-A PREROUTING -i lan -j theirs
-A theirs -p tcp -m tcp --dport 4444 -j MARK --set-xmark 0x40/0x40
COMMIT
"""


@pytest.fixture(params=VARIANTS)
def variant(request, need):
    need(request.param, "iptables")
    return request.param


def iptables(lab, variant, *arguments, check=True):
    """The command of the variant for the family under test."""
    program = {"ipv4": "iptables", "ipv6": "ip6tables"}[lab.family] + variant.removeprefix("iptables")
    return lab.router.run(program, *arguments, check=check)


def rules(lab, *arguments, check=False):
    return lab.router.run(limpid_process.BINARY, "rules", *arguments, check=check)


def is_captured(lab, listener):
    connection = lab.dial(listener)
    exchange(connection.client, connection.server)
    connection.client.close()
    connection.server.close()
    return not connection.was_forwarded


@pytest.mark.parametrize("fail", ["open", "closed"])
def test_within_its_patience_the_kernel_notices_that_nobody_listens(lab, start, echo, variant, fail):
    """A connection that is opened while the heart is still thought to beat is decided by a retransmission of its first packet."""
    echo(80)
    limpid = start("--tcp", "80", "--fail", fail, "--backend", variant)
    limpid.process.kill()
    limpid.process.wait()
    killed = time.monotonic()
    if fail == "open":
        lab.client.connect(lab.server.address, 80, timeout=5).close()
    else:
        with pytest.raises(ConnectionRefusedError):
            lab.client.connect(lab.server.address, 80, timeout=8)
    # Retransmissions come after one second and after three.
    assert time.monotonic() - killed < {"open": 2.5, "closed": 4.5}[fail]
    wait_until(lambda: time.monotonic() > killed + HEART_PATIENCE[fail], "it is noticed")
    started = time.monotonic()
    if fail == "open":
        lab.client.connect(lab.server.address, 80).close()
    else:
        with pytest.raises(ConnectionRefusedError):
            lab.client.connect(lab.server.address, 80)
    assert time.monotonic() - started < 0.9, "without a retransmission"


def test_a_stopped_process_is_a_dead_one_and_may_wake_up(lab, start, variant):
    """SIGSTOP: the heart stops, traffic passes; SIGCONT: it is captured again."""
    listener = lab.server.listen(80)
    limpid = start("--tcp", "80", "--backend", variant)
    limpid.process.send_signal(19)
    stopped = time.monotonic()
    wait_until(lambda: time.monotonic() > stopped + HEART_PATIENCE["open"], "the heartbeat is too old")
    assert not is_captured(lab, listener)
    limpid.process.send_signal(18)
    wait_until(lambda: is_captured(lab, listener), "it is captured again")


def flush_mangle(lab, variant):
    iptables(lab, variant, "-t", "mangle", "-F")


def delete_the_jump(lab, variant):
    iptables(lab, variant, "-t", "mangle", "-D", "PREROUTING", "-j", "limpid-pre")


def delete_a_rule(lab, variant):
    iptables(lab, variant, "-t", "mangle", "-D", "limpid-tpx", "1")


def insert_a_rule(lab, variant):
    iptables(lab, variant, "-t", "mangle", "-I", "limpid-pre", "-j", "RETURN")


def flush_filter(lab, variant):
    iptables(lab, variant, "-F")


def double_the_jump(lab, variant):
    iptables(lab, variant, "-t", "mangle", "-A", "PREROUTING", "-j", "limpid-pre")


@pytest.mark.parametrize("family, tamper", [
    *(("ipv4", each) for each in (flush_mangle, delete_the_jump, delete_a_rule, insert_a_rule, flush_filter, double_the_jump)),
    ("ipv6", flush_mangle), ("ipv6", insert_a_rule)], indirect=["family"])
def test_what_others_take_away_is_put_back(lab, start, variant, tamper):
    listener = lab.server.listen(80)
    limpid = start("--tcp", "80", "--fail", "closed", "--backend", variant)
    before = kernel_state.iptables_rules(lab.router)
    started = time.monotonic()
    tamper(lab, variant)
    wait_until(lambda: limpid.counters()["rules_repaired"] == 1, "it is repaired", 5)
    assert time.monotonic() - started < 4, "within a second, and more for a busy machine"
    assert kernel_state.iptables_rules(lab.router) == before
    assert is_captured(lab, listener)
    assert limpid.stop() == DONE


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_counters_and_other_peoples_rules_are_no_change(lab, start, variant):
    listener = lab.server.listen(80)
    limpid = start("--tcp", "80", "--backend", variant)
    assert is_captured(lab, listener)
    iptables(lab, variant, "-t", "mangle", "-A", "PREROUTING", "-p", "tcp", "--dport", "4444", "-j", "ACCEPT")
    iptables(lab, variant, "-A", "FORWARD", "-j", "ACCEPT")
    iptables(lab, variant, "-t", "mangle", "-Z")
    time.sleep(1.2)  # twice as long as anything takes to be noticed
    counters = limpid.counters()
    assert (counters["rules_changed"], counters["rules_repaired"]) == (0, 0)
    assert is_captured(lab, listener)


@pytest.mark.parametrize("fail", ["open", "closed"])
def test_other_peoples_rules_are_untouched(lab, start, variant, fail):
    text = DOCKER_LIKE.replace("172.17.0.0/16", {"ipv4": "172.17.0.0/16", "ipv6": "fd00::/64"}[lab.family])
    program = {"ipv4": "iptables", "ipv6": "ip6tables"}[lab.family] + variant.removeprefix("iptables") + "-restore"
    lab.router.run(program, input=text)
    before = kernel_state.iptables_rules(lab.router)
    limpid = start("--tcp", "80", "--udp", "53", "--fail", fail, "--source", "address+port", "--backend", variant)
    running = kernel_state.iptables_rules(lab.router)
    theirs = {key: [line for line in value.splitlines() if "limpid" not in line and line[0] in ":-"]
              for key, value in running.items()}
    for key, value in before.items():
        assert [line for line in value.splitlines() if line[0] == "-"] == [line for line in theirs[key] if line[0] == "-"]
    connection = lab.dial(lab.server.listen(80))
    exchange(connection.client, connection.server)
    connection.client.close()
    connection.server.close()
    assert limpid.flow()["source"] == "address+port"
    assert limpid.stop() == DONE
    assert kernel_state.iptables_rules(lab.router) == before


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_chains_of_somebody_else_are_neither_replaced_nor_removed(lab, launch, variant):
    for arguments in (("-N", "limpid-pre"), ("-A", "limpid-pre", "-j", "ACCEPT")):
        iptables(lab, variant, "-t", "mangle", *arguments)
    before = kernel_state.iptables_rules(lab.router)
    limpid = launch("--tcp", "80", "--backend", variant)
    assert limpid.process.wait(10) != DONE
    assert "that Limpid did not make" in limpid.messages
    refused = rules(lab, "remove")
    assert refused.returncode == 1 and "somebody else made it" in refused.stderr
    assert kernel_state.iptables_rules(lab.router) == before
    iptables(lab, variant, "-t", "mangle", "-F", "limpid-pre")
    iptables(lab, variant, "-t", "mangle", "-X", "limpid-pre")


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("left_by", ["nftables", *VARIANTS])
@pytest.mark.parametrize("taken_by", ["nftables", *VARIANTS])
def test_what_a_kill_left_is_replaced_whichever_backend_left_it(lab, start, left_by, taken_by):
    first = start("--tcp", "80,81", "--fail", "closed", "--backend", left_by)
    first.kill()
    second = start("--tcp", "80", "--backend", taken_by)
    assert is_captured(lab, lab.server.listen(80))
    assert lab.dial(lab.server.listen(81)).was_forwarded
    assert second.stop() == DONE
    assert kernel_state.installed(lab.router) == []


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("flushed", [False, True])
def test_remove_finds_what_a_kill_left(lab, start, variant, flushed):
    before = kernel_state.snapshot(lab.router)
    limpid = start("--tcp", "80", "--fail", "closed", "--local", "--source", "none", "--enable-forwarding", "--backend", variant)
    limpid.kill()
    if flushed:  # the comments are gone, empty chains are left
        for table in ("mangle", "filter"):
            iptables(lab, variant, "-t", table, "-F")
    dry = rules(lab, "remove", "--dry-run")
    assert f"would remove {variant}, table mangle: chains limpid-*" in dry.stdout
    assert rules(lab, "remove").returncode == DONE
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == []
    assert "nothing of" in rules(lab, "remove").stdout


def test_both_variants_and_nftables_at_once(lab, start):
    """Three instances side by side, each with its own port."""
    running = {port: start("--tcp", port, "--name", name, "--backend", backend)
               for port, name, backend in ((81, "first", "iptables-nft"), (82, "second", "iptables-legacy"),
                                           (83, "third", "nftables"))}
    for port, limpid in running.items():
        assert is_captured(lab, lab.server.listen(port))
        assert int(limpid.flow()["orig_dst"].rpartition(":")[2]) == port
    for limpid in running.values():
        assert limpid.stop() == DONE
    assert kernel_state.installed(lab.router) == []


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_replacing_under_load_has_no_moment_without_rules(lab, start, echo, variant):
    """Fail-closed, so every connection is relayed or refused; forwarded ones would be a hole between two versions."""
    server = echo(80)
    limpid = start("--tcp", "80", "--fail", "closed", "--backend", variant)
    client = ContinuousClient(lab, 80, range(1025, 10001))
    client.wait_for_more(20)
    for _ in range(3):
        limpid.process.kill()
        limpid.process.wait()
        limpid = start("--tcp", "80", "--fail", "closed", "--backend", variant)
        client.wait_for_more(20)
    attempts = client.stop()
    assert not {attempt.local for attempt in attempts} & set(server.peers), "one went past"
    assert len([attempt for attempt in attempts if not attempt.error]) >= 60


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_repair_does_not_disturb_whoever_is_relayed(lab, start, echo, variant):
    """What changes nothing of ours goes on all the time: ten others' rules a second."""
    echo(80)
    limpid = start("--tcp", "80", "--fail", "closed", "--backend", variant)
    client = ContinuousClient(lab, 80, range(1025, 10001))
    ended = threading.Event()

    def disturb():
        while not ended.wait(0.1):
            iptables(lab, variant, "-w", "5", "-A", "FORWARD", "-s", "203.0.113.77", "-j", "DROP")

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    client.wait_for_more(200)
    ended.set()
    disturbing.join()
    assert failures(client.stop()) == []
    assert limpid.counters()["rules_repaired"] == 0


def test_show_prints_what_apply_does(lab, variant):
    """The commands of `show`, run by a shell, are no different from the plan; those that undo it leave nothing."""
    before = kernel_state.snapshot(lab.router)
    flags = ("--tcp", "80,443,8000-8100", "--udp", "53", "--fail", "closed", "--to-port", "3129", "--backend", variant)
    shown = rules(lab, "show", *flags).stdout
    install, _, undo = shown.partition("# To undo all of it:\n")
    lab.router.run("sh", "-e", "-c", install)
    compared = rules(lab, "diff", *flags)
    assert (compared.returncode, compared.stdout) == (0, "")
    iptables(lab, variant, "-t", "mangle", "-D", "limpid-tpx", "1")
    compared = rules(lab, "diff", *flags)
    assert compared.returncode == 1 and compared.stdout.startswith("- -A limpid-tpx -p tcp -j TPROXY")
    lab.router.run("sh", "-e", "-c", "\n".join(line.removeprefix("#   ") for line in undo.splitlines()))
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == []


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_apply_refuses_what_it_could_not_keep(lab, variant):
    """Fail-open needs somebody who says that the proxy listens."""
    refused = rules(lab, "apply", "--tcp", "80", "--to-port", "3129", "--backend", variant)
    assert refused.returncode == UNSUPPORTED
    assert "--fail closed" in refused.stderr and "limpid rules watch" in refused.stderr and "--backend nftables" in refused.stderr
    assert kernel_state.installed(lab.router) == []


def test_another_proxy_with_fail_closed(lab, variant):
    applied = rules(lab, "apply", "--tcp", "80", "--to-port", "3129", "--fail", "closed", "--backend", variant)
    assert applied.returncode == DONE and "connections are dropped" in applied.stderr, "not rejected: TPROXY drops, and nobody tells it"
    listener = lab.server.listen(80)
    with TransparentProxy(lab, 3129):
        lab.dial_relayed(listener)
    with pytest.raises(OSError):
        lab.client.connect(lab.server.address, 80, timeout=1)
    assert rules(lab, "remove").returncode == DONE
    assert kernel_state.installed(lab.router) == []


@pytest.mark.parametrize("fail", ["open", "closed"])
def test_watch_beats_for_a_proxy_that_is_there(lab, watch, variant, fail):
    watch("--tcp", "80", "--to-port", "3129", "--fail", fail, "--backend", variant)
    listener = lab.server.listen(80)
    with TransparentProxy(lab, 3129):
        wait_until(lambda: captured_or_refused(lab, listener) == "captured", "it is noticed", 10)
    expected = {"open": "forwarded", "closed": "refused"}[fail]
    wait_until(lambda: captured_or_refused(lab, listener) == expected, "it is noticed", 10)
    with TransparentProxy(lab, 3129):
        wait_until(lambda: captured_or_refused(lab, listener) == "captured", "it is noticed", 10)


def captured_or_refused(lab, listener):
    try:
        return "forwarded" if lab.dial(listener, timeout=2).was_forwarded else "captured"
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "dropped"


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_watch_cannot_keep(lab, launch, variant):
    watching = launch("--tcp", "80", "--to-port", "3129", "--keep", "--backend", variant, verb="rules watch")
    assert watching.process.wait(10) == USAGE
    assert "--keep" in watching.messages


def without(*programs):
    """A prefix that runs a program in a mount namespace where some programs are not installed."""
    mounts = "".join(f"mount --bind /dev/null {os.path.realpath(shutil.which(program))}; " for program in programs)
    return ["unshare", "--mount", "sh", "-c", mounts + 'exec "$@"', "sh"]


@pytest.mark.parametrize("missing, taken", [(["nft"], "iptables-nft"), (["nft", "iptables-nft"], "iptables-legacy")])
def test_auto_takes_the_first_that_works(lab, start, missing, taken):
    limpid = start("--tcp", "80", "--backend", "auto", wrapper=without(*missing))
    assert f"backend={taken}" in limpid.messages
    assert f"used={taken}" in limpid.messages and "nftables" in limpid.messages.split("refused=")[1]
    assert is_captured(lab, lab.server.listen(80))
    assert limpid.stop() == DONE


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_auto_names_everything_where_nothing_works(lab, launch):
    limpid = launch("--tcp", "80", "--backend", "auto", wrapper=[*without("nft", "iptables-nft", "iptables-legacy"), "setpriv", "--bounding-set=-bpf,-sys_admin,-net_admin", "--inh-caps=-all"])
    assert limpid.process.wait(10) == UNSUPPORTED
    assert "nft" in limpid.messages and "apt install" in limpid.messages


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_what_the_kernel_lacks_is_named(lab, tmp_path, launch, variant):
    """An iptables that refuses TPROXY as one does on a kernel without it."""
    real = os.path.realpath(shutil.which(variant))
    kept = tmp_path / os.path.basename(real)
    shutil.copy(real, kept)
    fake = tmp_path / "fake"
    fake.write_text(f"""#!/bin/bash
input=$(cat)
if [[ $input == *TPROXY* ]]; then echo "iptables-restore: line 7 failed" >&2; exit 1; fi
printf '%s\\n' "$input" | exec -a "${{0##*/}}" {kept} "$@"
""")
    fake.chmod(0o755)
    wrapper = ["unshare", "--mount", "sh", "-c", f'mount --bind {fake} {real}; exec "$@"', "sh"]
    limpid = launch("--tcp", "80", "--backend", variant, wrapper=wrapper)
    assert limpid.process.wait(20) == UNSUPPORTED, limpid.messages
    assert "CONFIG_NETFILTER_XT_TARGET_TPROXY" in limpid.messages
    assert kernel_state.installed(lab.router) == []


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_whoever_holds_the_lock_of_iptables_is_waited_for(launch, need):
    """In a /run of its own, because the lock is everybody's on this host."""
    need("iptables-legacy", "iptables")
    need("flock", "util-linux")
    wrapper = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run; flock /run/xtables.lock sleep 1 & exec "$@"', "sh"]
    launch("--tcp", "80", "--backend", "iptables-legacy", wrapper=wrapper).ready()


def test_datagrams_after_a_kill(lab, start, variant):
    server = lab.server.datagrams(7000)
    limpid = start("--udp", "7000", "--backend", variant)
    client = lab.client.datagrams()
    ask(client, server, lab)
    limpid.kill()
    assert ask(client, server, lab)[1] == client.getsockname()[1], "forwarded, from the client's own port"


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_an_unknown_backend(lab, launch):
    limpid = launch("--tcp", "80", "--backend", "ipchains")
    assert limpid.process.wait(10) == USAGE
    assert "--backend ipchains" in limpid.messages
