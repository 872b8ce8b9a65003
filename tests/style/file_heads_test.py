"""How a C++ file begins: at most five comment lines that say what it is for (a stateful file's theory of operation may follow after an
empty comment line), then #pragma once in headers; its own header first."""
import re

from source_tree import files, make_tree, report


def problems_of(path, text):
    lines = text.splitlines()
    head = 0
    while head < len(lines) and lines[head].startswith("//"):
        head += 1
    first_paragraph = next((number for number in range(head) if lines[number].strip() == "//"), head)
    if not 1 <= first_paragraph <= 5:
        yield (f"{path}: opens with {first_paragraph} comment lines; one to five say what it owns, who calls it, what it never does "
               "(after an empty comment line, a theory of operation may follow)")
    elif len(" ".join(lines[:first_paragraph])) < 30:
        yield f"{path}: its opening comment says too little"
    code = [line for line in lines[head:] if line.strip()]
    if path.suffix == ".h":
        if not code or code[0] != "#pragma once":
            yield f"{path}: #pragma once must follow the opening comment"
        if text.count("#pragma once") > 1:
            yield f"{path}: #pragma once stands there twice"
    if re.search(r"^\s*using\s+namespace\s+(?!std::(literals|string_literals|string_view_literals|chrono_literals)\s*;)", text, re.MULTILINE):
        yield f"{path}: using namespace; name what you use (the standard literals excepted)"
    if re.search(r"^#\s*ifndef\s+\w+_H_?\b", text, re.MULTILINE):
        yield f"{path}: include guards; use #pragma once"


def own_header_is_not_first(path, text, headers):
    """src/net/prefix.cc implements limpid/prefix.h or net/prefix.h: that stands first, so that it is known to compile alone."""
    if path.suffix != ".cc" or path.parts[0] != "src":
        return None
    candidates = {f"{path.parts[1]}/{path.stem}.h", f"limpid/{path.stem}.h"} & headers
    first = re.search(r'^#include ["<]([^">]+)[">]', text, re.MULTILINE)
    if candidates and first and first.group(1) not in candidates:
        return f"{path}: {' or '.join(sorted(candidates))} must be its first #include"
    return None


def all_problems(tree):
    sources = [(path, text) for path, text in tree if path.suffix in (".h", ".cc")]
    headers = {"/".join(path.parts[1:]) for path, _ in sources if path.suffix == ".h"}
    found = []
    for path, text in sources:
        found += problems_of(path, text)
        own = own_header_is_not_first(path, text, headers)
        if own:
            found.append(own)
    return found


def test_every_file_opens_as_it_should():
    problems = all_problems(files())
    assert not problems, report(problems)


def test_bad_heads_are_found(tmp_path):
    head = "// Says what this file is for, in a whole line.\n// And a second one.\n"
    tree = make_tree(tmp_path, {
        "src/net/headless.cc": "#include <vector>\n",
        "src/net/talkative.cc": "// word word word word word\n" * 6,
        "src/net/terse.cc": "// Sockets.\n",
        "src/net/unguarded.h": head + "#include <vector>\n",
        "src/net/open.cc": head + "using namespace std;\n",
        "src/net/own.h": head + "#pragma once\n",
        "src/net/own.cc": head + '#include <vector>\n#include "net/own.h"\n',
        "src/net/theory.cc": head + "//\n" + "// How it works.\n" * 20,
        "src/net/fine.cc": head + '#include <vector>\nusing namespace std::chrono_literals;\n',
    })
    problems = all_problems(files(tree))
    assert len(problems) == 6, report(problems)
    assert not any("fine.cc" in problem or "theory.cc" in problem for problem in problems)
