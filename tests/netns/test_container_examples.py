"""packaging/container: the manifests hold together, their configurations can be used, and what they allow is enough for what they ask, and no more than that."""

import contextlib
import json
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

import limpid_process
from kernel_state import installed
from lab import SECONDS
from peers import wait_until

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: apt-get install python3-yaml")
FOLDER = Path(__file__).resolve().parents[2] / "packaging" / "container"
MANIFESTS = sorted(path.name for path in FOLDER.glob("*.yaml"))
CONFIGURATION = "/etc/limpid/limpid.toml"
pytestmark = [pytest.mark.parametrize("family", ["ipv4"], indirect=True), pytest.mark.nftables("other backends need more than the manifests allow")]
# A container's file system: its root and /proc/sys are read-only, /run is a volume of its own.
CONTAINER = ("mount -t tmpfs -o mode=777 tmpfs /run && mount -o remount,bind,ro / && mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys "
             '&& exec "$@"')


class Manifest:
    """A file of several documents, one of which runs Limpid."""

    def __init__(self, name):
        self.documents = list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))
        self.kinds = {document["kind"]: document for document in self.documents}
        self.workload = self.kinds.get("DaemonSet") or self.kinds["Pod"]
        self.pod = self.workload["spec"]["template"]["spec"] if "template" in self.workload["spec"] else self.workload["spec"]
        self.containers = self.pod.get("initContainers", []) + self.pod["containers"]
        self.limpid, = (container for container in self.containers if container["name"] == "limpid")
        self.rights = self.limpid["securityContext"]

    def command(self, folder):
        """Its arguments, for a configuration that lies in `folder`."""
        path = folder / "limpid.toml"
        path.write_text(self.kinds["ConfigMap"]["data"]["limpid.toml"], encoding="utf-8")
        assert CONFIGURATION in self.limpid["args"]
        return [str(path) if word == CONFIGURATION else word for word in self.limpid["args"]]

    def wrapper(self, capabilities=None):
        """As the container runtime starts it."""
        kept = ",".join("+" + name.lower() for name in (self.rights["capabilities"]["add"] if capabilities is None else capabilities))
        assert self.rights["capabilities"]["drop"] == ["ALL"] and self.rights["allowPrivilegeEscalation"] is False and self.rights["readOnlyRootFilesystem"] is True
        return ["unshare", "--mount", "sh", "-c", CONTAINER, "sh", "setpriv", "--no-new-privs", f"--bounding-set=-all{',' + kept if kept else ''}", "--inh-caps=-all"]


@pytest.fixture(params=MANIFESTS)
def manifest(request):
    return Manifest(request.param)


@pytest.fixture
def run_container(launch, tmp_path, need):
    """run_container(manifest, capabilities): Limpid, as that says."""
    need("setpriv", "util-linux")

    def run(manifest, capabilities=None):
        verb, *arguments = manifest.command(tmp_path)
        assert verb == "run"
        environment = {key: value for key, value in os.environ.items() if key != "LIMPID_RUN_DIRECTORY"}  # /run is the container's own
        return launch(*arguments, "--workers", "1", wrapper=manifest.wrapper(capabilities), env=environment)
    return run


def test_there_are_manifests(family):
    assert MANIFESTS == ["daemonset.yaml", "sidecar.yaml"]


def test_what_a_manifest_refers_to_is_in_it(family, manifest):
    assert all(document["apiVersion"] and document["metadata"]["name"] for document in manifest.documents)
    if "selector" in manifest.workload["spec"]:
        assert manifest.workload["spec"]["selector"]["matchLabels"] == manifest.workload["spec"]["template"]["metadata"]["labels"]
    volumes = {volume["name"]: volume for volume in manifest.pod["volumes"]}
    assert {mount["name"] for container in manifest.containers for mount in container.get("volumeMounts", [])} == set(volumes)
    assert volumes["configuration"]["configMap"]["name"] == manifest.kinds["ConfigMap"]["metadata"]["name"]
    assert {mount["name"]: mount["mountPath"] for mount in manifest.limpid["volumeMounts"]} == {"configuration": "/etc/limpid", "run": "/run"}
    said = subprocess.run([limpid_process.BINARY, "run", "--help"], capture_output=True, text=True, check=True).stdout
    drain, = re.findall(r"--drain-timeout TIME .*\((\d+)s\)", said)
    assert manifest.pod["terminationGracePeriodSeconds"] > int(drain), "a drain may take that long"
    version, = re.findall(r'kVersion = "([^"]+)"', (FOLDER.parents[1] / "include/limpid/version.h").read_text(encoding="utf-8"))
    assert manifest.limpid["image"] == f"limpid:{version}"


