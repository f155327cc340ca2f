package org.qlora4j.bindings.symbols;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;

/**
 * The symbols of one library, for the generated classes: each library has its own, since the CPU and CUDA builds of
 * libbitsandbytes export functions of the same names.
 */
public final class LibrarySymbols {
    private static final Map<String, LibrarySymbols> BY_FILE = new ConcurrentHashMap<>();

    private record Source(String path, SymbolLookup symbols) {}

    private final String file;
    private volatile @Nullable Source source;

    private LibrarySymbols(String file) {
        this.file = file;
    }

    /** The symbols of the library with this file name, opened or not yet. */
    public static LibrarySymbols of(String file) {
        return BY_FILE.computeIfAbsent(file, LibrarySymbols::new);
    }

    /** Says where the library was opened. The first one stays: addresses of it may be in use. */
    public synchronized void opened(String path, SymbolLookup symbols) {
        if (source == null) {
            source = new Source(path, symbols);
        }
    }

    /** Whether the library is open and has the function. */
    public boolean has(String function) {
        Source open = source;
        return open != null && open.symbols().find(function).isPresent();
    }

    /**
     * The address of a function.
     *
     * @throws UnsatisfiedLinkError if the library is not open or has no such function; says which file was asked
     */
    public MemorySegment find(String function) {
        Source open = source;
        if (open == null) {
            throw new UnsatisfiedLinkError(function + ": " + file + " is not open");
        }
        return open.symbols()
                .find(function)
                .orElseThrow(() -> new UnsatisfiedLinkError(open.path() + " does not export " + function));
    }
}
