"""eBPF programs at a host's interfaces, asked of the kernel itself: tcx by bpf(2), filters and qdiscs by tc."""

import ctypes
import os
import socket

_libc = ctypes.CDLL(None, use_errno=True)
_BPF = {"x86_64": 321, "aarch64": 280}.get(os.uname().machine)
_PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 9, 13, 16
SIDES = {"ingress": 46, "egress": 47}  # BPF_TCX_INGRESS, BPF_TCX_EGRESS


class _Query(ctypes.Structure):
    _fields_ = [("target", ctypes.c_uint32), ("attach_type", ctypes.c_uint32), ("query_flags", ctypes.c_uint32),
                ("attach_flags", ctypes.c_uint32), ("prog_ids", ctypes.c_uint64), ("prog_cnt", ctypes.c_uint32),
                ("padding", ctypes.c_uint8 * 64)]


class _Words(ctypes.Structure):
    _fields_ = [("words", ctypes.c_uint32 * 32)]


def _bpf(command, attributes):
    return _libc.syscall(_BPF, command, ctypes.byref(attributes), ctypes.sizeof(attributes))


def tcx(host, interface, side):
    """Numbers of the programs there, the first one first."""
    with host.inside():
        try:
            index = socket.if_nametoindex(interface)
        except OSError:
            return []
        ids = (ctypes.c_uint32 * 64)()
        query = _Query(target=index, attach_type=SIDES[side], prog_ids=ctypes.addressof(ids), prog_cnt=64)
        return list(ids[:query.prog_cnt]) if _bpf(_PROG_QUERY, query) == 0 else []


def detach(host, interface, side):
    """What somebody else could do to ours: takes every program of one side away."""
    for program in tcx(host, interface, side):
        wanted = _Words()
        wanted.words[0] = program
        fd = _bpf(_PROG_GET_FD_BY_ID, wanted)
        assert fd >= 0, os.strerror(ctypes.get_errno())
        with host.inside():
            attributes = _Words()
            attributes.words[0] = socket.if_nametoindex(interface)
            attributes.words[1] = fd
            attributes.words[2] = SIDES[side]
            assert _bpf(_PROG_DETACH, attributes) == 0, os.strerror(ctypes.get_errno())
        os.close(fd)


def interfaces(host):
    with host.inside():
        return [name for _, name in socket.if_nameindex()]


def attached(host):
    """A line for each program, filter and clsact qdisc."""
    lines = [f"tcx {side} {interface}" for interface in interfaces(host) for side in SIDES for _ in tcx(host, interface, side)]
    qdiscs = host.run("tc", "qdisc", "show").stdout.splitlines()
    for interface in interfaces(host):
        if not any("clsact" in line and f"dev {interface} " in line for line in qdiscs):
            continue
        lines.append(f"clsact {interface}")
        for side in SIDES:
            shown = host.run("tc", "filter", "show", "dev", interface, side, check=False).stdout.splitlines()
            lines += [f"filter {side} {interface}" for line in shown if "limpid_" in line]
    return lines
