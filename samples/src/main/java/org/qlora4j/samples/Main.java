package org.qlora4j.samples;

import java.io.UncheckedIOException;
import java.util.List;
import org.qlora4j.bindings.NativeException;
import org.qlora4j.bindings.NativePackage;
import org.qlora4j.bindings.NativePackages;
import org.qlora4j.lora.model.UnsupportedModelException;
import org.qlora4j.lora.text.jinja.TemplateException;
import org.qlora4j.nf4.device.OutOfDeviceMemoryException;
import org.qlora4j.nf4.file.ModelFormatException;

/** The command line's entry: {@code qlora COMMAND …}. */
public final class Main {
    private static final String USAGE = """
            usage: qlora COMMAND [FILE.yaml] [--name value …]
              sft      fine-tune a model with LoRA on a data set
              infer    talk to a model, with or without an adapter
              eval     the loss of each row of a data set
              export   merge an adapter into its base (--merge_lora true)
              bench    the speed and memory of training and answering
              doctor   what was found on this machine, with a real test
              natives  fetch the native libraries and the demonstration model""";

    private Main() {}

    public static void main(String[] args) {
        System.exit(run(List.of(args)));
    }

    /** Runs a command; 0 if it worked, 2 for a user's mistake. */
    static int run(List<String> words) {
        if (words.isEmpty()
                || words.getFirst().equals("--help")
                || words.getFirst().equals("help")) {
            System.out.println(USAGE);
            return words.isEmpty() ? 2 : 0;
        }
        List<String> rest = words.subList(1, words.size());
        try {
            return switch (words.getFirst()) {
                case "sft" -> Sft.run(rest);
                case "infer" -> Infer.run(rest);
                case "eval" -> Eval.run(rest);
                case "export" -> Export.run(rest);
                case "bench" -> Bench.run(rest);
                case "doctor" -> Doctor.run(rest);
                case "natives" -> natives();
                default -> throw new UserException("there is no command '" + words.getFirst() + "'\n" + USAGE);
            };
        } catch (UserException
                | IllegalArgumentException
                | ModelFormatException
                | UnsupportedModelException
                | NativeException
                | TemplateException
                | UncheckedIOException
                | OutOfDeviceMemoryException
                | ArithmeticException e) {
            Progress.end();
            System.err.println("qlora: " + e.getMessage());
            return 2;
        }
    }

    private static int natives() {
        for (NativePackage wanted : NativePackage.values()) {
            System.out.println(wanted.coordinates() + " -> " + NativePackages.ensure(wanted, System.out::println));
        }
        return 0;
    }
}
