"""Is there a listener that the kernel can hand connections to? Asked by `limpid rules apply` before it installs anything."""

import contextlib
import os
import pwd
import socket

import pytest

import limpid_process
from kernel_state import installed
from lab import IP_TRANSPARENT, IPV6_TRANSPARENT
from limpid_process import DONE, FAILURE, USAGE
from real_proxies import rules

PORT = 3129
LOOPBACK = {"ipv4": "127.0.0.1", "ipv6": "::1"}
ANY = {"ipv4": "0.0.0.0", "ipv6": "::"}


@pytest.fixture
def listen(lab):
    """listen(address, transparent=…, kind=…, both=…) on the router; `both`: a socket of IPv6 that takes IPv4 as well."""
    opened = contextlib.ExitStack()

    def make(address, transparent=True, kind=socket.SOCK_STREAM, both=False, reuse_port=False):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with lab.router.inside():
            made = opened.enter_context(socket.socket(family, kind))
        if reuse_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        if transparent:
            level, option = (socket.IPPROTO_IPV6, IPV6_TRANSPARENT) if family == socket.AF_INET6 else (socket.SOL_IP, IP_TRANSPARENT)
            made.setsockopt(level, option, 1)
        made.bind((address, PORT))
        if kind == socket.SOCK_STREAM:
            made.listen()
        return made

    yield make
    opened.close()


def apply(lab, *flags, scope=("--tcp", "80")):
    done = rules(lab.router, "apply", *scope, "--to-port", PORT, *flags, check=False)
    assert bool(installed(lab.router)) == (done.returncode == DONE), "all of it or nothing"
    return done


def only(lab):
    return {"ipv4": "--ipv4-only", "ipv6": "--ipv6-only"}[lab.family]


@pytest.mark.parametrize("where", [LOOPBACK, ANY])
def test_transparent_and_reachable_is_all_it_takes(lab, listen, where):
    listen(where[lab.family])
    done = apply(lab, only(lab))
    assert (done.returncode, done.stderr) == (DONE, "")


@pytest.mark.parametrize("where", [LOOPBACK, ANY])
def test_one_that_is_not_transparent_is_refused(lab, listen, where):
    listen(where[lab.family], transparent=False)
    done = apply(lab, only(lab))
    assert done.returncode == FAILURE
    option = {"ipv4": "IP_TRANSPARENT", "ipv6": "IPV6_TRANSPARENT"}[lab.family]
    assert f"without {option}" in done.stderr and f"(pid {os.getpid()})" in done.stderr and "forwarded as usual" in done.stderr
    assert "limpid exec -- PROGRAM" in done.stderr and "--for NAME" in done.stderr
    assert "rejected" in apply(lab, only(lab), "--fail", "closed").stderr
    anyway = apply(lab, only(lab), "--unchecked")
    assert anyway.returncode == DONE and f"without {option}" in anyway.stderr


def test_one_on_another_address_is_refused(lab, listen):
    listen(lab.router.address)
    done = apply(lab, only(lab))
    assert done.returncode == FAILURE
    assert f"but not {LOOPBACK[lab.family]} or the wildcard address" in done.stderr and lab.router.address in done.stderr


def test_the_closest_one_counts(lab, listen):
    """The kernel prefers it, so a wildcard listener of somebody else's does not matter beside it."""
    listen(LOOPBACK[lab.family], reuse_port=True)
    listen(ANY[lab.family], transparent=False, reuse_port=True)
    assert apply(lab, only(lab)).returncode == DONE


def test_of_several_alike_each_has_to_be_transparent(lab, listen):
    listen(LOOPBACK[lab.family], reuse_port=True)
    listen(LOOPBACK[lab.family], transparent=False, reuse_port=True)
    assert apply(lab, only(lab)).returncode == FAILURE


def test_the_other_family_is_missed_not_refused(lab, listen):
    listen(LOOPBACK[lab.family])
    done = apply(lab)
    assert done.returncode == DONE
    other = {"ipv4": "IPv6", "ipv6": "IPv4"}[lab.family]
    assert f"nothing listens for {other} connections" in done.stderr and only(lab) in done.stderr


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_one_of_both_families_serves_both(lab, listen):
    listen("::", both=True)
    done = apply(lab)
    assert (done.returncode, done.stderr) == (DONE, "")


def test_datagrams_have_listeners_too(lab, listen):
    listen(LOOPBACK[lab.family], kind=socket.SOCK_DGRAM, transparent=False)
    done = apply(lab, only(lab), scope=("--udp", "53"))
    assert done.returncode == FAILURE and "UDP" in done.stderr and "datagrams" in done.stderr
    assert apply(lab, only(lab)).returncode == DONE, "it is none for connections"


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_nobody_there_is_no_error(lab):
    done = apply(lab, "--for", "squid")
    assert done.returncode == DONE and "nothing listens on port 3129 yet" in done.stderr
    assert "http_port 127.0.0.1:3129 tproxy" in done.stdout
    assert "until a proxy does, on [::1] and with" in apply(lab, "--ipv6-only").stderr


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
@pytest.mark.parametrize("flags, named", [
    (["--for", "squit"], "--for squit"),
    (["--for", "squid", "--source", "address+port"], "--source none or address"),
    (["--for", "mitmproxy", "--source", "address"], "--source none"),
    (["--for", "trafficserver", "--source", "none"], "--source address"),
    (["--for", "haproxy", "--udp", "53"], "takes connections only"),
    (["--for", "mitmproxy", "--local"], "runs as whoever starts it"),
    (["--for", "custom", "--local"], "--exclude-uid"),
])
@pytest.mark.parametrize("verb", ["apply", "show", "config", "watch"])
def test_what_a_proxy_cannot_do_is_a_usage_error(lab, verb, flags, named):
    done = rules(lab.router, verb, "--tcp", "80", "--to-port", PORT, *flags, check=False)
    assert done.returncode == USAGE and named in done.stderr, done.stderr
    assert installed(lab.router) == []


def exclusion(user):
    return f"never user {user}" if limpid_process.BACKEND == "ebpf" else f"meta skuid {{ {user} }} accept"


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_its_user_is_left_alone_with_local_traffic(lab):
    try:
        number = pwd.getpwnam("www-data").pw_uid
    except KeyError:
        pytest.skip("there is no user www-data here")
    shown = rules(lab.router, "show", "--for", "nginx", "--local", "--tcp", "80", "--to-port", PORT).stdout
    assert exclusion(number) in shown
    assert exclusion(number) not in rules(lab.router, "show", "--for", "nginx", "--tcp", "80", "--to-port", PORT).stdout


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_a_user_that_is_not_there_is_said(lab):
    try:
        pwd.getpwnam("envoy")
        pytest.skip("there is a user envoy here")
    except KeyError:
        pass
    flags = ["--for", "envoy", "--tcp", "80", "--to-port", PORT]
    assert rules(lab.router, "show", *flags).returncode == DONE
    refused = rules(lab.router, "show", *flags, "--local", check=False)
    assert refused.returncode == USAGE and "there is no user envoy here" in refused.stderr
    assert exclusion(4242) in rules(lab.router, "show", *flags, "--local", "--exclude-uid", "4242").stdout


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_whoever_listens_has_to_be_left_alone_with_local_traffic(lab, listen):
    """Here it is root, the user of the test, whose connections would come back."""
    listen("127.0.0.1")
    refused = apply(lab, "--ipv4-only", "--local", "--exclude-uid", "4242")
    assert refused.returncode == FAILURE and "it runs as user 0" in refused.stderr
    assert apply(lab, "--ipv4-only", "--local", "--exclude-uid", "0").returncode == DONE