def test_the_image_runs_what_the_manifests_ask(family, manifest):
    text = (FOLDER / "Containerfile").read_text(encoding="utf-8")
    entry, = re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)
    assert json.loads(entry) == ["/usr/sbin/limpid"] and "command" not in manifest.limpid
    default, = re.findall(r"^CMD (.*)$", text, re.MULTILINE)
    assert json.loads(default) == manifest.limpid["args"]
    probes = [value["exec"]["command"] for key, value in manifest.limpid.items() if key.endswith("Probe")]
    health, = re.findall(r"^HEALTHCHECK .* CMD (.*)$", text, re.MULTILINE)
    assert probes and all(probe == json.loads(health) for probe in probes)


def test_the_configuration_can_be_used(lab, manifest, tmp_path):
    command = manifest.command(tmp_path)
    checked = lab.router.run(limpid_process.BINARY, "check", tmp_path / "limpid.toml")
    assert "warning" not in checked.stderr and "note" not in checked.stderr, checked.stderr
    assert "tproxy" in lab.router.run(limpid_process.BINARY, *command, "--dry-run").stdout


def test_every_capability_is_needed(lab, manifest, run_container):
    names = manifest.rights["capabilities"]["add"]
    for name in names:
        limpid = run_container(manifest, [other for other in names if other != name])
        assert limpid.process.wait(10) == limpid_process.UNSUPPORTED, f"without {name}: {limpid.messages}"
        assert f"CAP_{name}" in limpid.messages
        assert installed(lab.router) == []


def probe(lab, manifest, limpid):
    """What the kubelet asks, in the container's file system."""
    _program, *words = manifest.limpid["livenessProbe"]["exec"]["command"]
    return lab.router.run("nsenter", f"--mount=/proc/{limpid.pid}/ns/mnt", "env", "-u", "LIMPID_RUN_DIRECTORY", limpid_process.BINARY, *words)


@contextlib.contextmanager
def connection(host, lab, source=None):
    with host.inside(), socket.socket() as client:
        client.settimeout(SECONDS)
        if source:
            client.bind((source, 0))
        client.connect((lab.server.address, 80))
        yield client


def test_the_daemonset_relays_what_pods_send_and_nothing_else(lab, run_container):
    pod = "10.244.1.5"
    lab.client.run("ip", "address", "add", f"{pod}/32", "dev", "lo")
    lab.router.run("ip", "route", "add", f"{pod}/32", "via", lab.client.address)
    manifest = Manifest("daemonset.yaml")
    limpid = run_container(manifest).ready()
    assert "state" in probe(lab, manifest, limpid).stdout
    listener = lab.server.listen(80)
    with connection(lab.client, lab, source=pod) as client:
        server, peer = listener.accept()
        with server:
            assert peer[0] == pod, "as the pod"
            client.sendall(b"question")
            assert server.recv(100) == b"question"
    assert limpid.flow()["client"].startswith(pod)
    with connection(lab.client, lab) as client:
        server, peer = listener.accept()
        server.close()
        assert peer == client.getsockname(), "the node's other clients are forwarded"
    datagrams = lab.server.datagrams(443)
    with lab.client.inside(), socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(SECONDS)
        client.bind((pod, 0))
        client.sendto(b"question", (lab.server.address, 443))
        payload, peer = datagrams.recvfrom(100)
        datagrams.sendto(payload + b" answered", peer)
        assert client.recvfrom(100) == (b"question answered", (lab.server.address, 443))
    assert limpid.stop() == 0


def test_the_sidecar_lets_its_pod_reach_what_the_rules_name(lab, run_container):
    manifest = Manifest("sidecar.yaml")
    limpid = run_container(manifest).ready()
    wait_until(lambda: probe(lab, manifest, limpid).returncode == 0, "it is healthy")
    listener = lab.server.listen(80)
    with connection(lab.router, lab) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n")
        server, _ = listener.accept()
        with server:
            assert server.recv(100).startswith(b"GET / ")
    for request in (b"GET / HTTP/1.1\r\nHost: www.example.net\r\n\r\n", b"something else"):
        with connection(lab.router, lab) as client, pytest.raises(ConnectionResetError):
            client.sendall(request)
            # The reset may be there already: then there is nothing to be shut down, and the read tells.
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_WR)
            client.recv(1)
    assert limpid.stop() == 0
