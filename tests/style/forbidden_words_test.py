"""What must not stand in the tree: paths of somebody's machine, and words about how the work was organised instead of what it is."""
import re

from source_tree import files, make_tree, report

# Split, so that this file does not contain what it looks for.
FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w.])/(wo" r"rk|ro" r"ot|ho" r"me/[a-z]+)/",
    "a number of our own tracker (say what and why instead)": r"\b(is" r"sue|tick" r"et) #?\d+\b|\(#\d+\)",
    "a word about the writing, not the program": r"(?i:\b(AI|LL" r"M)[- ](generated|written|assisted)\b|\bas (requested|discussed|instructed) (above|by)\b"
                                                 r"|\bsub-?" r"agents?\b|\bthe le" r"ad (engineer )?(will|said|wants|commits)\b)",
    "an unfinished thought (finish it, or write it down in the tracker)": r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b",
    "a merge conflict": r"^(<{7} |>{7} |={7}$)",
}


def forbidden(tree):
    problems = []
    for path, text in tree:
        if path.name in ("LICENSE",):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            for what, pattern in FORBIDDEN.items():
                found = re.search(pattern, line)
                if found:
                    problems.append(f"{path}:{number}: {what}: '{found.group()}'")
    return problems


def test_nothing_forbidden_stands_in_the_tree():
    problems = forbidden(files())
    assert not problems, report(problems)


def test_forbidden_words_are_found(tmp_path):
    tree = make_tree(tmp_path, {
        "src/net/a.cc": "// see /wo" "rk/main/notes\n// iss" "ue 12\n// TO" "DO: later\n",
        "docs/a.md": "As disc" "ussed above we do this.\n",
        "docs/b.md": "<" * 7 + " HEAD\n",
        "docs/fine.md": "haproxy#857 is an iss" "ue; a sess" "ion of UDP; /proc/sys; https://example.org/wo" "rk/a; mktemp /tmp/a.XXXXXX\n",
    })
    problems = forbidden(files(tree))
    assert len(problems) == 5, report(problems)
    assert not any("fine.md" in problem for problem in problems)
