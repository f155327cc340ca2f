package org.qlora4j.bindings;

import java.lang.foreign.SymbolLookup;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.jspecify.annotations.Nullable;
import org.qlora4j.bindings.NativeFolders.Place;
import org.qlora4j.bindings.symbols.LibrarySymbols;

/**
 * Finds and opens the native libraries.
 *
 * <p>Searched in this order: the folder of system property {@code qlora4j.natives}; the folder of environment
 * QLORA4J_NATIVES; the {@linkplain CacheFolder cache}, which {@link NativePackages} fills; Python's site-packages; the
 * loader's default. A library that is in a folder the user named, but cannot be opened, ends the search: nothing else
 * is taken in its place. If all fail, the message lists every path and the loader's reason.
 */
public final class Natives {
    private static final Map<Library, Opened> OPEN = new EnumMap<>(Library.class);

    private Natives() {}

    /** The libraries, by the name for people, the file name, and the functions that must be there. */
    enum Library {
        GOMP("the OpenMP runtime", "libgomp.so.1", List.of("omp_set_num_threads")),
        ONEDNN("oneDNN", "libdnnl.so.3", List.of("dnnl_sgemm", "dnnl_version", "dnnl_get_effective_cpu_isa")),
        BITSANDBYTES(
                "bitsandbytes",
                "libbitsandbytes_cpu.so",
                List.of(
                        "cquantize_blockwise_cpu_fp32",
                        "cdequantize_blockwise_cpu_fp32",
                        "cdequantize_blockwise_cpu_nf4_fp32",
                        "cdequantize_blockwise_cpu_nf4_bf16",
                        "cdequantize_blockwise_cpu_fp4_fp32",
                        "cdequantize_blockwise_cpu_fp4_bf16",
                        "gemv_4bit_inference_cpu_nf4_bf16",
                        "has_avx512f_cpu",
                        "has_avx512bf16_cpu"));

        final String title;
        final String file;
        final List<String> functions;

        Library(String title, String file, List<String> functions) {
            this.title = title;
            this.file = file;
            this.functions = functions;
        }
    }

    /**
     * An open library.
     *
     * @param file its file name, e.g. {@code libdnnl.so.3}
     * @param path the file it was opened from, or its file name if the loader's default found it or it was loaded
     *     already
     */
    public record Opened(String file, String path) {}

    /**
     * oneDNN, opened after the OpenMP runtime that lies beside it, so that one runtime serves it and libbitsandbytes.
     *
     * @throws NativeException if it cannot be opened; a later call tries again
     */
    public static Opened oneDnn() {
        return open(Library.ONEDNN);
    }

    /**
     * libbitsandbytes' CPU library.
     *
     * @throws NativeException if it cannot be opened; a later call tries again
     */
    public static Opened bitsandbytes() {
        return open(Library.BITSANDBYTES);
    }

    /**
     * The OpenMP runtime, told before it is loaded that idle threads sleep: spinning ones fight with the Java workers
     * (libbitsandbytes alternating with another spinning pool: 2.7 to 7.6 times slower).
     *
     * @throws NativeException if it cannot be opened; a later call tries again
     */
    public static Opened openMp() {
        return open(Library.GOMP);
    }

    private static synchronized Opened open(Library library) {
        Opened open = OPEN.get(library);
        if (open == null) {
            DynamicLoader.requirePlatform(System.getProperty("os.name"), System.getProperty("os.arch"));
            open = library == Library.GOMP ? openRuntime() : openAfterRuntime(library);
            OPEN.put(library, open);
        }
        return open;
    }

    private static Opened openAfterRuntime(Library library) {
        open(Library.GOMP);
        return open(library.title, library.file, library.functions, NativeFolders.ofThisProcess());
    }

    private static Opened openRuntime() {
        String file = Library.GOMP.file;
        Optional<SymbolLookup> loaded = DynamicLoader.loaded(file);
        if (loaded.isPresent()) {
            // The loader will give the libraries this one, whatever lies beside them: settings made in a second one
            // would not reach them
            LibrarySymbols.of(file).opened(file, loaded.get());
            return new Opened(file, file);
        }
        DynamicLoader.setEnvironmentIfAbsent("OMP_WAIT_POLICY", "PASSIVE");
        DynamicLoader.setEnvironmentIfAbsent("GOMP_SPINCOUNT", "0");
        return open(Library.GOMP.title, file, Library.GOMP.functions, NativeFolders.ofThisProcess());
    }

    /** The first library with that file name that can be opened and has the functions. */
    static Opened open(String title, String file, List<String> functions, List<Place> places) {
        List<String> tried = new ArrayList<>();
        Found found = find(file, functions, places, tried);
        if (found == null) {
            throw new NativeException(
                    title,
                    "cannot open " + file + "; tried\n  " + String.join("\n  ", tried)
                            + "\nRun './qlora natives' to fetch it, or name its folder with -Dqlora4j.natives=DIR or QLORA4J_NATIVES");
        }
        return found.use(file);
    }

    /** A library that was opened, and that the generated classes do not call yet. */
    record Found(Opened opened, SymbolLookup symbols) {
        /** Lets them call it. @param name what its symbols go by, see {@link LibrarySymbols#of} */
        Opened use(String name) {
            LibrarySymbols.of(name).opened(opened.path(), symbols);
            return opened;
        }
    }

    /**
     * As {@link #open}.
     *
     * @param tried takes each path with the reason it was not taken
     * @return null if there is none
     */
    static @Nullable Found find(String file, List<String> functions, List<Place> places, List<String> tried) {
        for (Place place : places) {
            Path path = place.folder().resolve(file);
            if (!Files.isRegularFile(path)) {
                tried.add(path + ": no such file (" + place.origin() + ")");
                continue;
            }
            Found found = tryOpen(file, path.toString(), functions, tried);
            if (found != null || place.namedByUser()) {
                return found;
            }
        }
        return tryOpen(file, file, functions, tried);
    }

    private static @Nullable Found tryOpen(String file, String path, List<String> functions, List<String> tried) {
        SymbolLookup symbols;
        try {
            symbols = DynamicLoader.open(path);
        } catch (UnsatisfiedLinkError e) {
            // the loader's text names the file it means, which may be one that the library depends on
            tried.add((path.startsWith("/") ? path : "the loader's default") + ": " + e.getMessage());
            return null;
        }
        List<String> missing =
                functions.stream().filter(f -> symbols.find(f).isEmpty()).toList();
        if (!missing.isEmpty()) {
            tried.add(path + ": it is of another version or build, it does not export " + String.join(", ", missing));
            return null;
        }
        return new Found(new Opened(file, path), symbols);
    }
}
