#!/usr/bin/env bash
# Writes checksums.sha256: the SHA-256 of every jar that a build and its tests read, by downloading all of them into an empty repository.
# Run it when a dependency or plugin changes, and read the difference before you commit it.
# Every build compares (SupplyChain, among the tests of samples); Maven 3.9 and newer refuses other files before it runs them (mvnw says so to it).
set -euo pipefail
cd "$(dirname "$0")/../.."
repository=$(mktemp -d)
trap 'rm -rf "$repository"' EXIT
./mvnw -B -q clean install -Dmaven.repo.local="$repository" -Dtest=NativePackagesTest -Dsurefire.failIfNoSpecifiedTests=false -Dqlora4j.supply.skip=true
cd "$repository"
find . -name '*.jar' -not -path './org/qlora4j/*' -printf '%P\n' | LC_ALL=C sort | xargs sha256sum > checksums.sha256
cd - > /dev/null
cp "$repository/checksums.sha256" .mvn/checksums/checksums.sha256
wc -l .mvn/checksums/checksums.sha256
