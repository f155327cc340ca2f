package org.qlora4j.samples;

import static org.qlora4j.samples.Option.amount;
import static org.qlora4j.samples.Option.bool;
import static org.qlora4j.samples.Option.integer;
import static org.qlora4j.samples.Option.json;
import static org.qlora4j.samples.Option.list;
import static org.qlora4j.samples.Option.number;
import static org.qlora4j.samples.Option.text;

import java.util.List;
import java.util.Map;

/** All options, in the groups that the commands take; names and defaults are ms-swift's. */
final class Options {
    /** Options that belong together, and their heading in the help. */
    record Group(String heading, List<Option> options) {}

    private static final Option NATIVES_FOLDER =
            text("natives", "", "folder that holds the native libraries or the packages a message named");

    private static final Option SIZE = text("size", "qwen3-14b", "sizes of a GPU's benchmark: qwen3-14b, or tiny");

    private static final Option MAX_BATCH_SIZE =
            integer("max_batch_size", "1", "rows of a data set that are answered at a time");

    static final Group MACHINE = new Group(
            "Machine",
            List.of(
                    text("device", "auto", "auto (a GPU if there is one), cpu, cuda:0, or reference (slow)"),
                    integer("threads", "0", "threads of the CPU device; 0: one per core"),
                    text("nf4_kernels", "auto", "who decodes 4-bit weights there: vector or bitsandbytes, same bits"),
                    text("max_memory", "", "what sft and answers may take, e.g. 8GB; default: what is available"),
                    NATIVES_FOLDER));

    static final Group NATIVES = new Group(
            "Native libraries",
            List.of(
                    NATIVES_FOLDER,
                    bool("cuda", "false", "also CUDA's runtime, cuBLAS and NVRTC: 454 MB"),
                    bool("nccl", "false", "also NCCL, for several ranks on GPUs: 305 MB")));

    static final Group MODEL = new Group(
            "Model",
            List.of(
                    text(
                            "model",
                            "",
                            "Hugging Face folder, .gguf file, id like Qwen/Qwen3-0.6B, or " + Session.DEMO_MODEL),
                    bool("use_hf", "false", "download from Hugging Face instead of ModelScope; or USE_HF=1"),
                    text("torch_dtype", "", "what weights are kept in if not quantized: float32, bfloat16, float16"),
                    list(
                            "adapters",
                            "",
                            "PEFT or mlx-lm adapter: DIR or NAME=DIR, or several; sft starts from its weights"),
                    list("adapter_weights", "", "use several adapters at once, each with its weight"),
                    text("combination_type", "cat", "of several adapters: cat (exact) or linear"),
                    text("quant_method", "", "bnb quantizes the base; without it, it stays as it is (plain LoRA)"),
                    integer(
                            "quant_bits",
                            "",
                            "bits of a quantized weight: 4 with a quant_method, 8 (a scale a row), 0: none"),
                    integer("quantize_embeddings", "0", "8 keeps embedding and output layer in 8 bits; 0: as they are"),
                    text("bnb_4bit_quant_type", "nf4", "nf4 or fp4"),
                    bool("bnb_4bit_use_double_quant", "true", "quantize the absmax values too"),
                    text("bnb_4bit_compute_dtype", "float32", "float32, or bfloat16 where the device has it"),
                    text("bnb_4bit_quant_storage", "uint8", "what packed codes pretend to be in an exported file"),
                    integer("bnb_4bit_blocksize", "64", "weights per absmax: 32, 64 … 4096"),
                    list("llm_int8_skip_modules", "", "modules that are not quantized, besides lm_head"),
                    integer("seed", "42", "of everything random: same seed, same bits")));

    static final Group TEXT = new Group(
            "Text",
            List.of(
                    text("system", "", "system message of conversations that have none"),
                    list("model_name", "", "stands for {{NAME}}: one value, or Chinese and English"),
                    list("model_author", "", "stands for {{AUTHOR}}: one value, or Chinese and English"),
                    text("loss_scale", "default", "what is learned: default (the answers), last_round, all"),
                    json("columns", "{\"name in the file\": \"query\"}, where columns have other names"),
                    bool("strict", "false", "stop at the first row that cannot be used"),
                    bool("load_from_cache_file", "false", "keep tokenized rows for the next run with the same data")));

