package org.qlora4j.samples;

import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandleProxies;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.util.ArrayList;
import java.util.List;

/**
 * While it is open, Ctrl-C and SIGTERM ask the work to end well; after that the process goes on to its end as usual. A
 * second Ctrl-C ends the process at once.
 */
final class Interruption implements AutoCloseable {
    /** A shell's status of a process that Ctrl-C has ended. */
    static final int CTRL_C = 128 + 2;

    private final Runnable stop;
    private final List<Runnable> undo = new ArrayList<>();
    private volatile boolean happened;
    private volatile boolean ctrlC;

    private Interruption(Runnable stop) {
        this.stop = stop;
    }

    /** @param stop asks the work to end; called on another thread, possibly more than once */
    static Interruption calls(Runnable stop) {
        Interruption interruption = new Interruption(stop);
        interruption.handle("INT", "onCtrlC");
        interruption.handle("TERM", "onTerminate");
        return interruption;
    }

    boolean happened() {
        return happened;
    }

    @SuppressWarnings("unused") // by its name
    private void onCtrlC() {
        if (ctrlC) {
            Runtime.getRuntime().halt(CTRL_C);
        }
        ctrlC = true;
        System.out.println("stopping at the next checkpoint; Ctrl-C again ends at once");
        onTerminate();
    }

    /** More than one of these are no hurry: a process that watches over this one passes on what this one got too. */
    private void onTerminate() {
        happened = true;
        stop.run();
    }

    /**
     * Has a signal call one of the methods here. A shutdown hook would be the standard's way, but cannot tell signals
     * apart, nor see a second one, nor give the process another status than the signal's. sun.misc.Signal is exported
     * by jdk.unsupported and called by reflection, as javac warns of it whatever one says.
     */
    private void handle(String name, String method) {
        try {
            Class<?> signal = Class.forName("sun.misc.Signal");
            Class<?> handler = Class.forName("sun.misc.SignalHandler");
            MethodHandle target = MethodHandles.dropArguments(
                    MethodHandles.lookup()
                            .findVirtual(Interruption.class, method, MethodType.methodType(void.class))
                            .bindTo(this),
                    0,
                    signal);
            MethodHandle install = MethodHandles.publicLookup()
                    .findStatic(signal, "handle", MethodType.methodType(handler, signal, handler));
            Object which = signal.getConstructor(String.class).newInstance(name);
            Object before = install.invoke(which, MethodHandleProxies.asInterfaceInstance(handler, target));
            undo.add(() -> restore(install, which, before));
        } catch (Throwable e) {
            System.err.println("warning: Ctrl-C and SIGTERM will not save a checkpoint here: " + e);
        }
    }

    private static void restore(MethodHandle install, Object signal, Object before) {
        try {
            Object unused = install.invoke(signal, before);
        } catch (Throwable e) {
            throw new IllegalStateException("cannot give a signal its handler back", e);
        }
    }

    /** The work has ended: signals mean again what they meant before. */
    @Override
    public void close() {
        undo.forEach(Runnable::run);
    }
}
