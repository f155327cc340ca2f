#!/bin/sh
# Faults by the hundred: kill -9 at 200 random moments each of sft, export and quantize, full and read-only disks, model
# files that change, signals, clocks, memory that is not there. Prints the table fault × tries × lost, and fails if
# anything was lost. Small disks need the right to mount; clocks that jump while training need libfaketime.
# faults.sh [tries [seed]]
cd "$(dirname "$0")/../.." || exit 2
table=$(mktemp) || exit 2
./mvnw -B -q -pl samples -am test -Dtest='KillFaultsTest,DiskFaultsTest,ProcessFaultsTest' \
    -Dsurefire.failIfNoSpecifiedTests=false -Dqlora4j.tries="${1:-200}" -Dqlora4j.seed="${2:-$(date +%s)}" \
    -Dqlora4j.faultTable="$table"
status=$?
printf '\n| fault | tries | lost | seen |\n|---|---|---|---|\n'
cat "$table"
rm -f "$table"
exit $status
