"""What the tests of `limpid doctor` begin with: a proxy that listens as it should, rules for it, and a doctor who is content with both."""

import pytest

import limpid_process
from doctor_report import Doctor, Proxy
from lab import SECONDS

PORT = 3129


@pytest.fixture
def doctor(lab):
    return Doctor(lab.router)


@pytest.fixture
def rules(lab):
    # Always by nftables: with eBPF, the probe's interface would have no program (docs/ebpf.md), and test_ebpf.py has what the doctor says of that.
    def run(*arguments):
        return lab.router.run(limpid_process.BINARY, "rules", *arguments)
    return run


@pytest.fixture
def judged_proxy(lab):
    """judged_proxy(…) makes the proxy, in the place of an earlier one."""
    made = []

    def make(**how):
        for earlier in made:
            earlier.close()
        made.append(Proxy(lab.router, PORT, **how))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def applied(rules, judged_proxy, doctor):
    """What the problems happen to."""
    judged_proxy()
    rules("apply", "--tcp", "80", "--udp", "53", "--listen-port", PORT)
    doctor.content("--only", "probe")


def is_intercepted(lab, port=80, timeout=SECONDS):
    """A client's connection to an address that nobody has is there only where the router takes it."""
    try:
        lab.client.connect(lab.nowhere, port, timeout=timeout).close()
        return True
    except OSError:
        return False
