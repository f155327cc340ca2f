package org.qlora4j.samples;

import java.util.List;
import java.util.Locale;
import java.util.function.ToIntFunction;

/** The commands: what each does and which options it takes. */
enum Command {
    SFT(
            "fine-tune a model with LoRA on a data set",
            Sft::run,
            Options.MODEL,
            Options.DATA,
            Options.TEXT,
            Options.LORA,
            Options.TRAINING,
            Options.OUTPUT,
            Options.PARALLEL,
            Options.MACHINE),
    ESTIMATE(
            "the memory sft would need with the same options, item by item",
            Estimate::run,
            Options.MODEL,
            Options.DATA,
            Options.LORA,
            Options.TRAINING,
            Options.OUTPUT,
            Options.PARALLEL,
            Options.MACHINE,
            Options.ESTIMATE),
    INFER(
            "talk to a model, with or without an adapter, or answer a data set",
            Infer::run,
            Options.MODEL,
            Options.ANSWERS,
            Options.GENERATION,
            Options.EVALUATION,
            Options.TEXT,
            Options.MACHINE),
    EVAL(
            "loss, perplexity and token accuracy on a data set",
            Eval::run,
            Options.MODEL,
            Options.EVALUATION,
            Options.COMPARISON,
            Options.GENERATION,
            Options.TEXT,
            Options.MACHINE),
    EXPORT(
            "a model, or base and adapter as one, in 4 bits or as GGUF",
            Export::run,
            Options.MODEL,
            Options.MERGE,
            Options.MACHINE),
    BENCH("the speed and memory of training and answering", Bench::run, Options.MODEL, Options.BENCH, Options.MACHINE),
    GPU_CHECK(
            "everything only a GPU can show: tests, speed of kernels and of training",
            GpuCheck::run,
            Options.GPU_CHECK,
            Options.MACHINE),
    BUNDLE("gpu-check as an archive for a machine without network or Java", Bundle::run, Options.BUNDLE),
    TEMPLATE("render a chat template, and show what would be learned", RenderTemplate::run, Options.TEMPLATE),
    DOCTOR("what was found on this machine, with a real test", Doctor::run, Options.MACHINE),
    NATIVES("fetch the native libraries and the demonstration model", Doctor::fetch, Options.NATIVES);

    final String description;
    final List<Options.Group> groups;
    private final ToIntFunction<Arguments> action;

    Command(String description, ToIntFunction<Arguments> action, Options.Group... groups) {
        this.description = description;
        this.action = action;
        this.groups = List.of(groups);
    }

    /** Its word on the command line. */
    String word() {
        return name().toLowerCase(Locale.ROOT).replace('_', '-');
    }

    static Command of(String word) {
        return valueOf(word.toUpperCase(Locale.ROOT).replace('-', '_'));
    }

    int run(Arguments arguments) {
        return action.applyAsInt(arguments);
    }
}
