"""The kernel's document on transparent proxying, as something that runs: its commands by a shell, in either family and by either
iptables, and its C fragment compiled. The text itself stands in kernel_document/examples.txt, once."""

import ipaddress
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "kernel_document"
VARIANTS = ("iptables-nft", "iptables-legacy", "nft")
_PROGRAMS = {"iptables-nft": "xtables-nft-multi", "iptables-legacy": "xtables-legacy-multi"}


def blocks():
    """Name → text, as it stands there."""
    parts = re.split(r"^== (.*)\n", (HERE / "examples.txt").read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2]))


def commands(block):
    """A block's commands without their prompts, one each, continued lines and all."""
    return [command.strip() for command in re.split(r"^ *# ", blocks()[block], flags=re.MULTILINE) if command.strip()]


def for_family(command, family):
    """The IPv6 counterpart: another program, table family or zero, and the rest as it is."""
    if family == "ipv4":
        return command
    for old, new in (("iptables ", "ip6tables "), ("ip r", "ip -6 r"), ("0.0.0.0/0", "::/0"), ("nft add table ", "nft add table ip6 "),
                     ("nft add chain ", "nft add chain ip6 "), ("nft add rule ", "nft add rule ip6 ")):
        command = command.replace(old, new)
    return command


class Document:
    """The document's instructions for one host, by one of the ways that it offers."""

    def __init__(self, host, variant, folder):
        self._host = host
        self._kind = "nft" if variant == "nft" else "iptables"
        self._environment = {"PATH": f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin", "XTABLES_LOCKFILE": str(folder / "lock")}
        if variant in _PROGRAMS:
            program = shutil.which(_PROGRAMS[variant])
            if not program:
                pytest.skip(f"{_PROGRAMS[variant]} is not installed: apt-get install iptables")
            for name in ("iptables", "ip6tables"):  # the commands say these names, whatever the host's default is
                (folder / name).symlink_to(program)
            probe = self._run(for_family("iptables -t mangle -S", host.family), check=False)
            if probe.returncode != 0:
                pytest.skip(f"{variant} does not work in a network namespace here: {probe.stderr.strip()}")

    def divert(self):
        """Section 1: recognise packets of local sockets, and deliver them."""
        self._follow(f"divert, {self._kind}")
        self._follow("routing")

    def redirect(self):
        """Section 2: port 80 to a listener on 50080."""
        self._follow(f"redirect, {self._kind}")

    def _follow(self, block):
        for command in commands(block):
            self._run(for_family(command, self._host.family))

    def _run(self, command, **options):
        return self._host.run("/bin/sh", "-c", command, env=self._environment, **options)


def compile_fragment(folder, transparent=True):
    """The C fragment in its surround; without what stands between the scissors if it shall know nothing of IP_TRANSPARENT."""
    fragment = blocks()["bind, C"]
    if not transparent:
        fragment = re.sub(r"/\* - 8< -\*/.*/\* - 8< -\*/", "", fragment, flags=re.DOTALL)
    (folder / "fragment.c").write_text(fragment)
    program = folder / "fragment"
    subprocess.run([shutil.which("gcc"), "-D_GNU_SOURCE", "-Wall", "-o", program, f'-DFRAGMENT="{folder}/fragment.c"',
                    HERE / "surround.c"], check=True, timeout=60)
    return program


def fragments_address():
    """What the fragment binds to, read from it: 222.173.190.239 and 51966."""
    fragment = blocks()["bind, C"]
    port, address = (int(re.search(rf"{call}\((0x[0-9A-F]+)\)", fragment).group(1), 16) for call in ("htons", "htonl"))
    return str(ipaddress.ip_address(address)), port
