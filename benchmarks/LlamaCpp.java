import de.kherud.llama.InferenceParameters;
import de.kherud.llama.LlamaModel;
import de.kherud.llama.ModelParameters;
import de.kherud.llama.Pair;
import java.util.List;

/** Asks a GGUF model a question, greedily, with its own chat template: LlamaCpp QUESTION MODEL [ADAPTER]. */
class LlamaCpp {
    /** What SmolLM2's own template puts before a conversation without a system message; llama.cpp's does not. */
    private static final String SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";

    public static void main(String[] args) {
        ModelParameters parameters =
                new ModelParameters().setModel(args[1]).setCtxSize(512).setThreads(1).disableLog();
        if (args.length > 2) {
            parameters.addLoraAdapter(args[2]);
        }
        LlamaModel model = new LlamaModel(parameters);
        InferenceParameters question = new InferenceParameters("")
                .setMessages(SYSTEM, List.of(new Pair<>("user", args[0])))
                .setUseChatTemplate(true);
        String prompt = model.applyTemplate(question);
        String answer = model.complete(new InferenceParameters(prompt)
                .setTemperature(0f)
                .setPenaltyPrompt("")
                .setRepeatPenalty(1f)
                .setNPredict(40));
        System.out.println(answer.strip());
        System.out.flush();
        // closing the model waits forever in this version of the binding
        Runtime.getRuntime().halt(0);
    }
}
