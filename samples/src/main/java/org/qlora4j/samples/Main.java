package org.qlora4j.samples;

import java.io.UncheckedIOException;
import java.util.List;
import org.qlora4j.bindings.NativeException;
import org.qlora4j.lora.model.UnsupportedModelException;
import org.qlora4j.lora.text.jinja.TemplateException;
import org.qlora4j.nf4.device.OutOfDeviceMemoryException;
import org.qlora4j.nf4.file.ModelFormatException;
import picocli.CommandLine;
import picocli.CommandLine.ParseResult;

/** The command line's entry: {@code qlora COMMAND …}. */
public final class Main {
    private Main() {}

    public static void main(String[] args) {
        System.exit(run(List.of(args)));
    }

    /** Runs a command; 0 if it worked, 2 for a user's mistake. */
    static int run(List<String> words) {
        CommandLine line = CommandLines.all();
        try {
            ParseResult all = CommandLines.parse(line, words);
            ParseResult one = all.subcommand();
            if (all.isUsageHelpRequested() || one == null) {
                line.usage(System.out);
                return all.isUsageHelpRequested() ? 0 : 2;
            }
            if (one.isUsageHelpRequested()) {
                one.commandSpec().commandLine().usage(System.out);
                return 0;
            }
            Command command = Command.of(one.commandSpec().name());
            return command.run(Arguments.of(command, one));
        } catch (RuntimeException | OutOfMemoryError e) {
            if (!isUsersMistake(e)) {
                throw e;
            }
            Progress.end();
            System.err.println("qlora: ".concat(Advice.sentence(e)));
            return 2;
        }
    }

    /** Whether a sentence says all, and no stack trace is wanted. */
    static boolean isUsersMistake(Throwable e) {
        return e instanceof UserException
                || e instanceof IllegalArgumentException
                || e instanceof ModelFormatException
                || e instanceof UnsupportedModelException
                || e instanceof NativeException
                || e instanceof TemplateException
                || e instanceof UncheckedIOException
                || e instanceof OutOfDeviceMemoryException
                || e instanceof OutOfMemoryError
                || e instanceof ArithmeticException;
    }
}
