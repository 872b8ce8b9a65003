"""Programs under `limpid exec`: how the tests start them, statically linked ones, and who supervises them."""

import ipaddress
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import limpid_process

HERE = Path(__file__).parent
# The address of the kernel's tproxy document, 0xDEADBEEF, and one like it: nobody's here.
FOREIGN = {"ipv4": "222.173.190.239", "ipv6": "2001:db8:dead::beef"}
FOREIGN_PORT = 0xCAFE


def under_exec(*program, options=()):
    """The argument vector of a program under `limpid exec`."""
    return [limpid_process.BINARY, "exec", *options, "--", *program]


def python(script, *arguments):
    """The argument vector of a Python script. It finds `family`, `foreign` and `port` set, and socket and os imported."""
    return [sys.executable, "-c", "import os, socket, sys\n" + script, *arguments]


def prelude(family):
    return (f"family, foreign, port = socket.AF_INET{'6' if family == 'ipv6' else ''}, {FOREIGN[family]!r}, {FOREIGN_PORT}\n")


def supervisors(host):
    """Process ids of the supervisors in a host's network namespace."""
    wanted = os.fstat(host.namespace).st_ino
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if (folder / "comm").read_text() == "limpid-exec\n" and (folder / "ns/net").stat().st_ino == wanted:
                found.append(int(folder.name))
        except OSError:
            pass  # ended meanwhile
    return found


def build_with_libc(folder):
    """bind_with_libc.c, linked statically; it takes address and port."""
    return _build(folder / "bind_with_libc", HERE / "bind_with_libc.c", "-static")


def build_without_libc(folder, family, convention):
    """bind_without_libc.c for one address and calling convention (64, 32 or 102: see there)."""
    address = ipaddress.ip_address(FOREIGN[family]).packed
    if family == "ipv4":
        native = struct.pack("=H", socket.AF_INET) + struct.pack(">H", FOREIGN_PORT) + address + bytes(8)
    else:
        native = struct.pack("=H", socket.AF_INET6) + struct.pack(">HI", FOREIGN_PORT, 0) + address + bytes(4)
    return _build(folder / f"bind_without_libc_{convention}", HERE / "bind_without_libc.c", "-static", "-nostdlib", "-no-pie",
                  "-fno-pie", "-fno-stack-protector", f"-DFAMILY={int.from_bytes(native[:2], sys.byteorder)}",
                  f"-DCONVENTION={convention}", "-DADDRESS=" + ",".join(str(byte) for byte in native))


def _build(program, source, *flags):
    subprocess.run([shutil.which("gcc"), "-O1", "-o", program, source, *flags], check=True, timeout=60)
    return program
