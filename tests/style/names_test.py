"""File names: lower case with underscores in the C++ rooms, and no name that says nothing."""
import re

from source_tree import files, make_tree, report

SAYS_NOTHING = re.compile(r"(^|[_.-])(utils?|utilities|helpers?|common|managers?|misc|stuff)([_.-]|$)", re.IGNORECASE)


def bad_names(tree):
    problems = []
    for path, text in tree:
        for part in path.parts:
            if SAYS_NOTHING.search(part):
                problems.append(f"{path}: '{part}' does not say what is in it")
        if path.suffix in (".h", ".cc"):
            if not re.fullmatch(r"[a-z][a-z0-9_]*", path.stem):
                problems.append(f"{path}: C++ files are named in snake_case")
            for name in re.findall(r"^\s*(?:class|struct|namespace|enum class)\s+(\w+)\s*(?:final\s*)?[:{]", text, re.MULTILINE):
                if re.search(r"(Util|Helper|Common|Manager)s?$", name) or SAYS_NOTHING.search(name):
                    problems.append(f"{path}: the name {name} does not say what it does")
    return problems


def test_names_say_something():
    problems = bad_names(files())
    assert not problems, report(problems)


def test_bad_names_are_found(tmp_path):
    tree = make_tree(tmp_path, {
        "src/net/util.cc": "",
        "src/net/string_helpers.h": "",
        "src/common/a.cc": "",
        "src/net/FlowTable.cc": "",
        "src/net/flow.cc": "class FlowManager {\n};\n",
        "src/net/utilisation.cc": "struct Flow {\n};\n",
    })
    problems = bad_names(files(tree))
    assert len(problems) == 5, report(problems)
