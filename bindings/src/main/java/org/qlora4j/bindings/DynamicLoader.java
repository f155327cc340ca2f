package org.qlora4j.bindings;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.Locale;
import java.util.Optional;

/**
 * The system's dynamic loader, called directly: {@link SymbolLookup#libraryLookup} hides why a library cannot be
 * opened, and {@link System#load} takes no bare name and binds the library to one class loader. Libraries stay open
 * until the process ends.
 */
@SuppressWarnings("restricted")
final class DynamicLoader {
    // Values of glibc on x86-64: a missing symbol shows at once, not in the middle of a computation
    private static final int RTLD_NOW = 2;
    private static final int RTLD_NOLOAD = 4;
    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT;
    private static final MemoryLayout POINTER = ValueLayout.ADDRESS;

    private static final MethodHandle DLOPEN = libc("dlopen", FunctionDescriptor.of(POINTER, POINTER, INT));
    private static final MethodHandle DLSYM = libc("dlsym", FunctionDescriptor.of(POINTER, POINTER, POINTER));
    private static final MethodHandle DLERROR = libc("dlerror", FunctionDescriptor.of(POINTER));
    private static final MethodHandle SETENV = libc("setenv", FunctionDescriptor.of(INT, POINTER, POINTER, INT));

    private DynamicLoader() {}

    /**
     * Refuses every system but Linux on x86-64 with glibc. Touches no native code before that is known.
     *
     * @throws NativeException in one sentence
     */
    static void requirePlatform(String os, String arch) {
        boolean linux = os.toLowerCase(Locale.ROOT).equals("linux");
        boolean x64 = arch.equals("amd64") || arch.equals("x86_64");
        if (!linux
                || !x64
                || Linker.nativeLinker()
                        .defaultLookup()
                        .find("gnu_get_libc_version")
                        .isEmpty()) {
            throw new NativeException(
                    "qlora4j",
                    "its native libraries run on Linux x86-64 with glibc only, and this is " + os + " " + arch
                            + (linux && x64 ? " with another C library" : ""));
        }
    }

    /**
     * Opens a library and what it depends on.
     *
     * @param file an absolute path, or a bare name for the loader's own search
     * @return its functions
     * @throws UnsatisfiedLinkError with the loader's own text
     */
    static SymbolLookup open(String file) {
        MemorySegment handle;
        MemorySegment text = MemorySegment.NULL;
        try (Arena arena = Arena.ofConfined()) {
            handle = (MemorySegment) DLOPEN.invokeExact(arena.allocateFrom(file), RTLD_NOW);
            if (handle.equals(MemorySegment.NULL)) {
                text = (MemorySegment) DLERROR.invokeExact();
            }
        } catch (RuntimeException | Error e) {
            throw e;
        } catch (Throwable e) {
            throw new AssertionError("signature of dlopen", e);
        }
        if (handle.equals(MemorySegment.NULL)) {
            boolean reason = !text.equals(MemorySegment.NULL);
            throw new UnsatisfiedLinkError(
                    reason ? text.reinterpret(Long.MAX_VALUE).getString(0) : file + ": the loader gives no reason");
        }
        return name -> find(handle, name);
    }

    /** Functions of a library that this process has loaded already, by whomever; empty if it has not. */
    static Optional<SymbolLookup> loaded(String file) {
        MemorySegment handle;
        try (Arena arena = Arena.ofConfined()) {
            handle = (MemorySegment) DLOPEN.invokeExact(arena.allocateFrom(file), RTLD_NOW | RTLD_NOLOAD);
        } catch (RuntimeException | Error e) {
            throw e;
        } catch (Throwable e) {
            throw new AssertionError("signature of dlopen", e);
        }
        return handle.equals(MemorySegment.NULL) ? Optional.empty() : Optional.of(name -> find(handle, name));
    }

    private static Optional<MemorySegment> find(MemorySegment handle, String name) {
        MemorySegment address;
        try (Arena arena = Arena.ofConfined()) {
            address = (MemorySegment) DLSYM.invokeExact(handle, arena.allocateFrom(name));
        } catch (RuntimeException | Error e) {
            throw e;
        } catch (Throwable e) {
            throw new AssertionError("signature of dlsym", e);
        }
        return address.equals(MemorySegment.NULL) ? Optional.empty() : Optional.of(address);
    }

    /** Sets an environment variable for C code unless it is set already; {@link System#getenv} does not see it. */
    static void setEnvironmentIfAbsent(String name, String value) {
        int status;
        try (Arena arena = Arena.ofConfined()) {
            status = (int) SETENV.invokeExact(arena.allocateFrom(name), arena.allocateFrom(value), 0);
        } catch (RuntimeException | Error e) {
            throw e;
        } catch (Throwable e) {
            throw new AssertionError("signature of setenv", e);
        }
        if (status != 0) {
            throw new NativeException("libc", "setenv", status, name);
        }
    }

    private static MethodHandle libc(String name, FunctionDescriptor signature) {
        Linker linker = Linker.nativeLinker();
        MemorySegment address = linker.defaultLookup()
                .find(name)
                .orElseThrow(() -> new UnsatisfiedLinkError("the C library does not export " + name));
        return linker.downcallHandle(address, signature);
    }
}
