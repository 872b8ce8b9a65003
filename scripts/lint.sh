#!/bin/bash
# Everything that is checked without running our code. Usage: scripts/lint.sh [FILE.cc …] (default: all of them)
# Needs a configured lint preset. Each check runs even if one before it failed; the exit status is 1 if any did.
set -u
cd "$(dirname "$0")/.." || exit 1
status=0

say() { printf '%-22s %s\n' "$1" "$2"; }
check() { # check NAME COMMAND…: silent when all is well
  local name=$1 output
  shift
  local start=$SECONDS
  if output=$("$@" 2>&1); then
    say "$name" "ok ($((SECONDS - start)) s)"
  else
    say "$name" "FAILED"
    printf '%s\n' "$output"
    status=1
  fi
}

mapfile -t ours < <(find src include tests examples bench -name '*.cc' -o -name '*.h' 2>/dev/null | sort)
mapfile -t scripts < <(grep -lE '^#!/bin/(ba)?sh' -r scripts .ci packaging debian tests bench examples 2>/dev/null | sort)
mapfile -t python < <(find scripts tests bench examples -name '*.py' 2>/dev/null | sort)

check clang-format clang-format-19 --dry-run -Werror "${ours[@]}"
if ((${#scripts[@]})); then check shellcheck shellcheck "${scripts[@]}"; fi
if ((${#python[@]})); then
  check "python compiles" /usr/bin/python3 -c 'import ast, sys
for name in sys.argv[1:]: ast.parse(open(name).read(), name)' "${python[@]}"
  check pyflakes pyflakes3 "${python[@]}"
fi
check "eBPF programs" cmake --build build/lint --target bpf_skeletons  # clang-tidy reads their headers
check "headers alone (clang)" cmake --build build/lint --target headers_alone
check clang-tidy scripts/clang_tidy.py "$@"
exit $status
