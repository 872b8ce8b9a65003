"""One concept per file: past 500 lines, a file is split by concept."""
from source_tree import files, make_tree, report

LIMIT = 500
CODE = (".h", ".cc", ".c", ".py", ".sh", ".cmake")


def too_long(tree):
    return [f"{path}: {len(text.splitlines())} lines; split it by concept (limit {LIMIT})"
            for path, text in tree if path.suffix in CODE and len(text.splitlines()) > LIMIT]


def test_no_file_is_too_long():
    problems = too_long(files())
    assert not problems, report(problems)


def test_a_long_file_is_found(tmp_path):
    tree = make_tree(tmp_path, {"src/net/a.cc": "x\n" * (LIMIT + 1), "src/net/b.cc": "x\n" * LIMIT})
    assert len(too_long(files(tree))) == 1
