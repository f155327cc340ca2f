#!/usr/bin/env bash
# Builds what is here in two other folders, of different names and at different times, and compares the SHA-256 of every jar and of the bill of materials.
# With an argument, the jars in this folder's target folders are one of the two: ./mvnw package && .ci/reproducible.sh built
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# build FOLDER: the sources, built there
build() {
    mkdir -p "$1"
    tar -c --exclude=target --exclude=./.git --exclude=./output . | tar -x -C "$1"
    (cd "$1" && ./mvnw -B -q package -DskipTests -Dspotless.check.skip=true)
}
# sums FOLDER: SHA-256 and path of what was built
sums() { (cd "$1" && sha256sum */target/*-SNAPSHOT.jar samples/target/qlora4j.cdx.json); }

first=$PWD
[ "${1:-}" = built ] || { first=$work/first; build "$first"; }
build "$work/second/of another name"
sums "$first" > "$work/first.sums"
sums "$work/second/of another name" > "$work/second.sums"
diff "$work/first.sums" "$work/second.sums" || { echo "reproducible.sh: the second build made other files" >&2; exit 1; }
cat "$work/first.sums"
echo "reproducible: $(wc -l < "$work/first.sums") files are equal in both builds"
