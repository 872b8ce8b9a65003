#!/bin/sh
# The Debian packages of this source in FOLDER, from a copy of the files that git knows (or all, without git), so that the checkout stays as it is.
# Prints their names.   scripts/make-deb.sh FOLDER
#   LIMPID_BUILD_DIRECTORY=DIRECTORY  takes what is built there instead of compiling it (debian/README.source)
#   LINTIAN=no                        does not look at them with lintian; otherwise its errors and warnings are errors
set -eu
cd "$(dirname "$0")/.."
source=$PWD
mkdir -p "${1:?usage: scripts/make-deb.sh FOLDER}"
folder=$(cd "$1" && pwd)

version=$(sed -n 's/^project(limpid VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
if ! head -1 debian/changelog | grep -q "^limpid (${version}[-)]"; then
  echo "make-deb: debian/changelog does not begin with version $version of CMakeLists.txt: dch -v $version-1" >&2
  exit 1
fi

case $folder/ in
  "$source"/build/*) ;;
  "$source"/*) echo "make-deb: give a folder in build/, or outside of the source" >&2; exit 2 ;;
esac
tree=$(mktemp -d "$folder/limpid-build.XXXXXX")
if [ -n "${LIMPID_BUILD_DIRECTORY-}" ]; then
  LIMPID_BUILD_DIRECTORY=$(cd "$LIMPID_BUILD_DIRECTORY" && pwd)
  export LIMPID_BUILD_DIRECTORY
fi
rm -f "$folder"/limpid_*.deb "$folder"/liblimpid*.deb "$folder"/limpid*_*.changes "$folder"/limpid*_*.buildinfo
if git -C "$source" rev-parse --is-inside-work-tree >/dev/null 2>&1; then
  git ls-files -z --cached --others --exclude-standard
else
  find . -path ./build -prune -o -type f -print0
fi | tar --null --files-from=- --ignore-failed-read -cf - 2>/dev/null | tar -xf - -C "$tree"

(cd "$tree" && dpkg-buildpackage --no-sign --build=binary --no-check-builddeps --no-pre-clean >"$folder/build.log" 2>&1) || {
  tail -40 "$folder/build.log" >&2
  exit 1
}
rm -rf "$tree"
if [ "${LINTIAN-yes}" != no ]; then lintian --fail-on error,warning --tag-display-limit 0 "$folder"/limpid_*.changes >&2; fi
ls "$folder"/limpid_*.deb "$folder"/liblimpid*.deb
