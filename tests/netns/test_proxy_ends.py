"""Other proxies where it hurts: killed, or asked to serve the very host that they call from. See test_proxies.py."""

import shutil

import pytest

from kernel_state import installed
from limpid_process import FAILURE
from local_programs import ALICE, as_user
from real_proxies import NEEDS, Origin, fetch, rules

each_proxy = pytest.mark.parametrize("name", NEEDS)


@each_proxy
@pytest.mark.parametrize("fail", ["open", "closed"])
def test_killed(lab, proxy, name, fail):
    made = proxy(name, "--fail", fail).start()
    rules(lab.router, "apply", *made.flags)
    origin = Origin(lab)
    assert fetch(lab.client, lab.server.address) == (0, "the web")
    made.kill()
    local_port = lab.client_port()
    status, said = fetch(lab.client, lab.server.address, local_port=local_port)
    if fail == "open":
        assert (status, said) == (0, "the web")
        assert origin.last() == (lab.client.address, local_port), "forwarded"
    else:
        assert status == 7 and ("refused" in said or "connect" in said), said
        assert len(origin.seen) == 1
    made.start()
    assert fetch(lab.client, lab.server.address, local_port=lab.client_port()) == (0, "the web")
    assert origin.last()[1] != local_port + 1


# As whom each of them runs with local traffic in scope: HAProxy before 2.9 must not call as its client, or it would have to be root.
LOCAL = {
    "squid": {}, "nginx": {}, "nginx-http": {}, "trafficserver": {},
    "haproxy": {"flags": ["--source", "none"], "user": "haproxy"},
    "mitmproxy": {"flags": ["--exclude-uid", "nobody"], "exec_user": "nobody"},
}


@each_proxy
def test_local_programs_without_a_loop(lab, proxy, folder, name):
    options = dict(LOCAL[name])
    made = proxy(name, "--local", *options.pop("flags", []), **options)
    if name == "mitmproxy":
        shutil.chown(folder, "nobody")
    made.start()
    rules(lab.router, "apply", *made.flags)
    origin, local_port = Origin(lab), lab.client_port()
    assert fetch(lab.router, lab.server.address, local_port=local_port, before_exec=as_user(ALICE)) == (0, "the web")
    assert origin.last()[0] == lab.wan and origin.last()[1] != local_port, "proxied"
    assert fetch(lab.client, lab.server.address, local_port=lab.client_port()) == (0, "the web"), "forwarded traffic as well"
    assert len(origin.seen) == 2
    assert made.descriptors() < 200


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_a_proxy_that_is_root_is_not_told_from_other_programs(lab, proxy):
    made = proxy("haproxy", "--local").start()
    refused = rules(lab.router, "apply", *made.flags, check=False)
    assert refused.returncode == FAILURE
    assert "haproxy (pid" in refused.stderr and "would come back to it" in refused.stderr and "--exclude-cgroup" in refused.stderr
    assert installed(lab.router) == []
