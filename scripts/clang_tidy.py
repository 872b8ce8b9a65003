#!/usr/bin/python3
"""Runs clang-tidy over our C++ files, two at a time, and remembers what was clean.

Usage: scripts/clang_tidy.py [FILE.cc …]     (default: all but the fuzzers, which another preset builds)

A file whose preprocessed text was clean under the same rules is not checked again; build/lint/tidy remembers. Called by lint.sh, with
build/lint configured.
"""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "lint"
CLEAN = BUILD / "tidy"


def compile_commands():
    """The compile command of each file, as a list of words without output and compiler cache."""
    commands = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        words = shlex.split(entry["command"])
        if words[0].endswith("ccache"):
            words = words[1:]
        output = words.index("-o")
        commands[pathlib.Path(entry["file"])] = words[:output] + words[output + 2:]
    return commands


def rules():
    """What, besides its text, decides whether a file is clean."""
    version = subprocess.run(["clang-tidy-19", "--version"], stdout=subprocess.PIPE, check=True).stdout
    return version + b"".join(path.read_bytes() for path in (ROOT / ".clang-tidy", ROOT / "tests" / ".clang-tidy"))


def check(path, command, rules_text):
    """The findings in one file; empty: it is clean."""
    if command is None:
        return f"{path}: not built by the lint preset, so it cannot be checked\n"
    text = subprocess.run([word for word in command if word != "-c"] + ["-E", "-C"], cwd=BUILD, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False)
    if text.returncode != 0:
        return text.stderr.decode(errors="replace")
    stamp = CLEAN / hashlib.sha256(str(path).encode() + rules_text + text.stdout).hexdigest()
    if stamp.exists():
        return ""
    tidy = subprocess.run(["clang-tidy-19", "-p", str(BUILD), "--quiet", f"--header-filter={ROOT}/(src|include|tests)/", str(path)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if tidy.returncode != 0:
        return tidy.stdout.decode(errors="replace") or tidy.stderr.decode(errors="replace")
    stamp.touch()
    return ""


def main():
    chosen = [pathlib.Path(name).resolve() for name in sys.argv[1:]]
    if not chosen:
        chosen = sorted(path for room in ("src", "tests", "examples") for path in (ROOT / room).rglob("*.cc") if "fuzz" not in path.parts)
    CLEAN.mkdir(parents=True, exist_ok=True)
    commands = compile_commands()
    rules_text = rules()
    clean = True
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for findings in pool.map(lambda path: check(path, commands.get(path), rules_text), chosen):
            if findings:
                clean = False
                print(findings, end="", flush=True)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
