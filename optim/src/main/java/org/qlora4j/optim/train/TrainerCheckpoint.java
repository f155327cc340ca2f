package org.qlora4j.optim.train;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.function.Consumer;
import org.qlora4j.lora.adapter.AdapterFiles;
import org.qlora4j.lora.adapter.LoraAdapter;
import org.qlora4j.nf4.file.AtomicFile;
import org.qlora4j.optim.Optimizer;

/** What is in a checkpoint: the adapter as PEFT writes it, the optimizer's state, and trainer_state.json. */
final class TrainerCheckpoint {
    static final String STATE = "trainer_state.json";
    private static final String OPTIMIZER = "optimizer.safetensors";

    private TrainerCheckpoint() {}

    /** @param others writes tokenizer and other files into the folder */
    static void write(
            Path folder,
            LoraAdapter adapter,
            Optimizer optimizer,
            String baseModel,
            TrainerState state,
            Consumer<Path> others) {
        AdapterFiles.save(adapter, baseModel, folder);
        optimizer.save(folder.resolve(OPTIMIZER));
        AtomicFile.writeString(folder.resolve(STATE), state.toJson().toPrettyString() + "\n");
        others.accept(folder);
    }

    /** Reads the state alone. */
    static TrainerState state(Path checkpoint) {
        if (!Files.isRegularFile(checkpoint.resolve(OPTIMIZER))) {
            throw new IllegalArgumentException(
                    "resume_from_checkpoint " + checkpoint + ": there is no " + OPTIMIZER + " in it");
        }
        return TrainerState.read(checkpoint.resolve(STATE));
    }

    /** Reads the adapter's values and the optimizer into what was made for the same configuration. */
    static void load(Path checkpoint, LoraAdapter adapter, Optimizer optimizer) {
        AdapterFiles.readValues(adapter, checkpoint);
        optimizer.load(checkpoint.resolve(OPTIMIZER));
    }
}
