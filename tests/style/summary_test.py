"""The summary of a test run (tests/summary.py) counts what happened, and nothing that went wrong gets lost in it."""
import pathlib
import subprocess

SUMMARY = pathlib.Path(__file__).resolve().parent.parent / "summary.py"

CASES = """<testsuites><testsuite>
<testcase name="a" classname="T" status="run" result="completed"/>
<testcase name="b" classname="T" status="run" result="skipped"><skipped message="x_test.cc:7&#x0A;no IPv6 here"/></testcase>
<testcase name="c" classname="T" status="run" result="skipped"><skipped message="x_test.cc:9&#x0A;no IPv6 here"/></testcase>
%s</testsuite></testsuites>"""
FAILURE = '<testcase name="d" classname="T"><failure message="x_test.cc:11&#x0A;Expected: 1"/></testcase>'


def suite(directory, entries, details):
    """A finished run: {entry: ctest's verdict}, {entry: its JUnit file}."""
    (directory / "sanitizer").mkdir()
    cases = "".join(f'<testcase name="{name}" status="{status}"/>' for name, status in entries.items())
    (directory / "ctest.xml").write_text(f"<testsuite>{cases}</testsuite>")
    for name, text in details.items():
        (directory / f"{name}.xml").write_text(text)
    return f"dev={directory}"


def summary(*arguments):
    done = subprocess.run(["/usr/bin/python3", SUMMARY, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


def test_skips_are_counted_with_their_reasons(tmp_path):
    status, lines = summary(suite(tmp_path, {"unit": "run"}, {"unit": CASES % ""}))
    assert (status, lines[-1]) == (0, "1 passed, 0 failed, 2 skipped")
    assert any("2 × dev unit: no IPv6 here" in line for line in lines)


def test_a_failed_case_fails_the_run_and_is_named(tmp_path):
    status, lines = summary(suite(tmp_path, {"unit": "fail"}, {"unit": CASES % FAILURE}))
    assert (status, lines[-1]) == (1, "1 passed, 1 failed, 2 skipped")
    assert any("dev unit: T.d: Expected: 1" in line for line in lines)


def test_a_crash_without_results_is_a_failure(tmp_path):
    status, lines = summary(suite(tmp_path, {"unit": "run", "kernel": "fail"}, {"unit": CASES % ""}))
    assert (status, lines[-1]) == (1, "1 passed, 1 failed, 2 skipped")


def test_a_program_that_fails_after_its_last_case_is_a_failure(tmp_path):
    assert summary(suite(tmp_path, {"unit": "fail"}, {"unit": CASES % ""}))[0] == 1


def test_a_program_without_cases_is_a_failure(tmp_path):
    assert summary(suite(tmp_path, {"unit": "run"}, {}))[0] == 1


def test_a_run_that_never_happened_is_a_failure(tmp_path):
    assert summary(f"dev={tmp_path}")[0] == 1


def test_nothing_at_all_is_no_success():
    assert summary()[0] == 1


def test_a_sanitizer_report_is_a_failure_even_if_every_case_passed(tmp_path):
    arguments = suite(tmp_path, {"unit": "run"}, {"unit": CASES % ""})
    (tmp_path / "sanitizer" / "report.7").write_text("==7==ERROR: AddressSanitizer: heap-use-after-free\n")
    status, lines = summary(arguments)
    assert (status, lines[-1]) == (1, "1 passed, 1 failed, 2 skipped")


def test_what_was_left_out_is_said_and_counted(tmp_path):
    status, lines = summary("--note", "tsan: left out for want of time", suite(tmp_path, {"unit": "run"}, {"unit": CASES % ""}))
    assert (status, lines[-1]) == (0, "1 passed, 0 failed, 3 skipped")
    assert any("tsan: left out" in line for line in lines)


def test_what_a_cut_off_run_had_finished_counts(tmp_path):
    suite(tmp_path, {}, {"unit": CASES % FAILURE})
    (tmp_path / "ctest.xml").unlink()
    status, lines = summary("--passed", "lint", "--partial", f"asan={tmp_path}")
    assert (status, lines[-1]) == (1, "2 passed, 1 failed, 2 skipped")
