"""`limpid rules watch`: the rules for a proxy of somebody else's, for as long as it runs. What it puts back stands in test_repair.py."""

import signal

import pytest

import kernel_state
import limpid_process
from another_proxy import TransparentProxy
from limpid_process import DONE, FAILURE, USAGE
from peers import exchange, wait_until

SCOPE = ["--tcp", "80", "--to-port", "3129"]


@pytest.fixture
def proxy(lab):
    with TransparentProxy(lab, 3129) as running:
        yield running


def rules(lab, verb, *arguments):
    return lab.router.run(limpid_process.BINARY, "rules", verb, *limpid_process.with_backend(f"rules {verb}", arguments), check=False)


def test_from_start_to_end(lab, watch, proxy):
    before = kernel_state.snapshot(lab.router)
    watching = watch(*SCOPE)
    assert rules(lab, "diff", *SCOPE).returncode == 0, "the same rules as those of apply"
    connection = lab.dial_relayed(lab.server.listen(80))
    exchange(connection.client, connection.server)
    assert watching.stop() == DONE
    assert kernel_state.difference(before, kernel_state.snapshot(lab.router)) == []
    assert "rules_changed=0 rules_repaired=0" in watching.messages


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_end_it_too(lab, watch, proxy, signal_number):
    assert watch(*SCOPE).stop(signal_number) == DONE
    assert kernel_state.installed(lab.router) == []


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_keep_leaves_them(lab, watch, proxy):
    watch(*SCOPE, "--keep").stop()
    assert rules(lab, "diff", *SCOPE).returncode == 0
    lab.dial_relayed(lab.server.listen(80))
    assert rules(lab, "remove").returncode == DONE


def test_it_takes_over_what_apply_has_installed_and_what_a_kill_has_left(lab, watch, proxy):
    listener = lab.server.listen(80)
    assert rules(lab, "apply", *SCOPE).returncode == DONE
    installed = kernel_state.installed(lab.router)
    first = watch(*SCOPE)
    assert kernel_state.installed(lab.router) == installed, "no duplicates"
    first.kill()
    lab.dial_relayed(listener)
    assert kernel_state.installed(lab.router) == installed, "interception outlives whoever watches it"
    second = watch(*SCOPE)
    assert kernel_state.installed(lab.router) == installed
    assert second.stop() == DONE
    assert kernel_state.installed(lab.router) == []


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("arguments", [["remove"], ["apply", *SCOPE], ["watch", *SCOPE]], ids=lambda a: a[0])
def test_nobody_else_changes_the_rules_meanwhile(lab, watch, proxy, arguments):
    watching = watch(*SCOPE)
    refused = rules(lab, *arguments)
    assert refused.returncode == FAILURE
    assert f"pid {watching.pid}" in refused.stderr or str(watching.pid) in refused.stderr
    lab.dial_relayed(lab.server.listen(80))


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_dry_run_changes_nothing(lab):
    shown = rules(lab, "watch", *SCOPE, "--dry-run")
    assert shown.returncode == DONE
    assert shown.stdout == rules(lab, "apply", *SCOPE, "--dry-run").stdout
    assert kernel_state.installed(lab.router) == []


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("arguments, named", [
    (["--repair", "perhaps"], "--repair perhaps"),
    (["--log-format", "xml"], "--log-format xml"),
    (["--quiet", "--verbose"], "--quiet"),
    (["--tcp", "http"], "--tcp http"),
])
def test_wrong_flags(lab, arguments, named):
    refused = rules(lab, "watch", *([] if "--tcp" in arguments else ["--tcp", "80"]), "--to-port", "3129", *arguments)
    assert refused.returncode == USAGE
    assert named in refused.stderr
    assert kernel_state.installed(lab.router) == []


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_json_messages_and_quiet(lab, watch, proxy):
    watching = watch(*SCOPE, "--log-format", "json")
    assert watching.counters() == {"rules_changed": 0, "rules_repaired": 0}
    watching.stop()
    assert all(line.startswith("{") for line in watching.messages.splitlines())


@pytest.mark.parametrize("fail, outcome", [("open", "forwarded as usual"), ("closed", "rejected")])
def test_it_says_when_the_proxy_goes_and_comes(lab, watch, fail, outcome):
    watching = watch(*SCOPE, "--fail", fail, {"ipv4": "--ipv4-only", "ipv6": "--ipv6-only"}[lab.family])
    missing = f"what is in scope is {outcome}"
    wait_until(lambda: missing in watching.messages, "nobody listens yet")
    with TransparentProxy(lab, 3129):
        wait_until(lambda: "the proxy listens" in watching.messages, "it has come")
        assert watching.messages.count(missing) == 1
    wait_until(lambda: watching.messages.count(missing) == 2, "it has gone")


@pytest.mark.not_ebpf("a program cannot tell whether a listener is transparent")
def test_a_listener_that_is_not_transparent_is_none(lab, watch):
    """The kernel hands it nothing; with one family only, because that is all that this proxy hears."""
    with TransparentProxy(lab, 3129, transparent=False):
        watching = watch(*SCOPE, {"ipv4": "--ipv4-only", "ipv6": "--ipv6-only"}[lab.family])
        wait_until(lambda: "no transparent listener" in watching.messages, "it says so")
        assert lab.dial(lab.server.listen(80)).was_forwarded
