package org.qlora4j.samples;

import java.util.List;
import java.util.Optional;
import java.util.Set;
import picocli.CommandLine;
import picocli.CommandLine.Help;
import picocli.CommandLine.Model.ArgGroupSpec;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.Model.PositionalParamSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ParseResult;
import picocli.CommandLine.UnmatchedArgumentException;

/** What picocli is told: the commands and their options, made from {@link Command} and {@link Options}. */
final class CommandLines {
    /** The configuration file's key in the result. */
    static final String FILE = "FILE";

    private CommandLines() {}

    /** The whole command line. */
    static CommandLine all() {
        CommandSpec spec = CommandSpec.create().name("qlora");
        spec.usageMessage()
                .description("QLoRA fine-tuning for the JVM.")
                .footer("", "Each command lists its options with --help.");
        spec.addOption(help());
        for (Command command : Command.values()) {
            spec.addSubcommand(command.word(), of(command));
        }
        return configured(new CommandLine(spec));
    }

    /** One command. */
    static CommandLine of(Command command) {
        CommandSpec spec = CommandSpec.create().name(command.word());
        spec.usageMessage()
                .description(command.description)
                .customSynopsis("qlora " + command.word() + " [FILE.yaml] [--name value …]")
                .sortOptions(false)
                .width(132)
                .longOptionsMaxWidth(38);
        spec.addPositional(PositionalParamSpec.builder()
                .paramLabel(FILE)
                .index("0")
                .arity("0..1")
                .type(String.class)
                .description("YAML or JSON file of options; those on the command line override it")
                .build());
        spec.addOption(OptionSpec.builder("--config")
                .paramLabel(FILE)
                .type(String.class)
                .description("the same")
                .build());
        spec.addOption(help());
        for (Options.Group group : command.groups) {
            ArgGroupSpec.Builder section =
                    ArgGroupSpec.builder().validate(false).heading("%n" + group.heading() + ":%n");
            group.options().forEach(option -> section.addArg(of(option)));
            spec.addArgGroup(section.build());
        }
        return configured(new CommandLine(spec));
    }

    /** @throws UserException in one sentence, with picocli's suggestions */
    static ParseResult parse(CommandLine line, List<String> words) {
        try {
            return line.parseArgs(words.stream().map(CommandLines::present).toArray(String[]::new));
        } catch (UnmatchedArgumentException e) {
            throw new UserException(unknown(e.getCommandLine(), words, e));
        } catch (ParameterException e) {
            throw new UserException(String.valueOf(e.getMessage()).replace('\n', ' '));
        }
    }

    private static String unknown(CommandLine line, List<String> words, UnmatchedArgumentException e) {
        Optional<String> option = words.stream()
                .map(CommandLines::present)
                .filter(word -> word.startsWith("--"))
                .map(word -> word.replaceFirst("=.*", ""))
                .filter(word -> line.getCommandSpec().findOption(word) == null)
                .findFirst();
        if (option.isPresent()) {
            return unknownOption(line, option.get());
        }
        Set<String> commands = line.getSubcommands().keySet();
        String word = String.join(" ", e.getUnmatched());
        return commands.isEmpty()
                ? "expected an option that begins with --, found '" + word + "'"
                : "there is no command '" + word + "'; there are: " + String.join(", ", commands);
    }

    /** There is no such option, but perhaps others like it. */
    static String unknownOption(CommandLine line, String option) {
        List<String> near = new UnmatchedArgumentException(line, List.of(option)).getSuggestions();
        return "there is no option " + option
                + (near.isEmpty() ? "" : "; did you mean " + String.join(", ", near) + "?");
    }

    /** A word of the command line with the option's present name. */
    private static String present(String word) {
        if (!word.startsWith("--")) {
            return word;
        }
        int end = word.indexOf('=') < 0 ? word.length() : word.indexOf('=');
        return "--" + Options.presentName(word.substring(2, end)) + word.substring(end);
    }

    private static OptionSpec of(Option option) {
        String fallback = option.fallback().isEmpty() ? "" : " (" + option.fallback() + ")";
        return OptionSpec.builder("--" + option.name())
                .arity(option.kind().arity)
                .type(List.class)
                .auxiliaryTypes(String.class)
                .paramLabel(option.kind().label)
                .hideParamSyntax(true)
                .description((option.description() + fallback).replace("%", "%%"))
                .build();
    }

    private static OptionSpec help() {
        return OptionSpec.builder("--help", "-h")
                .usageHelp(true)
                .description("show this")
                .build();
    }

    private static CommandLine configured(CommandLine line) {
        line.getCommandSpec().parser().unmatchedOptionsAllowedAsOptionParameters(false);
        return line.setExpandAtFiles(false)
                .setInterpolateVariables(false)
                .setOverwrittenOptionsAllowed(true)
                .setColorScheme(Help.defaultColorScheme(Help.Ansi.OFF));
    }
}
