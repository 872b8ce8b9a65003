"""A program with the rights of one of our units: its capabilities, and its system calls by the very filter that systemd would make of SystemCallFilter=.

As a module: confined(text) is what to put before a command. As a program, below setpriv: `unit_confinement.py CALL,CALL,… COMMAND…` loads the filter by libseccomp,
as systemd does, and becomes COMMAND."""

import ctypes
import functools
import os
import re
import shutil
import subprocess
import sys

import limpid_process

_ERRNO = 0x00050000  # SCMP_ACT_ERRNO of seccomp.h
_ALLOW = 0x7FFF0000


def merged(text, key):
    """The words of a list that a unit and its drop-ins may set several times."""
    return " ".join(re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)).split()


@functools.cache
def _members(group):
    """The system calls of a group, @system-service for one, with those of the groups in it."""
    listing = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", group], capture_output=True, text=True, timeout=30, check=True).stdout
    names = [line.strip() for line in listing.splitlines() if line.startswith("    ") and not line.strip().startswith("#")]
    return frozenset().union(*(_members(name) if name.startswith("@") else {name} for name in names))


def _allowed_calls(text):
    """systemd.exec(5): the first line is a list of what is allowed, later ones add to it or, with ~, take away. @default is always allowed."""
    allowed = set(_members("@default"))
    for line in re.findall(r"^SystemCallFilter=(.*)$", text, re.MULTILINE):
        takes_away = line.startswith("~")
        for word in line.removeprefix("~").split():
            calls = _members(word) if word.startswith("@") else {word}
            allowed = allowed - calls if takes_away else allowed | calls
    return allowed


def _capabilities(text):
    kept = ",".join("+" + name.lower().removeprefix("cap_") for name in merged(text, "CapabilityBoundingSet"))
    return ["setpriv", "--no-new-privs", f"--bounding-set=-all,{kept}", "--inh-caps=-all"]


def confined(text):
    """The capabilities of the unit and, where systemd is there to say what its groups of system calls are, the filter. A sanitizer makes calls of its own, which the
    filter would forbid."""
    if limpid_process.is_sanitized() or not shutil.which("systemd-analyze"):
        return _capabilities(text)
    return [*_capabilities(text), "/usr/bin/python3", os.path.abspath(__file__), ",".join(sorted(_allowed_calls(text)))]


def _main(calls, *command):
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ERRNO | 1)))  # EPERM, as SystemCallErrorNumber= says
    for name in calls.split(","):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # not of another architecture
            assert library.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), ctypes.c_int(number), ctypes.c_uint(0)) == 0, name
    assert library.seccomp_load(context) == 0
    os.execv(command[0], command)


if __name__ == "__main__":
    _main(*sys.argv[1:])
