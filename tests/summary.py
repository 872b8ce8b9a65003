#!/usr/bin/python3
"""Counts the cases of finished test runs and ends with the line `N passed, N failed, N skipped`.

Usage: summary.py [--passed TEXT] [--failed TEXT] [--note TEXT] [--partial SUITE=DIRECTORY] [SUITE=DIRECTORY …]

A DIRECTORY holds ctest's own report (ctest.xml), one JUnit file per ctest entry (GoogleTest and pytest write both of them) and
sanitizer reports. ctest decides which entries there were; an entry that failed without a failed case of its own (a crash, a
timeout, a leak found at exit) is one failure more. Of a --partial run, which was cut off, what had finished counts. The exit status is 0 when something passed and nothing failed.
"""
import argparse
import collections
import pathlib
import sys
import xml.etree.ElementTree as ElementTree


class Counts:
    """What was found so far; reasons for skips are counted, because many cases share one."""

    def __init__(self):
        self.passed = 0
        self.failures = []
        self.skips = collections.Counter()

    def skipped(self):
        return sum(self.skips.values())


def first_line(text):
    """The first line of a message that says something; GoogleTest puts file:line in front of it."""
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    if not lines:
        return "no reason given"
    if len(lines) > 1 and (lines[0].rsplit(":", 1)[-1].isdigit() or lines[0] == "AssertionError:"):
        return lines[1]
    return lines[0].removeprefix("Skipped: ")


def add_cases(counts, entry, path):
    """Adds the cases of one JUnit file. Returns how many there were and how many of them failed."""
    cases = failed = 0
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        cases += 1
        name = f"{entry}: {case.get('classname', '').rsplit('.', 1)[-1]}.{case.get('name')}"
        problem = case.find("failure")
        if problem is None:
            problem = case.find("error")
        skip = case.find("skipped")
        if problem is not None:
            failed += 1
            counts.failures.append(f"{name}: {first_line(problem.get('message') or problem.text)}")
        elif skip is not None:
            counts.skips[f"{entry}: {first_line(skip.get('message') or skip.text)}"] += 1
        elif case.get("status") == "notrun":
            counts.skips[f"{entry}: disabled in the source"] += 1
        else:
            counts.passed += 1
    return cases, failed


def add_suite(counts, suite, directory):
    """Adds one run of ctest with all that belongs to it."""
    report = directory / "ctest.xml"
    if not report.is_file():
        counts.failures.append(f"{suite}: did not run to its end ({report} is missing)")
        return
    for entry in ElementTree.parse(report).getroot().iter("testcase"):
        name = entry.get("name")
        details = directory / f"{name}.xml"
        cases = failed = 0
        if details.is_file():
            try:
                cases, failed = add_cases(counts, f"{suite} {name}", details)
            except ElementTree.ParseError as error:
                counts.failures.append(f"{suite} {name}: unreadable results: {error}")
                continue
        went_well = entry.get("status") == "run"
        if not went_well and failed == 0:
            problem = entry.find("failure")
            why = problem.get("message") if problem is not None else None
            counts.failures.append(f"{suite} {name}: ended abnormally: {why or entry.get('status')}")
        elif went_well and cases == 0:
            counts.failures.append(f"{suite} {name}: ran no test case")
    add_sanitizer_reports(counts, suite, directory)


def add_partial_suite(counts, suite, directory):
    """Adds what a run had finished when it was cut off: ctest has written no report then."""
    for details in sorted(directory.glob("*.xml")):
        try:
            add_cases(counts, f"{suite} {details.stem}", details)
        except ElementTree.ParseError:
            pass  # cut off while it was being written
    add_sanitizer_reports(counts, suite, directory)


def add_sanitizer_reports(counts, suite, directory):
    """Each report of a sanitizer is a failure, whatever became of the program that wrote it."""
    for found in sorted((directory / "sanitizer").glob("*")):
        lines = found.read_text(errors="replace").splitlines()
        heading = next((line for line in lines if "ERROR:" in line or "WARNING:" in line or "runtime error" in line), "")
        counts.failures.append(f"{suite} sanitizer report {found}: {heading.strip()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passed", action="append", default=[], help="something else that passed")
    parser.add_argument("--failed", action="append", default=[], help="something else that failed")
    parser.add_argument("--note", action="append", default=[], help="something that was left out, to be said and counted as skipped")
    parser.add_argument("--partial", action="append", default=[], metavar="SUITE=DIRECTORY", help="a run that was cut off")
    parser.add_argument("suites", nargs="*", metavar="SUITE=DIRECTORY")
    arguments = parser.parse_args()

    counts = Counts()
    counts.passed += len(arguments.passed)
    counts.failures += arguments.failed
    for note in arguments.note:
        counts.skips[note] += 1
    runs = [(suite, add_suite) for suite in arguments.suites] + [(suite, add_partial_suite) for suite in arguments.partial]
    for suite, add in runs:
        name, _, directory = suite.partition("=")
        before = counts.passed, len(counts.failures), counts.skipped()
        add(counts, name, pathlib.Path(directory))
        after = counts.passed, len(counts.failures), counts.skipped()
        passed, failed, skipped = (new - old for new, old in zip(after, before))
        if len(runs) > 1:
            print(f"{name}: {passed} passed, {failed} failed, {skipped} skipped")

    if counts.skips:
        print("Skipped:")
        for reason, times in sorted(counts.skips.items()):
            print(f"  {times:4} × {reason}")
    if counts.failures:
        print("Failed:")
        for failure in counts.failures:
            print(f"  {failure}")
    print(f"{counts.passed} passed, {len(counts.failures)} failed, {counts.skipped()} skipped")
    return 0 if counts.passed and not counts.failures else 1


if __name__ == "__main__":
    sys.exit(main())
