"""What a host's kernel holds, as text to compare: everything that Limpid could change, or leave behind."""

import os

ROUTE_PROTOCOL = "76"  # the tag of Limpid's rules and routes


def snapshot(host):
    """nftables, policy rules and routes of every table, and every network sysctl."""
    commands = (("nft", "--stateless", "list", "ruleset"), ("ip", "-4", "rule"), ("ip", "-6", "rule"),
                ("ip", "-4", "route", "show", "table", "all"), ("ip", "-6", "route", "show", "table", "all"))
    state = {" ".join(command): host.run(*command).stdout for command in commands}
    with host.inside():
        for family in ("ipv4", "ipv6"):
            for folder, _, names in os.walk(f"/proc/sys/net/{family}"):
                for name in names:
                    _read_into(state, os.path.join(folder, name))
    return state


def _read_into(state, path):
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            state[path] = file.read()
    except OSError:
        pass  # write-only (route/flush) or not set (stable_secret)


def difference(before, after):
    """Readable lines; empty when nothing differs."""
    return [f"{key}:\n--- before\n{before.get(key)}\n--- after\n{after.get(key)}"
            for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]


def installed(host):
    """Every table, rule and route of Limpid's, a line each."""
    lines = [line for line in host.run("nft", "list", "tables").stdout.splitlines() if "limpid" in line]
    for family in ("-4", "-6"):
        lines += [line for line in host.run("ip", family, "-details", "rule").stdout.splitlines()
                  if f"proto {ROUTE_PROTOCOL}" in line]
        # exits with 2 where no table has such a route
        lines += host.run("ip", family, "route", "show", "table", "all", "proto", ROUTE_PROTOCOL,
                          check=False).stdout.splitlines()
    return lines
