"""docs/known-problems.md names tests that exist: each file, and each test in it."""
import re

from source_tree import ROOT, make_tree, report

PAGE = "docs/known-problems.md"
TEST = re.compile(r"^def (test_\w+)", re.MULTILINE)


def rows(text):
    """(what goes wrong, what shows it) of each row of the table."""
    cells = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| ")]
    return [(row[0], row[-1]) for row in cells[1:]]


def unknown_tests(root):
    text = (root / PAGE).read_text(encoding="utf-8")
    folder = root / "tests/netns"
    problems = []
    table = rows(text)
    if not table:
        problems.append(f"{PAGE}: no table")
    for what, shown_by in table:
        names = re.findall(r"`([^`]+)`", shown_by)
        files = [name for name in names if name.endswith((".py", ".cc"))]
        if not files and "all of them" not in shown_by and "the kernel tests" not in shown_by:
            problems.append(f"{PAGE}: {what[:50]}…: names no test")
        for file in files:
            if not ((root / file) if "/" in file else folder / file).is_file():
                problems.append(f"{PAGE}: {file} does not exist")
        known = {test for file in files if (folder / file).is_file() for test in TEST.findall((folder / file).read_text(encoding="utf-8"))}
        for name in names:
            if name.startswith("test_") and name not in files and name not in known:
                problems.append(f"{PAGE}: {what[:50]}…: no test {name} in {', '.join(files) or 'any file named there'}")
        if any((folder / file).is_file() for file in files) and not any(name in known for name in names):
            problems.append(f"{PAGE}: {what[:50]}…: names files, but no test")
    return problems


def test_what_shows_it_exists():
    problems = unknown_tests(ROOT)
    assert not problems, report(problems)


def test_what_does_not_exist_is_found(tmp_path):
    tree = make_tree(tmp_path, {
        "docs/known-problems.md": "| what | does | shown by |\n|---|---|---|\n| right | x | `test_a.py`: `test_one` |\n| a | x | `test_a.py`: `test_two` |\n"
                                  "| b | x | `test_b.py` |\n| c | x | golden tests |\n| d | x | `test_a.py` |\n",
        "tests/netns/test_a.py": "def test_one():\n    pass\n",
    })
    problems = unknown_tests(tree)
    assert len(problems) == 5, report(problems)
