#!/bin/sh
# Formats our C++ in place.
set -eu
cd "$(dirname "$0")/.."
find src include tests examples bench \( -name '*.cc' -o -name '*.h' \) -print0 2>/dev/null | xargs -0 clang-format-19 -i
