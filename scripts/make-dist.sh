#!/bin/sh
# The source of the commit that is checked out, as FOLDER/limpid-VERSION.tar.xz: the same bytes wherever and whenever it is made, by the same git and xz.
# Prints its name.   scripts/make-dist.sh FOLDER
set -eu
cd "$(dirname "$0")/.."
folder=${1:?usage: scripts/make-dist.sh FOLDER}

if ! git rev-parse --verify --quiet HEAD >/dev/null; then
  echo "make-dist: this is no git checkout; an archive is made of a commit" >&2
  exit 1
fi
if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
  echo "make-dist: there are changes that are not committed: they are not in the archive" >&2
fi
version=$(git show HEAD:CMakeLists.txt | sed -n 's/^project(limpid VERSION \([0-9.]*\).*/\1/p')
mkdir -p "$folder"
archive=$folder/limpid-$version.tar.xz
# Times are the commit's; owner and modes do not depend on who makes it. One thread, because xz cuts blocks by their number.
git -c tar.umask=0022 -c core.autocrlf=false archive --format=tar --prefix="limpid-$version/" HEAD > "$archive.part.tar"
trap 'rm -f "$archive.part.tar" "$archive.part"' EXIT
xz -6 --threads=1 --stdout "$archive.part.tar" > "$archive.part"
mv "$archive.part" "$archive"
echo "$archive"
