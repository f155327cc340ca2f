#!/bin/sh
# Checks that take too long for verify: 50 random kill -9 moments of a training run, each resumed to the same bits,
# and 2 GiB of paged optimizer state stepped without anonymous memory. Prints what they measured.
cd "$(dirname "$0")/../.." || exit 2
exec ./mvnw -B -pl nf4,optim -am test -Dtest='KillTest,PagedStateTest' -Dsurefire.failIfNoSpecifiedTests=false \
    -Dqlora4j.kills="${1:-50}" -Dqlora4j.pagedMiB=2048 -Dqlora4j.killSeed="${2:-$(date +%s)}"
