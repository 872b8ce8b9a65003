"""What a host's kernel holds, as text to compare: everything that Limpid could change, or leave behind."""

import os
import re
import shutil

import ebpf_state

ROUTE_PROTOCOL = "76"  # the tag of Limpid's rules and routes


IPTABLES = ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy")
# A table of iptables' own, without a rule: the first use of any iptables command makes it, and nothing takes it away again.
_UNUSED = re.compile(r"table ip6? (raw|mangle|nat|filter|security) \{\n"
                     r"(\tchain [A-Z]+ \{\n\t\ttype [^\n]*; policy accept;\n\t\}\n\n?)*\}\n")


def iptables_rules(host):
    """What iptables-save says of both variants and families, without tables in which there is nothing and what changes by itself."""
    rules = {}
    for program in IPTABLES:
        if not shutil.which(program + "-save"):
            continue
        table = []
        kept = []
        for line in host.run(program + "-save").stdout.splitlines():
            if line.startswith("*"):
                table = [line]
            elif line == "COMMIT":
                if any(not re.fullmatch(r":[A-Z]+ ACCEPT", each) for each in table[1:]):
                    kept += table
            elif not line.startswith("#"):
                table.append(re.sub(r" \[\d+:\d+\]$", "", line))
        rules[program] = "\n".join(kept)
    return rules


def snapshot(host):
    """nftables, iptables, eBPF programs, policy rules and routes of every table, and every network sysctl."""
    commands = (("ip", "-4", "rule"), ("ip", "-6", "rule"),
                ("ip", "-4", "route", "show", "table", "all"), ("ip", "-6", "route", "show", "table", "all"))
    state = {" ".join(command): host.run(*command).stdout for command in commands}
    state["nft list ruleset"] = _UNUSED.sub("", host.run("nft", "--stateless", "list", "ruleset").stdout)
    state.update(iptables_rules(host))
    state["eBPF"] = "\n".join(ebpf_state.attached(host))
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
    """Every table, chain, jump, rule and route of Limpid's, a line each."""
    lines = [line for line in host.run("nft", "list", "tables").stdout.splitlines() if "limpid" in line]
    for program, rules in iptables_rules(host).items():
        lines += [f"{program} {line}" for line in rules.splitlines() if "limpid" in line]
    lines += ebpf_state.attached(host)
    for family in ("-4", "-6"):
        lines += [line for line in host.run("ip", family, "-details", "rule").stdout.splitlines()
                  if f"proto {ROUTE_PROTOCOL}" in line]
        # exits with 2 where no table has such a route
        lines += host.run("ip", family, "route", "show", "table", "all", "proto", ROUTE_PROTOCOL,
                          check=False).stdout.splitlines()
    return lines
