"""The interface of the shared library is the one that its number promises: which functions it shows, and how the types of its headers lie in memory.

Whoever changes either in a way that programs which are linked already would notice raises LIMPID_INTERFACE in cmake/library.cmake, and begins the lists anew:
debian/liblimpid1.symbols (and its name), and LAYOUT here."""
import os
import pathlib
import platform
import re
import subprocess

import pytest

SOURCE = pathlib.Path(os.environ["LIMPID_SOURCE"])
LIBRARY = pathlib.Path(os.environ.get("LIMPID_BUILD", "build/dev")) / "liblimpid.so.1"
# Type: size in octets, and the offsets of its public members, on x86-64.
LAYOUT = {
    "ListenOptions": (32, {"backlog": 0, "reuse_port": 4, "mark": 8, "keepalive_idle": 16, "fast_open": 24, "smallest_mtu": 28}),
    "ConnectOptions": (64, {"source": 0, "mark": 28, "keepalive_idle": 32, "fast_open": 40, "smallest_mtu": 44, "interface": 48}),
    "DatagramListenOptions": (8, {"reuse_port": 0, "mark": 4}),
    "DatagramSocketOptions": (80, {"source": 0, "peer": 28, "family": 56, "mark": 60, "interface": 64}),
    "HopFields": (2, {"ttl": 0, "traffic_class": 1}),
    "ReceivedDatagram": (80, {"peer": 0, "original_destination": 24, "payload": 56, "fields": 72, "interface": 76}),
    "IcmpError": (8, {"type": 0, "code": 1, "rest": 4}),
    "ReceivedIcmp": (72, {"about": 0, "reporter": 24, "error": 44, "payload": 56}),
    "DatagramBatch": (5128, {}),
    "SpoofedDatagram": (72, {"from": 0, "to": 24, "payload": 48, "fields": 64}),
    "RawSender": (12, {}),
    "Programs": (72, {"users": 0, "groups": 24, "cgroups": 48}),
    "LocalScope": (144, {"only": 0, "never": 72}),
    "Scope": (312, {"tcp": 0, "udp": 24, "forwarded": 48, "from_interfaces": 56, "from_prefixes": 80, "local": 104, "to_prefixes": 256, "excluded": 280, "ipv4": 304, "ipv6": 305}),
    "InterceptionOptions": (408, {"name": 0, "scope": 32, "listener": 344, "fail": 346, "keeps_source_port": 347, "keeps_udp_port": 348, "needs_conntrack": 349, "guards_listener": 350, "backends": 352, "mark": 376, "table": 388, "priority": 396}),
    "Interception": (8, {}),
    "IpAddress": (17, {}),
    "SocketAddress": (24, {"address": 0, "port": 18, "scope_id": 20}),
    "Mark": (8, {"value": 0, "mask": 4}),
    "TableId": (4, {"value": 0}),
    "RulePriority": (4, {"value": 0}),
    "PortRange": (4, {"first": 0, "last": 2}),
    "PortSet": (24, {}),
    "Prefix": (18, {}),
    "UniqueFd": (4, {}),
    "Error": (136, {"kind": 0, "code": 4, "operation": 8, "object": 40, "cause": 72, "remedy": 104}),
    "Port": (2, {"value": 0}),
    "IdRange": (8, {"first": 0, "last": 4}),
}


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


def test_it_shows_what_the_headers_declare_and_nothing_else():
    shown = {line.split(maxsplit=2)[2] for line in run("nm", "-DC", "--defined-only", LIBRARY).splitlines()}
    listed = set(re.findall(r'^ \(.*?\)"(.*)@LIMPID_1" ', (SOURCE / "debian/liblimpid1.symbols").read_text(), re.MULTILINE))
    assert {name.replace("@@LIMPID_1", "") for name in shown} - {"LIMPID_1"} == listed
    assert "limpid::Interception::install(limpid::InterceptionOptions const&)" in listed


def test_its_name_is_that_of_the_package():
    assert "Library soname: [liblimpid.so.1]" in run("readelf", "-d", LIBRARY)
    assert "\nPackage: liblimpid1\n" in (SOURCE / "debian/control").read_text()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the layout is that of x86-64")
def test_programs_that_are_linked_already_find_every_member_where_it_was(tmp_path):
    program = "#include <cstddef>\n#include <cstdio>\n" + "".join(f"#include <limpid/{path.name}>\n" for path in (SOURCE / "include/limpid").iterdir())
    program += "int main() {\n"
    for kind, (_, members) in LAYOUT.items():
        names = "".join(f" {member}=%zu" for member in members)
        offsets = "".join(f", offsetof(limpid::{kind}, {member})" for member in members)
        program += f'  std::printf("{kind} %zu{names}\\n", sizeof(limpid::{kind}){offsets});\n'
    (tmp_path / "layout.cc").write_text(program + "}\n")
    run("g++", "-std=c++23", "-Wno-invalid-offsetof", "-I", SOURCE / "include", tmp_path / "layout.cc", "-o", tmp_path / "layout")
    found = {}
    for line in run(tmp_path / "layout").splitlines():
        kind, size, *members = line.split()
        found[kind] = (int(size), {name: int(offset) for name, offset in (member.split("=") for member in members)})
    assert found == LAYOUT
