"""Relative links in Markdown files lead to files and headings that exist."""
import re
import urllib.parse

from source_tree import ROOT, files, make_tree, report

LINK = re.compile(r"(?<!\\)!?\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
CODE = re.compile(r"^(```|~~~).*?^\1\s*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def anchors(text):
    """The anchors of a file's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+\s+(.*?)\s*#*$", re.sub(r"^(```|~~~).*?^\1\s*$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number, candidate = 0, anchor
        while candidate in found:
            number += 1
            candidate = f"{anchor}-{number}"
        found.add(candidate)
    return found | set(re.findall(r'<a (?:id|name)="([^"]+)"', text))


def broken_links(root):
    problems = []
    for path, text in files(root, (".md",)):
        for match in LINK.finditer(CODE.sub("", text)):
            link = match.group(1) or match.group(2)
            if re.match(r"[a-z][a-z0-9+.-]*:", link):
                continue
            name, _, anchor = urllib.parse.unquote(link).partition("#")
            target = (root / name[1:]) if name.startswith("/") else (root / path).parent / name if name else root / path
            if not target.exists():
                problems.append(f"{path}: {link} does not exist")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8")):
                problems.append(f"{path}: {link}: no such heading")
    return problems


def test_links_lead_somewhere():
    problems = broken_links(ROOT)
    assert not problems, report(problems)


def test_broken_links_are_found(tmp_path):
    tree = make_tree(tmp_path, {
        "README.md": "# A: the `thing`\n[ok](docs/a.md) [ok](docs/a.md#two-words) [ok](#a-the-thing) [ok](https://example.org/x)\n"
                     "[gone](docs/b.md) [gone](docs/a.md#three)\n`[code](nowhere.md)`\n```\n[code](nowhere.md)\n```\n[ref]: nowhere.txt\n",
        "docs/a.md": "## Two words\n[up](../README.md) ![picture](missing.svg)\n",
    })
    problems = broken_links(tree)
    assert len(problems) == 4, report(problems)
