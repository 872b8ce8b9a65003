"""Which room may include which: dependencies point one way (docs/architecture.md), and the public headers stand alone."""
import re

from source_tree import files, make_tree, report

# room: the rooms whose headers it may include. The public headers (limpid/…) are open to all.
MAY_INCLUDE = {
    "base": set(),
    "bpf": set(),
    "net": {"base"},
    "policy": {"base", "net"},
    "config": {"base", "net", "policy"},
    "proxies": {"base", "net", "policy"},
    "sniff": {"base"},
    "upstream": {"base", "net"},
    "cutthrough": {"base", "net", "bpf"},  # bpf/cut_through_layout.h: the maps' values
    "relay": {"base", "net", "policy", "sniff", "upstream"},
    "intercept": {"base", "net", "policy", "bpf"},  # bpf/layout.h: the maps' values
    "control": {"base"},
    "capture": {"base", "net"},
    "dashboard": {"base", "control"},
    "top": {"base"},
    "sysdump": {"base", "net", "control"},
    "doctor": {"base", "net", "policy", "intercept", "cutthrough", "lab"},
    "explain": {"bpf", "base", "net", "policy", "intercept"},
    "lab": {"base", "net"},
    "netcat": {"base", "net"},
    "exec": {"base", "net"},
    "service": {"base", "net", "policy", "sniff", "upstream", "relay", "intercept", "cutthrough", "control", "dashboard"},
    "cli": {"base", "net", "policy", "config", "sniff", "upstream", "relay", "intercept", "cutthrough", "proxies", "control", "capture", "dashboard", "service", "doctor", "explain", "lab", "netcat", "exec", "top", "sysdump"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.MULTILINE)


def wrong_arrows(tree):
    problems = []
    for path, text in tree:
        if path.suffix not in (".h", ".cc"):
            continue
        includes = [match.groups() for match in INCLUDE.finditer(text)]
        if path.parts[0] == "include":
            for _, name in includes:
                if "/" in name and not name.startswith("limpid/"):
                    problems.append(f"{path}: a public header includes {name}; only limpid/… and the standard library may stand there")
        elif path.parts[0] == "examples":
            problems += [f"{path}: an example includes {name}, which its reader does not have"
                         for quote, name in includes if quote == '"' and not name.startswith("limpid/")]
        elif path.parts[0] == "src":
            room = path.parts[1]
            if room not in MAY_INCLUDE:
                problems.append(f"{path}: room '{room}' is not in the table of include_directions_test.py")
                continue
            for quote, name in includes:
                if quote != '"':
                    continue
                first, _, rest = name.partition("/")
                if not rest:
                    problems.append(f"{path}: \"{name}\" does not name its room; write \"{room}/{name}\"")
                elif first not in {"limpid", room} | MAY_INCLUDE[room]:
                    problems.append(f"{path}: {room} must not include {first} ({name})")
    return problems


def test_includes_point_one_way():
    problems = wrong_arrows(files())
    assert not problems, report(problems)


def test_the_table_itself_has_no_circle():
    reachable = {room: set(below) for room, below in MAY_INCLUDE.items()}
    for _ in MAY_INCLUDE:
        for below in reachable.values():
            below.update(*(reachable[room] for room in set(below)))
    assert [room for room, below in reachable.items() if room in below] == []


def test_a_wrong_arrow_is_found(tmp_path):
    tree = make_tree(tmp_path, {
        "src/base/log.h": '#include "net/netlink.h"\n',
        "src/relay/pump.cc": '#include "intercept/plan.h"\n#include "policy/decision.h"\n',
        "src/net/a.cc": '#include "a.h"\n',
        "src/attic/a.cc": "",
        "include/limpid/a.h": '#include <fmt/format.h>\n#include <vector>\n#include "limpid/b.h"\n',
        "examples/a.cc": '#include "net/netlink.h"\n',
    })
    problems = wrong_arrows(files(tree))
    assert len(problems) == 6, report(problems)
    assert "relay must not include intercept" in report(problems)


def test_right_arrows_are_accepted(tmp_path):
    tree = make_tree(tmp_path, {
        "src/cli/run.cc": '#include "cli/verb.h"\n#include "service/service.h"\n#include "limpid/error.h"\n#include <CLI/CLI.hpp>\n',
        "include/limpid/a.h": '#include <sys/socket.h>\n'.replace("sys/socket.h", "vector"),
        "examples/a.cc": "#include <sys/socket.h>\n",
    })
    assert wrong_arrows(files(tree)) == []
