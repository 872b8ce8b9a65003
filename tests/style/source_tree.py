"""The files of the source tree, for the style tests: what belongs to us, without build results and other people's files."""
import os
import pathlib

ROOT = pathlib.Path(os.environ.get("LIMPID_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
OURS = ("include", "src", "bpf", "tests", "bench", "examples", "cmake", "scripts", "docs", "man", "packaging", "debian", ".ci")


def files(root=ROOT, suffixes=None):
    """Every file of ours below `root`: (path relative to root, its text), in a stable order. Files that are not text are left out."""
    found = [path for path in sorted(root.iterdir()) if path.is_file() and path.name != ".git"]
    for room in OURS:
        found += sorted(path for path in (root / room).rglob("*") if path.is_file())
    for path in found:
        relative = path.relative_to(root)
        if any(part in ("__pycache__", ".pytest_cache", "seeds") for part in relative.parts):
            continue
        if suffixes and path.suffix not in suffixes:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        yield relative, text


def make_tree(root, contents):
    """Writes a sample tree for a self-test: {"src/net/a.h": "text", …}."""
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def report(problems):
    """One readable message out of a list of them, for assert."""
    return "\n" + "\n".join(f"  {problem}" for problem in problems)
