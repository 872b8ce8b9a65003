#!/bin/sh
# Runs every fuzzer of the fuzz preset for SECONDS each, two at a time. Usage: scripts/run-fuzzers.sh SECONDS
# What they learn stays in build/fuzz/corpus; a crash leaves its input in build/fuzz/crashes and the exit status is 1.
set -eu
seconds=$1
cd "$(dirname "$0")/.."
mkdir -p build/fuzz/crashes build/fuzz/logs

status=0
# shellcheck disable=SC2016  # $1 and $2 are the inner shell's
printf '%s\n' build/fuzz/tests/fuzz/*_fuzz | xargs -P 2 -I '{}' sh -c '
  name=$(basename "$1")
  mkdir -p "build/fuzz/corpus/$name"
  seeds="tests/fuzz/seeds/${name%_fuzz}"
  [ -d "$seeds" ] || seeds=
  if "$1" "build/fuzz/corpus/$name" $seeds -max_total_time="$2" -timeout=5 -rss_limit_mb=1024 -max_len=4096 \
      -artifact_prefix="build/fuzz/crashes/$name-" -print_final_stats=1 > "build/fuzz/logs/$name" 2>&1 </dev/null
  then
    echo "$name: $(sed -n "s/^stat::number_of_executed_units: *//p" "build/fuzz/logs/$name") inputs, no finding"
  else
    echo "$name: FAILED"
    tail -n 60 "build/fuzz/logs/$name"
    exit 1
  fi' sh '{}' "$seconds" || status=1
exit $status
