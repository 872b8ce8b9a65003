"""Neither end notices: addresses, and real programs on both ends."""

import hashlib
import json

import pytest

from limpid_process import DONE
from peers import exchange, bytes_of, wait_until

pytestmark = pytest.mark.parametrize("workers", [1, 2])


def url_host(address):
    return f"[{address}]" if ":" in address else address


def wait_for_listener(host, port):
    wait_until(lambda: host.run("ss", "-Hltn", f"sport = :{port}").stdout.strip(), f"something listens on {port}")


def test_the_server_sees_the_client_and_the_client_sees_what_it_dialled(lab, start, workers):
    limpid = start("--tcp", "80", "--workers", workers)
    connection = lab.dial(lab.server.listen(80))
    assert not connection.was_forwarded
    assert connection.seen[0] == lab.client.address
    assert connection.client.getpeername()[:2] == (lab.server.address, 80)
    assert connection.server.getsockname()[:2] == (lab.server.address, 80)
    exchange(connection.client, connection.server)
    client = "{}:{}".format(url_host(lab.client.address), connection.client.getsockname()[1])
    connection.client.close()
    connection.server.close()
    flow = limpid.flow()
    assert flow["client"] == client
    assert flow["orig_dst"] == flow["target"] == f"{url_host(lab.server.address)}:80"
    assert flow["source"] == "address"
    assert (flow["bytes_up"], flow["bytes_down"]) == ("1000", "1000")
    assert limpid.stop() == DONE


def test_curl_fetches_from_nginx(lab, start, workers, need, tmp_path):
    need("nginx", "nginx-light")
    need("curl", "curl")
    content = bytes_of(1, 20_000_000)
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "nginx.conf").write_text(f"""
        daemon off; master_process off; user root; error_log stderr; pid {tmp_path}/pid;
        events {{ }}
        http {{
          log_format peer $remote_addr; access_log {tmp_path}/access peer;
          server {{ listen 80; listen [::]:80; root {tmp_path}; }}
        }}""")
    with open(tmp_path / "nginx.err", "wb") as messages:
        lab.server.start(["nginx", "-c", tmp_path / "nginx.conf"], stderr=messages)
    wait_for_listener(lab.server, 80)
    limpid = start("--tcp", "80", "--workers", workers)
    with open(tmp_path / "fetched", "wb") as fetched:
        curl = lab.client.start(["curl", "--silent", "--show-error", "--fail", f"http://{url_host(lab.server.address)}/file"],
                                stdout=fetched)
        assert curl.wait(30) == 0
    assert hashlib.sha256((tmp_path / "fetched").read_bytes()).digest() == hashlib.sha256(content).digest()
    wait_until(lambda: (tmp_path / "access").read_text() == lab.client.address + "\n", "nginx logs the client's address")
    assert int(limpid.flow()["bytes_down"]) > len(content)


def test_openssl_speaks_tls_with_openssl(lab, start, workers, need, tmp_path):
    need("openssl", "openssl")
    lab.server.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
                   "-subj", "/CN=server", "-addext", f"subjectAltName=IP:{lab.server.address}",
                   "-keyout", tmp_path / "key", "-out", tmp_path / "certificate")
    with open(tmp_path / "server.out", "wb") as output:
        lab.server.start(["openssl", "s_server", {"ipv4": "-4", "ipv6": "-6"}[lab.family], "-accept", "443", "-rev", "-quiet",
                          "-key", tmp_path / "key", "-cert", tmp_path / "certificate"], stdout=output, stderr=output)
    wait_for_listener(lab.server, 443)
    limpid = start("--tcp", "443", "--workers", workers)
    client = lab.client.start(["openssl", "s_client", "-connect", f"{url_host(lab.server.address)}:443", "-quiet",
                               "-verify_return_error", "-verify_ip", lab.server.address, "-CAfile", tmp_path / "certificate"],
                              stdin=-1, stdout=-1, stderr=-1)
    client.stdin.write(b"limpid\n")
    client.stdin.flush()
    assert client.stdout.readline() == b"dipmil\n", client.stderr.read()
    client.kill()
    assert int(limpid.flow()["bytes_down"]) > 300


def test_iperf3_runs_in_both_directions_at_once(lab, start, workers, need):
    need("iperf3", "iperf3")
    limpid = start("--tcp", "5201", "--workers", workers)
    for attempt, seconds in enumerate((1, 5, 20), 1):  # on a busy machine one second may pass before anything moves
        lab.server.start(["iperf3", "--server", "--one-off"], stdout=-3)
        wait_for_listener(lab.server, 5201)
        report = json.loads(lab.client.run("iperf3", "--client", lab.server.address, "--time", seconds, "--bidir", "--parallel", "2",
                                           "--json", timeout=seconds + 30).stdout)
        assert "error" not in report
        up, down = report["end"]["sum_received"]["bytes"], report["end"]["sum_received_bidir_reverse"]["bytes"]
        if min(up, down) > 10_000_000:
            break
    assert up > 10_000_000 and down > 10_000_000
    flows = limpid.flows(5 * attempt)  # the control connection and two data connections each way
    assert sum(int(flow["bytes_up"]) for flow in flows) >= up
    assert sum(int(flow["bytes_down"]) for flow in flows) >= down
