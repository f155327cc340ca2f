#!/bin/sh
# Fuzzes the readers of files for longer than verify does: fuzz.sh INPUTS|HOURSh [TARGET...], e.g. fuzz.sh 1000000, or
# fuzz.sh 2h Gguf Template. Each target has a process of its own and goes on from the inputs that earlier runs found.
# What breaks a reader is left in samples/target/fuzz/TARGET and ends the script with status 1.
root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/.mvn/find-jdk.sh"
case "${1:-}" in
*[!0-9h]* | "") sed -n '2,4s/^# //p' "$0" && exit 2 ;;
*h) limit="-max_total_time=$((${1%h} * 3600))" ;;
*) limit="-runs=$1" ;;
esac
shift
work="$root/samples/target/fuzz"
mkdir -p "$work"
"$root/mvnw" -B -q -f "$root/pom.xml" -pl samples -am test-compile dependency:build-classpath -Dmdep.includeScope=test \
    -Dmdep.outputFile="$work/class-path" -Dspotless.check.skip=true || exit 2
JAVA_HOME=$(find_jdk 25 fuzzing java) || exit 2
tests="$root/samples/src/test/java"
[ $# -gt 0 ] || set -- $(cd "$tests" && find . -name '*Fuzz.java' -exec basename {} Fuzz.java \; | sort)
failed=0
for target; do
    file=$(cd "$tests" && find . -name "${target}Fuzz.java")
    [ -n "$file" ] || { echo "there is no target $target" >&2; exit 2; }
    mkdir -p "$work/$target/inputs" "$work/$target/seeds"
    cd "$work/$target" || exit 2
    # that adapters bring regular expressions is PEFT's format; NamePattern limits them
    # the driver's exit status is that of its last input: its log says what was found
    # the devices' loops read no file, and watched at each branch they take seconds for what some adapters start from
    # -timeout is wall time, which a busy machine uses up as well: it ends endless loops; Fuzzing limits processor time
    "$JAVA_HOME/bin/java" -XX:+EnableDynamicAgentLoading -Djdk.attach.allowAttachSelf=true -XX:+UseSerialGC -Xmx512m \
        --add-modules jdk.incubator.vector,jdk.management --enable-native-access=ALL-UNNAMED --illegal-native-access=deny \
        -Dqlora4j.root="$root" -Dqlora4j.golden="$root/golden" \
        -Dqlora4j.fuzz="$(echo "${file#./}" | sed 's/\.java$//; s,/,.,g')" \
        -cp "$root/samples/target/classes:$root/samples/target/test-classes:$(cat "$work/class-path")" \
        com.code_intelligence.jazzer.Jazzer --target_class=org.qlora4j.samples.fuzz.FuzzRun \
        --disabled_hooks=com.code_intelligence.jazzer.sanitizers.RegexInjection \
        --instrumentation_includes='org.qlora4j.**' --instrumentation_excludes='org.qlora4j.nf4.device.**' \
        "$limit" -timeout=300 -rss_limit_mb=0 -print_final_stats=1 inputs seeds > log.txt 2>&1
    status=$?
    inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' log.txt | tail -n 1)
    if [ "$status" -eq 0 ]; then
        echo "$target: ${inputs:-no} inputs, nothing found"
    else
        echo "$target: ${inputs:-?} inputs, then: $(grep -m 1 -E '^== Java Exception|^==[0-9]+==|ERROR' log.txt) ($work/$target)"
        failed=1
    fi
done
exit $failed