    static final Group DATA = new Group(
            "Data",
            List.of(
                    list("dataset", "", "files, folders or ids, as path-or-id[:subset][#N]; N rows of each"),
                    list("val_dataset", "", "rows to evaluate on, named as dataset's"),
                    number("split_dataset_ratio", "0", "share of the rows to evaluate on, if there is no val_dataset"),
                    list("interleave_prob", "", "mix the sets with these probabilities instead of joining them"),
                    text("stopping_strategy", "first_exhausted", "when mixing ends; or all_exhausted"),
                    integer("max_length", "2048", "longest row in tokens"),
                    text("truncation_strategy", "delete", "rows that are too long: delete, left, right, split"),
                    bool("packing", "false", "put several rows into each place of a batch; they do not see each other"),
                    integer("packing_length", "", "tokens of a pack; default max_length"),
                    bool("group_by_length", "false", "rows of a step have about the same length"),
                    bool("dataset_shuffle", "true", "choose and order the N rows of #N at random"),
                    bool("train_dataloader_shuffle", "true", "a new order of rows in each epoch"),
                    integer("dataloader_num_workers", "1", "taken for compatibility; rows are tokenized before")));

    static final Group LORA = new Group(
            "LoRA",
            List.of(
                    text("tuner_type", "lora", "lora"),
                    integer("lora_rank", "8", "columns of B, rows of A"),
                    number("lora_alpha", "32", "the update is scaled by alpha / rank"),
                    number("lora_dropout", "0.05", "share of A's input that is set to 0 in training"),
                    list("target_modules", "all-linear", "all-linear, or the names modules end with"),
                    text("target_regex", "", "regular expression of whole module names, instead of target_modules"),
                    list("exclude_modules", "", "name endings, or as JSON a list or a regular expression"),
                    list("modules_to_save", "", "modules trained as a whole: lm_head, embed_tokens"),
                    json("trainable_token_indices", "[ids] whose rows of the embedding are trained, or by module"),
                    bool("ensure_weight_tying", "true", "an output layer tied to a trained embedding stays so"),
                    bool("use_rslora", "false", "scale by alpha / sqrt(rank)"),
                    bool("use_dora", "false", "weight-decomposed LoRA: train the length of each row too"),
                    text(
                            "lora_bias",
                            "none",
                            "biases of the base that are trained: none, all, lora_only (PEFT's bias)"),
                    text("init_weights", "true", "true, false, gaussian, pissa, pissa_niter_N, olora, loftq"),
                    json("rank_pattern", "{\"module\": rank}, where it differs from lora_rank"),
                    json("alpha_pattern", "{\"module\": alpha}, where it differs from lora_alpha"),
                    json("layers_to_transform", "[indices] of the layers to tune, or one index"),
                    list("layers_pattern", "", "name of the list that those indices count")));

