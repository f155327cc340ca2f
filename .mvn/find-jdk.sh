# find_jdk MINIMUM PURPOSE TOOL: prints the home of a Java of at least that version that has TOOL (java or javac):
# JAVA_HOME, the java on PATH, then the usual folders.
find_jdk() {
    seen=""
    onpath=$(command -v java || true)
    [ -n "$onpath" ] && onpath=$(dirname "$(dirname "$(readlink -f "$onpath")")")
    for home in "${JAVA_HOME:-}" "$onpath" /usr/lib/jvm/* "$HOME"/.sdkman/candidates/java/* "$HOME"/.jdks/* /opt/java/* /opt/jdk*; do
        [ -n "$home" ] && [ -x "$home/bin/$3" ] && [ -f "$home/release" ] || continue
        version=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$home/release")
        [ -n "$version" ] || continue
        if [ "$version" -ge "$1" ]; then
            echo "$home"
            return 0
        fi
        case " $seen " in *" $version "*) ;; *) seen="$seen $version" ;; esac
    done
    echo "$2 needs JDK $1 or newer; seen:${seen:- none}. Install one or set JAVA_HOME." >&2
    return 1
}
