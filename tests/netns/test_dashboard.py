"""The dashboard over HTTP: what it shows, to whom, who may change what, and that nobody can harm the instance through it."""

import json
import socket

import pytest

import limpid_process
from control_client import Control, verb
from dashboard_client import PORT, TOKEN, DashboardClient, nonce_in, write_token
from peers import drip_on, exchange, wait_until

ADDRESSES = {"ipv4": "127.0.0.1", "ipv6": "::1"}


def at(address):
    return f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}"


@pytest.fixture
def serve(lab, start, tmp_path):
    """serve(arguments…) starts an instance with a dashboard on loopback, and a token unless told; the instance and its client."""
    def run(*arguments, token=True):
        given = ("--dashboard-token-file", write_token(tmp_path)) if token else ()
        limpid = start("--tcp", "80", "--dashboard", at(ADDRESSES[lab.family]), *given, *arguments)
        return limpid, DashboardClient(lab.router, ADDRESSES[lab.family])
    return run


def test_it_shows_the_page_and_what_the_control_api_says(lab, serve):
    limpid, dashboard = serve()
    flow = lab.dial_relayed(lab.server.listen(80))
    exchange(flow.client, flow.server)
    status, headers, page = dashboard.ask("GET", "/")
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY" and headers["cache-control"] == "no-store"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert page.count(nonce_in(policy)) == 2 and nonce_in(policy) != nonce_in(dashboard.ask("GET", "/")[1]["content-security-policy"])
    assert "access-control-allow-origin" not in headers

    control = Control()
    for target in ("/v1/status", "/v1/counters", "/v1/rules", "/v1/upstreams", "/v1/log-level", "/v1/doctor"):
        assert dashboard.get(target).keys() == control.get(target).keys(), target
    shown, = dashboard.get("/v1/flows?sort=-idle&limit=500")["flows"]
    assert shown == {**control.flows()["flows"][0], "age_ms": shown["age_ms"], "idle_ms": shown["idle_ms"]}
    assert dashboard.ask("GET", "/v1/status")[1]["cross-origin-resource-policy"] == "same-origin"
    assert dashboard.get("/v1/status")["dashboard"] == dashboard.name
    assert f"http://{dashboard.name}/" in verb(lab, "status").stdout and f'url=http://{dashboard.name}/' in limpid.messages
    # What the page does not need is for who may use the control socket.
    for method, target, wanted in (("GET", "/v1/config", 404), ("GET", "/metrics", 404), ("GET", "/favicon.ico", 404), ("GET", "/..", 404), ("GET", "//", 404)):
        assert dashboard.status_of(method, target) == wanted, (method, target)
    assert dashboard.status_of("POST", "/v1/reload", token=TOKEN) == 404


def test_only_the_token_changes_anything(lab, serve):
    limpid, dashboard = serve()
    flow = lab.dial_relayed(lab.server.listen(80))
    exchange(flow.client, flow.server)
    target = "/v1/flows/" + dashboard.get("/v1/flows")["flows"][0]["id"]
    assert dashboard.get("/v1/dashboard") == {"schema": 1, "token": "wanted", "reads": True, "changes": False}
    for method, path, body in (("DELETE", target, None), ("POST", "/v1/drain", {}), ("PUT", "/v1/log-level", {"level": "debug"}), ("POST", "/v1/doctor/probe", None)):
        status, headers, text = dashboard.ask(method, path, body)
        assert (status, headers["www-authenticate"]) == (401, "Bearer") and "token" in text, (method, path)
    # With it, from a page of ours or from a program; not from a page of somebody else's, though he cannot have it.
    for foreign in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}):
        assert dashboard.status_of("DELETE", target, token=TOKEN, **foreign) == 403, foreign
    assert dashboard.status_of("OPTIONS", target, Origin="http://evil.example", Access_Control_Request_Method="DELETE") in (401, 403)
    exchange(flow.client, flow.server)
    assert dashboard.get("/v1/dashboard", token=TOKEN)["changes"]
    assert dashboard.status_of("PUT", "/v1/log-level", {"level": "debug"}, token=TOKEN, Origin=f"http://{dashboard.name}", Sec_Fetch_Site="same-origin") == 200
    assert Control().get("/v1/log-level") == {"level": "debug"}
    assert dashboard.status_of("DELETE", target, token=TOKEN) == 200
    assert limpid.flow()["end"] == "killed"
    order = next(line for line in limpid.messages.splitlines() if "method=DELETE" in line)
    assert f"dashboard={ADDRESSES[lab.family]}" in order and "uid=" not in order

    # Who guesses is not listened to for a while, even if he is right then.
    answers = [dashboard.status_of("GET", "/v1/status", token=TOKEN[:-1] + str(i)) for i in range(7)]
    assert answers == [401] * 5 + [429] * 2
    assert dashboard.status_of("GET", "/v1/status", token=TOKEN) == 429 and dashboard.status_of("GET", "/v1/status") == 200
    assert limpid.messages.count("a wrong token for the dashboard") == 5 and TOKEN[:-1] not in limpid.messages