    static final Group TRAINING = new Group(
            "Training",
            List.of(
                    number("num_train_epochs", "3", "passes over the rows"),
                    integer("max_steps", "-1", "steps; -1: as the epochs give"),
                    integer("per_device_train_batch_size", "1", "rows of a forward pass"),
                    integer("per_device_eval_batch_size", "1", "rows of a forward pass when evaluating"),
                    integer("gradient_accumulation_steps", "", "passes of a step; default 16 / batch size"),
                    amount(
                            "gradient_checkpointing",
                            "true",
                            "run layers again in backward: all, none, so many, as memory allows"),
                    number("learning_rate", "1e-4", "the highest one"),
                    text("lr_scheduler_type", "cosine", "transformers' name: linear, cosine_with_min_lr, polynomial …"),
                    json("lr_scheduler_kwargs", "its arguments, {\"min_lr\": 1e-5}"),
                    number("warmup_ratio", "0", "share of the steps in which the learning rate rises"),
                    integer("warmup_steps", "0", "steps in which it rises, instead of warmup_ratio"),
                    text("optim", "adamw_torch", "transformers' name: adamw_8bit, paged_adamw_8bit, lion_8bit, sgd …"),
                    text("optim_args", "", "key=value,…: momentum, alpha, eps, beta3 …, rounding=nearest|table"),
                    number("loraplus_lr_ratio", "1", "LoRA+: learning rate of B relative to A"),
                    number("weight_decay", "0.1", "of all parameters"),
                    number("adam_beta1", "0.9", "decay of the mean, also Lion's and AdEMAMix's"),
                    number("adam_beta2", "0.95", "decay of the mean of squares, also Lion's and AdEMAMix's"),
                    number("adam_epsilon", "1e-8", "added to the root"),
                    number("max_grad_norm", "1", "longer gradients are scaled to this norm"),
                    number("neftune_noise_alpha", "0", "NEFTune: noise on the embeddings; 5 is usual"),
                    number("label_smoothing_factor", "0", "share of each label that goes to all tokens")));

    static final Group OUTPUT = new Group(
            "Output",
            List.of(
                    text("output_dir", "output", "folder of checkpoints and logs"),
                    bool("add_version", "true", "write into a new folder vN-time below output_dir"),
                    text("resume_from_checkpoint", "", "checkpoint, or a run's folder, to go on from, bit for bit"),
                    bool("resume_only_model", "false", "take the weights of that checkpoint only, and start anew"),
                    integer("logging_steps", "5", "steps between lines of logging.jsonl"),
                    text("eval_strategy", "", "steps, epoch or no; default save_strategy"),
                    integer("eval_steps", "", "steps between evaluations; default save_steps"),
                    text("save_strategy", "steps", "steps, epoch or no; the end always saves"),
                    integer("save_steps", "500", "steps between checkpoints"),
                    integer("save_total_limit", "0", "checkpoints kept, always the best and the last; 0: all"),
                    text("metric_for_best_model", "loss", "what makes a checkpoint the best: loss, ppl, token_acc"),
                    bool("greater_is_better", "", "of that metric; default false, true for token_acc"),
                    integer("early_stop_interval", "0", "stop after so many checkpoints that are no better; 0: never"),
                    bool("load_best_model_at_end", "false", "end with the weights of the best checkpoint"),
                    list("ask", "", "questions to the model before and after training")));

    static final Group PARALLEL = new Group(
            "Several processes (mpirun -n N ./qlora sft …)",
            List.of(
                    text("reduction", "tree", "tree: same bits on any number of ranks; fast: MPI's order, less memory"),
                    number("rank_timeout", "30", "seconds without a sign of life after which a rank is lost"),
                    integer("max_restarts", "0", "start a lost run again from its last checkpoint, so many times"),
                    text("launch", "", "what starts the ranks, as 'mpirun -n 4'; max_restarts needs it")));

    static final Group ESTIMATE = new Group("Estimate", List.of(bool("json", "false", "print the items in bytes")));

    static final Group EVALUATION = new Group(
            "Evaluation",
            List.of(
                    list("val_dataset", "", "files, folders or ids, as path-or-id[:subset][#N]"),
                    bool("load_data_args", "false", "instead, the rows the adapter's run was evaluated on"),
                    text("result_path", "", "writes what was found for each row to this .jsonl file")));

    static final Group COMPARISON = new Group(
            "Comparison",
            List.of(bool("predict_with_generate", "false", "answer each row; rouge-l, bleu-4 and exact match")));

    static final Group GENERATION = new Group(
            "Generation",
            List.of(
                    integer("max_new_tokens", "512", "longest answer in tokens"),
                    list("stop_words", "", "texts that end an answer"),
                    number("temperature", "0", "0 takes the likeliest token"),
                    integer("top_k", "0", "choose among this many of the likeliest tokens; 0: all"),
                    number("top_p", "1", "choose among the likeliest tokens that reach this probability together"),
                    number("repetition_penalty", "1", "above 1, tokens that were there already become less likely"),
                    MAX_BATCH_SIZE));

