#!/bin/sh
# Runs every test of one built preset and ends with the summary. Usage: scripts/run-tests.sh PRESET [ctest options]
set -eu
preset=$1
shift
cd "$(dirname "$0")/.."
results=build/$preset/test-results
rm -rf "$results"
mkdir -p "$results/sanitizer"
chmod 1777 "$results/sanitizer" # tests that give up root write their reports too

# Sanitizers map their shadow memory at fixed addresses, which much address randomisation (vm.mmap_rnd_bits=32) makes fail.
fixed_addresses=
case $preset in
  asan | tsan) if setarch -R true 2>/dev/null; then fixed_addresses='setarch -R'; fi ;;
esac

# ctest's verdicts are in its report; the summary counts cases and decides the exit status.
# Most tests wait more than they compute: five at a time keep two cores busy.
$fixed_addresses ctest --test-dir "build/$preset" --parallel "${LIMPID_TEST_JOBS:-5}" --output-on-failure \
  --output-junit "$PWD/$results/ctest.xml" --no-tests=error "$@" </dev/null || true
exec /usr/bin/python3 tests/summary.py "$preset=$results"