def test_without_a_token_it_only_shows(serve):
    _, dashboard = serve(token=False)
    assert dashboard.get("/v1/dashboard")["token"] == "none"
    for method, path in (("DELETE", "/v1/flows/t0-0-1"), ("POST", "/v1/drain"), ("PUT", "/v1/log-level")):
        status, _, text = dashboard.ask(method, path, token=TOKEN)
        assert status == 403 and "--dashboard-token-file" in text


def test_names_that_others_can_make_mean_us_are_not_answered(serve):
    """DNS rebinding: a page of evil.example whose name suddenly means 127.0.0.1."""
    _, dashboard = serve("--dashboard-host", "Router.Example.org")
    for host in ("evil.example", f"evil.example:{PORT}", f"localhost.evil.example:{PORT}", "192.0.2.1", "", None):
        for path in ("/", "/v1/status"):
            assert dashboard.status_of("GET", path, Host=host) in (400, 421), host
    for host in (f"localhost:{PORT}", "localhost", "127.0.0.1:8080", "[::1]", "router.example.org:443"):
        assert dashboard.status_of("GET", "/v1/status", token=TOKEN, Host=host) == 200, host
        assert dashboard.status_of("GET", "/v1/status", Host=host) == 401, "a name of its own means a proxy in between"


def test_beyond_loopback_everything_but_the_page_needs_the_token(lab, start, launch, tmp_path):
    address = lab.router.address
    refused = launch("--tcp", "80", "--dashboard", at(address))
    assert refused.process.wait(10) == limpid_process.USAGE and "--dashboard-token-file" in refused.messages
    start("--tcp", "80", "--dashboard", at(address), "--dashboard-token-file", write_token(tmp_path))
    for host in (lab.router, lab.client):
        dashboard = DashboardClient(host, address)
        assert dashboard.status_of("GET", "/") == 200
        assert dashboard.get("/v1/dashboard") == {"schema": 1, "token": "wanted", "reads": False, "changes": False}
        for path in ("/v1/status", "/v1/flows", "/v1/nothing", "/metrics"):
            assert dashboard.status_of("GET", path) == 401, path
        assert dashboard.status_of("POST", "/v1/doctor") == 401
        assert dashboard.get("/v1/status", token=TOKEN)["state"] == "serving"
        assert dashboard.status_of("GET", "/v1/status", token=TOKEN, Host=f"localhost:{PORT}") == 421


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_mistakes_are_named_with_what_mends_them(lab, launch, tmp_path):
    def refusal(*arguments):
        limpid = launch("--tcp", "80", *arguments)
        assert limpid.process.wait(10) == limpid_process.USAGE, limpid.messages
        return limpid.messages

    here = ("--dashboard", f"127.0.0.1:{PORT}")
    assert "write 127.0.0.1:9080" in refusal("--dashboard", "localhost")
    assert "add --dashboard" in refusal("--dashboard-host", "router")
    assert "not an absolute path" in refusal(*here, "--dashboard-token-file", "token")
    assert "chmod 0600" in refusal(*here, "--dashboard-token-file", write_token(tmp_path, mode=0o644))
    assert "openssl rand" in refusal(*here, "--dashboard-token-file", write_token(tmp_path, text="short"))
    assert "add --dashboard-token-file" in refusal(*here, "--dashboard-host", "router.example.org")
    assert "not a name of a host" in refusal(*here, "--dashboard-token-file", write_token(tmp_path), "--dashboard-host", "http://x/")
    with lab.router.inside(), socket.create_server(("127.0.0.1", PORT)):
        taken = launch("--tcp", "80", *here)
        assert taken.process.wait(10) == limpid_process.FAILURE and "--dashboard" in taken.messages


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_slow_many_and_hostile_clients_harm_neither_flows_nor_the_control_socket(lab, serve):
    limpid, dashboard = serve()
    flow = lab.dial_relayed(lab.server.listen(80))
    before = limpid.descriptors()
    slow = [dashboard.connect() for _ in range(100)]
    for each in slow:
        each.setblocking(False)
        each.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-")
    # Not even half of them get a descriptor: one address has at most 16 connections.
    assert wait_until(lambda: limpid.descriptors() <= before + 20 and limpid.descriptors(), "few are taken") <= before + 20
    exchange(flow.client, flow.server)
    assert Control().get("/v1/status")["state"] == "serving"

    # Ten seconds for the first ones, however they drip; the others were turned away, or would take their places.
    for each in slow[16:]:
        each.close()
    del slow[16:]
    wait_until(lambda: drip_on(slow), "slow clients are closed", 25)
    for text in (b"\x00" * 4096, b"GET " + b"A" * 100_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(20_000)) + b"\r\n",
                 b"PUT /v1/log-level HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000):
        hostile = dashboard.connect()
        try:
            hostile.sendall(text)
            hostile.shutdown(socket.SHUT_WR)
            answer = hostile.makefile("rb").readline()
            assert not answer or answer.split()[1][:1] in b"45", (text[:60], answer)
        except OSError:  # it was reset before all was said
            pass
        hostile.close()
    for text in (b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", b"GET http://evil.example/v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n",
                 b"GET /v1/status HTTP/1.0\r\n\r\n"):
        with dashboard.connect() as rebound:
            rebound.sendall(text)
            assert rebound.makefile("rb").readline().split()[1] in (b"400", b"421"), text
    assert dashboard.get("/v1/status")["state"] == "serving"
    exchange(flow.client, flow.server)
    wait_until(lambda: limpid.descriptors() <= before + 1, "their descriptors are gone")


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_the_doctor_looks_for_everybody_and_probes_for_the_token(lab, serve):
    limpid, dashboard = serve("--name", "second")
    assert dashboard.get("/v1/doctor") == {"schema": 1, "state": "never", "probed": False, "began": None, "ended": None, "error": None, "report": None}

    def outcome():
        return wait_until(lambda: (answer := dashboard.get("/v1/doctor"))["state"] != "running" and answer, "the doctor is done", 60)

    assert dashboard.status_of("POST", "/v1/doctor") == 202
    looked = outcome()
    assert looked["state"] == "done" and not looked["probed"], looked
    findings = {each["id"]: each for each in looked["report"]["findings"]}
    assert findings["installation"]["subject"] == "second" or "second" in findings["installation"]["summary"]
    assert findings["trials"]["severity"] == "skipped" and findings["probe"]["summary"] == "left out: --no-probe"
    assert limpid.log == [], "no packet was sent"
    # At once again, the last look counts.
    assert dashboard.status_of("POST", "/v1/doctor") == 202 and dashboard.get("/v1/doctor")["ended"] == looked["ended"]

    assert dashboard.status_of("POST", "/v1/doctor/probe", token=TOKEN) == 202
    assert dashboard.status_of("POST", "/v1/doctor/probe", token=TOKEN) == 409, "one at a time"
    probed = outcome()
    assert probed["state"] == "done" and probed["probed"] and limpid.flows(1), probed
    assert json.loads(Control(Control().path.replace("ctl", "ctl-second")).ask("GET", "/v1/doctor")[1])["ended"] == probed["ended"]

    # Its end does not wait for the doctor.
    assert dashboard.status_of("POST", "/v1/doctor/probe", token=TOKEN) == 202
    assert limpid.stop(seconds=5) == 0
    wait_until(lambda: "limpid__doctor" not in lab.router.run("nft", "list", "tables").stdout, "what the probe has made is gone")


@pytest.mark.parametrize("family", ["ipv4"], indirect=True)
def test_a_drain_is_ordered_and_a_configuration_has_the_same_settings(lab, start, configure, tmp_path):
    file = configure(tcp=[80], rules=["otherwise -> direct"], dashboard=at("127.0.0.1"), **{
        "dashboard-token-file": str(write_token(tmp_path)), "dashboard-host": ["router.example.org"]})
    limpid = start("-c", file)
    dashboard = DashboardClient(lab.router)
    assert dashboard.get("/v1/rules", token=TOKEN, Host="router.example.org")["rules"][0]["rule"] == "otherwise -> direct"
    assert dashboard.status_of("POST", "/v1/drain", {}, token=TOKEN) == 202
    assert limpid.process.wait(10) == 0
    # A plain relay has one, too, without what it knows nothing of.
    relay = start("7000", lab.server.address, "80", "--dashboard", at("127.0.0.1"), verb="relay")
    assert dashboard.get("/v1/status")["verb"] == "relay" and dashboard.status_of("GET", "/v1/doctor") == 404
    assert relay.stop() == 0