    static final Group ANSWERS = new Group(
            "Answers",
            List.of(
                    list("prompt", "", "one question to answer; without it, a conversation"),
                    bool("stream", "true", "show the answer as it is made")));

    static final Group MERGE = new Group(
            "Export",
            List.of(
                    bool("merge_lora", "false", "merge the adapter into its base"),
                    text("merge_base", "original", "add it to the original weights, or to the dequantized ones"),
                    bool("merge_report", "true", "compare the merged model's predictions with the adapter's"),
                    list("report_prompts", "", "the prompts to compare on"),
                    text("output_dir", "", "new folder; default: the adapter's with -merged"),
                    bool("to_gguf", "false", "write GGUF for llama.cpp; an adapter alone without merge_lora"),
                    text("outtype", "", "of GGUF matrices: f32, f16, bf16, q8_0, q4_0; default: the model's dtype"),
                    text("outfile", "", "GGUF file; default: beside the model or adapter")));

    static final Group TEMPLATE = new Group(
            "Template",
            List.of(
                    text("template", "", "the .jinja file"),
                    text("context", "", ".json file with its variables: messages, add_generation_prompt, …"),
                    bool("spans", "false", "write JSON: the text and where the assistant's parts are")));

    static final Group BENCH = new Group(
            "Benchmark",
            List.of(
                    text("workload", "kernels", "kernels (by JMH), or of a model: train, instructions, generate"),
                    text("kernel", "", "part of the names of the kernels to time"),
                    SIZE,
                    bool("json", "false", "print a GPU's kernels as JSON"),
                    integer("sequence", "512", "tokens of a row"),
                    bool("gradient_checkpointing", "false", "run layers again in backward"),
                    integer("steps", "4", "timed steps"),
                    bool("profile", "false", "print the time of each operation; slows decoding a little"),
                    integer("rows", "16", "rows of the workload instructions"),
                    integer("max_new_tokens", "128", "tokens of the workload generate"),
                    MAX_BATCH_SIZE));

    static final Group GPU_CHECK = new Group(
            "Check of a GPU",
            List.of(
                    SIZE,
                    bool("tests", "true", "run the project's tests on the GPU first"),
                    integer("steps", "4", "timed training steps"),
                    text("result_path", "gpu-check.json", "file for all figures")));

    static final Group BUNDLE =
            new Group("Bundle", List.of(text("outfile", "qlora4j-gpu.tar.xz", "the archive"), NATIVES_FOLDER));

    /** Names of earlier versions of ms-swift, and the present ones. */
    private static final Map<String, String> OLD_NAMES = Map.ofEntries(
            Map.entry("train_type", "tuner_type"),
            Map.entry("sft_type", "tuner_type"),
            Map.entry("model_id_or_path", "model"),
            Map.entry("ckpt_dir", "adapters"),
            Map.entry("dtype", "torch_dtype"),
            Map.entry("quantization_bit", "quant_bits"),
            Map.entry("bnb_4bit_comp_dtype", "bnb_4bit_compute_dtype"),
            Map.entry("skip_modules", "llm_int8_skip_modules"),
            Map.entry("init_lora_weights", "init_weights"),
            Map.entry("lora_target_modules", "target_modules"),
            Map.entry("lora_target_regex", "target_regex"),
            Map.entry("lora_modules_to_save", "modules_to_save"),
            Map.entry("lora_dropout_p", "lora_dropout"),
            Map.entry("batch_size", "per_device_train_batch_size"),
            Map.entry("eval_batch_size", "per_device_eval_batch_size"),
            Map.entry("dataset_test_ratio", "split_dataset_ratio"));

    private Options() {}

    /** {@code train-type} is {@code tuner_type}. */
    static String presentName(String name) {
        String plain = name.replace('-', '_');
        return OLD_NAMES.getOrDefault(plain, plain);
    }
}
