package org.qlora4j.samples;

import java.nio.file.Path;
import java.time.Clock;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.qlora4j.bindings.Mpi;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.lora.adapter.LoraConfig;
import org.qlora4j.lora.generate.Generator;
import org.qlora4j.lora.generate.Sampling;
import org.qlora4j.lora.model.ModelSource;
import org.qlora4j.lora.text.Message;
import org.qlora4j.nf4.device.Device;
import org.qlora4j.nf4.file.AtomicFile;
import org.qlora4j.nf4.parallel.Communicator;
import org.qlora4j.optim.memory.MemoryEstimate;
import org.qlora4j.optim.report.TensorBoard;
import org.qlora4j.optim.train.Trainer;
import org.qlora4j.optim.train.TrainingConfig;
import org.qlora4j.optim.train.TrainingListener;
import org.qlora4j.optim.train.TrainingResult;

/** {@code qlora sft}: fine-tunes a model. */
final class Sft {
    private Sft() {}

    static int run(Arguments a) {
        if (!a.text("tuner_type").equals("lora")) {
            throw new UserException("tuner_type '" + a.text("tuner_type") + "' is not supported; supported: lora");
        }
        if (!Restarts.wanted(a)) {
            return Ranks.run(a, ranks -> run(a, ranks));
        }
        if (Mpi.isLaunched()) {
            throw new UserException("max_restarts cannot restart the mpirun it was started by;"
                    + " start it as ./qlora sft --launch 'mpirun -n 4' --max_restarts 3 …");
        }
        return Restarts.run(a);
    }

    private static int run(Arguments a, Communicator ranks) {
        Ranks.settleThreads(a, ranks);
        Ranks.firstOnEachMachine(ranks, () -> {
            Session.useNatives(a);
            TrainingData.Plan.of(a);
            Session.modelPath(a, Session.adapterPath(a));
        });
        TrainingData.Plan plan = TrainingData.Plan.of(a);
        LoraConfig lora = LoraOptions.config(a);
        TrainingConfig config = TrainingOptions.config(a, ranks);
        Path modelPath = Session.modelPath(a, Session.adapterPath(a));
        Ranks.agree(ranks, a, modelPath);
        Session.requireDevice(a);
        Estimate.requireRoomForModel(a, modelPath);
        try (Session session = Session.open(a, lora.loraDropout())) {
            List<String> questions = a.list("ask");
            List<String> before = ranks.isRoot() ? ask(session, questions, "before training") : List.of();
            TrainingData data = TrainingData.read(
                    plan, session.text(), session.model().config().vocabSize(), config.seed());
            LoraAdapter given = session.adapter();
            LoraAdapter adapter = given != null ? given : attach(session, lora, config.seed());
            try {
                print(adapter, data, session, config);
                train(session, adapter, a, config, data, before, ranks);
            } finally {
                if (given == null) {
                    adapter.close();
                }
            }
        }
        return 0;
    }

    private static LoraAdapter attach(Session session, LoraConfig lora, long seed) {
        try (ModelSource source = ModelSource.open(session.modelPath())) {
            return LoraAdapter.attach(session.model(), lora, seed, source);
        }
    }

    private static void train(
            Session session,
            LoraAdapter adapter,
            Arguments a,
            TrainingConfig config,
            TrainingData data,
            List<String> before,
            Communicator ranks) {
        String base = a.has("model") ? a.text("model") : session.modelPath().toString();
        Device device = session.model().device();
        Path output = config.saving().outputDir();
        try (TensorBoard tensorBoard =
                        ranks.isRoot() ? new TensorBoard(output.resolve("runs"), Clock.systemUTC()) : null;
                Trainer trainer = new Trainer(
                        adapter,
                        config,
                        data.packs(),
                        data.validation(),
                        base,
                        session.text()::save,
                        tensorBoard == null
                                ? TrainingListener.NONE
                                : TrainingListener.all(List.of(new Console(device), tensorBoard)),
                        ranks,
                        TrainingOptions.reduction(a))) {
            MemoryEstimate estimate = Estimate.before(a, session, adapter.config(), trainer, data);
            if (a.has("resume_from_checkpoint")) {
                Path checkpoint = Path.of(a.text("resume_from_checkpoint"));
                if (a.bool("resume_only_model")) {
                    trainer.resumeOnlyModel(checkpoint);
                } else {
                    trainer.resume(checkpoint);
                }
            }
            if (ranks.isRoot()) {
                // not before the trainer has the folder for itself
                AtomicFile.writeString(output.resolve("args.json"), a.toJson().toPrettyString() + "\n");
                Restarts.tellFolder(output);
            }
            long start = System.nanoTime();
            TrainingResult result = run(trainer);
            Progress.end();
            if (!ranks.isRoot()) {
                return;
            }
            if (trainer.wasStopped()) {
                // who stops it wants it to end: no answers, no report
                System.out.println("stopped after step " + result.steps() + " of " + trainer.totalSteps()
                        + "; to go on: --resume_from_checkpoint " + result.lastCheckpoint());
                return;
            }
            double seconds = (System.nanoTime() - start) / 1e9;
            System.out.println("trained " + result.steps() + " steps in " + Progress.time(seconds));
            MemoryReport.compare(estimate, device, System.out);
            System.out.println("last_model_checkpoint: " + result.lastCheckpoint());
            System.out.println("best_model_checkpoint: " + result.bestCheckpoint()
                    + (result.bestMetric() == null
                            ? ""
                            : " (eval_" + config.evaluation().metricForBestModel() + " " + result.bestMetric() + ")"));
            List<String> after = ask(session, a.list("ask"), "after training");
            RunReport.write(a, output, adapter, data, result, seconds, estimate, before, after);
        }
    }

    /** Ctrl-C ends the run at a checkpoint; on any rank, it ends all. */
    @SuppressWarnings("try") // open is all it has to be
    private static TrainingResult run(Trainer trainer) {
        try (Interruption interruption = Interruption.calls(trainer::stop)) {
            return trainer.run();
        }
    }

    /** Asks, shows and returns the answers. */
    private static List<String> ask(Session session, List<String> questions, String when) {
        if (questions.isEmpty()) {
            return List.of();
        }
        List<String> answers = new ArrayList<>();
        Generator generator = new Generator(session.model(), session.text());
        System.out.println("-- " + when);
        for (String question : questions) {
            System.out.println("<<< " + question);
            System.out.print(">>> ");
            answers.add(generator.answer(List.of(Message.user(question)), Sampling.GREEDY, 48, Sft::show));
            System.out.println();
        }
        return answers;
    }

    static void show(String piece) {
        System.out.print(piece);
        System.out.flush();
    }

    private static void print(LoraAdapter adapter, TrainingData data, Session session, TrainingConfig config) {
        System.out.printf(
                Locale.ROOT,
                "LoRA on %d linear layers, %,d trained parameters%n",
                adapter.targets().size(),
                adapter.parameters().count());
        data.print(session.text());
        System.out.println("output: " + config.saving().outputDir());
    }
}
