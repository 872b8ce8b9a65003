"""How UDP sessions that were forwarded past the proxy end, and which ones stay with it."""

import json
import time

import pytest

import ebpf_state
import kernel_state
import limpid_process
from control_client import verb
from cut_sessions import ENOUGH, SOURCES, hand_over, name_of
from limpid_process import DONE, UNSUPPORTED
from peers import wait_until
from udp_exchange import PORT, ask


@pytest.mark.parametrize("source", SOURCES[:2], ids=name_of)
def test_traffic_keeps_a_session_alive_and_silence_ends_it(lab, cut_udp, server, source):
    limpid = cut_udp("--udp-timeout", "2s", *source)
    client = lab.client.datagrams()
    _, _, seen = hand_over(lab, limpid, client, server)
    silent = lab.client.datagrams()
    hand_over(lab, limpid, silent, server)

    def other_has_ended():
        assert ask(client, server, lab) == seen
        return len(limpid.log) == 1

    wait_until(other_has_ended, "the silent one ends")
    assert limpid.flow()["client"].endswith(f":{silent.getsockname()[1]}")
    wait_until(lambda: len(limpid.log) == 2, "silence ends the other one too")
    counters = limpid.counters_with(udp_sessions_ended=2, udp_cut_through_open=0)
    assert counters["udp_sessions_total"] == 2
    # It begins anew.
    hand_over(lab, limpid, client, server)


@pytest.mark.parametrize("source", SOURCES[:2], ids=name_of)
def test_killed_and_adopted(lab, cut_udp, server, source):
    limpid = cut_udp("--udp-timeout", "6s", *source)
    client = lab.client.datagrams()
    up, down, seen = hand_over(lab, limpid, client, server)
    limpid.kill()
    for _ in range(20):
        assert ask(client, server, lab, b"without") == seen
        up, down = up + 7, down + 10
    other = cut_udp("--udp-timeout", "6s", *source)
    assert "flows that were cut through by an earlier process go on" in other.messages
    assert other.counters()["udp_cut_through_open"] == 1
    for _ in range(20):
        assert ask(client, server, lab, b"with") == seen
        up, down = up + 4, down + 7
    flows = json.loads(verb(lab, "status", "--json").stdout)["flows"]
    assert (flows["udp"], flows["udp_cut_through"], flows["udp_adopted"], flows["adopted"]) == (1, 1, 1, 0)
    assert other.counters()["udp_datagrams_up"] == 0
    flow = other.flow()
    # What came by the socket of a session that is kept died with the process.
    assert (flow["cut_through"], flow["end"], flow["proto"]) == ("yes", "closed", "udp")
    lost = (0, 0) if not source and limpid_process.BACKEND != "ebpf" else (4, 16)
    assert (int(flow["bytes_up"]), int(flow["bytes_down"])) == (up - lost[0], down - lost[1])
    assert other.stop() == DONE


@pytest.mark.parametrize("source", SOURCES[:2], ids=name_of)
def test_a_stop_waits_for_no_session_and_logs_all(lab, cut_udp, server, source):
    before = kernel_state.snapshot(lab.router)
    limpid = cut_udp("--drain-timeout", "60s", *source)
    client = lab.client.datagrams()
    up, down, _ = hand_over(lab, limpid, client, server)
    for _ in range(10):
        ask(client, server, lab, b"more")
    assert limpid.stop(seconds=10) == DONE
    flow = limpid.flow()
    assert (flow["end"], flow["cut_through"], int(flow["bytes_up"]), int(flow["bytes_down"])) == ("stopped", "yes", up + 40, down + 70)
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == []
    assert ebpf_state.attached(lab.router) == []


def test_what_a_killed_one_left_is_removed(lab, cut_udp, server):
    before = kernel_state.snapshot(lab.router)
    limpid = cut_udp()
    hand_over(lab, limpid, lab.client.datagrams(), server)
    limpid.kill()
    assert lab.router.run(limpid_process.BINARY, "rules", "remove", check=False).returncode == DONE
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == []
    assert ebpf_state.attached(lab.router) == []


@pytest.mark.parametrize("source", SOURCES[:2], ids=name_of)
def test_a_busy_session_is_not_taken_for_the_least_used(lab, cut_udp, server, source):
    """At the limit, the one whose traffic passes its socket by is spared."""
    limpid = cut_udp("--max-udp-sessions", "8", "--workers", "1", "--udp-timeout", "300s", *source)
    client = lab.client.datagrams()
    _, _, seen = hand_over(lab, limpid, client, server)
    for _ in range(30):
        assert ask(client, server, lab) == seen
        ask(lab.client.datagrams(), server, lab)
        time.sleep(0.002)  # of two in the same millisecond none is the older one
    assert ask(client, server, lab) == seen
    assert all(not flow.endswith(f":{client.getsockname()[1]}") for flow in (line.split()[0] for line in limpid.log))


def stays(lab, limpid, client, server, reason, **options):
    for _ in range(2 * ENOUGH):
        ask(client, server, lab, **options)
    assert limpid.counters_with(udp_cut_through=0, **{reason: 1})["udp_datagrams_up"] == 2 * ENOUGH


@pytest.mark.not_ebpf("datagrams of its own are not masqueraded beside those of others")
def test_translated_by_others_stays(lab, cut_udp, server):
    lab.router.nft("table inet theirs { chain post { type nat hook postrouting priority srcnat; oifname wan masquerade; }; }")
    limpid = cut_udp()
    stays(lab, limpid, lab.client.datagrams(), server, "stayed_translated")


def test_without_a_way_through_it_stays(lab, cut_udp, server):
    lab.router.sysctl(f"net/{lab.family}/conf/all/forwarding", 0)
    limpid = cut_udp("--source", "none")
    stays(lab, limpid, lab.client.datagrams(), server, "stayed_no_way")


def test_a_program_of_this_host_stays(lab, cut_udp, server):
    limpid = cut_udp("--local")
    stays(lab, limpid, lab.router.datagrams(), server, "stayed_local_end")


@pytest.mark.not_ebpf("it needs that help itself")
def test_without_the_kernels_help(lab, launch, start, server):
    """Nobody may load programs: `auto` says so and relays, `always` is an error."""
    wrapper = ["setpriv", "--bounding-set", "-bpf,-perfmon,-sys_admin", "--inh-caps", "-bpf,-perfmon,-sys_admin"]
    refused = launch("--udp", PORT, "--cut-through", "always", wrapper=wrapper)
    assert refused.process.wait(10) == UNSUPPORTED and "--cut-through always" in refused.messages
    limpid = start("--udp", PORT, "--cut-through", "auto", wrapper=wrapper)
    assert limpid.messages.count("no cut-through here") == 1
    client = lab.client.datagrams()
    for _ in range(2 * ENOUGH):
        ask(client, server, lab)
    assert limpid.counters_with(udp_datagrams_down=2 * ENOUGH)["udp_cut_through"] == 0
