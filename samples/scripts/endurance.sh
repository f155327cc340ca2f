#!/bin/sh
# A process that lives long: 5,000 training steps, 200 models opened and closed, 20 class loaders thrown away. Prints
# resident memory, open files and threads at the end and half way; fails if they grow. endurance.sh [plot.png]
cd "$(dirname "$0")/../.." || exit 2
exec ./mvnw -B -pl samples -am test -Dtest=EnduranceTest -Dsurefire.failIfNoSpecifiedTests=false \
    -Dqlora4j.steps=5000 -Dqlora4j.models=200 -Dqlora4j.loaders=20 -Dqlora4j.endurancePlot="${1:-}"
