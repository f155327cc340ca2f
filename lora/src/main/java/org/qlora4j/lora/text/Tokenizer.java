package org.qlora4j.lora.text;

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.concurrent.locks.Lock;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import java.util.function.Function;
import org.qlora4j.nf4.file.ModelFormatException;

/**
 * Text to token ids and back, by a Hugging Face tokenizer.json with a BPE model. Wraps the tokenizers library, so ids
 * are those of Python.
 *
 * <p>Special tokens written in a text are recognised. Truncation and padding are off, whatever the file says.
 *
 * <p>All methods may be called by several threads at once; {@link #close} waits for running calls. After it, methods
 * that need the native library throw IllegalStateException.
 */
public final class Tokenizer implements AutoCloseable {
    /** Ten times the largest tokenizer.json in use (Gemma 3's has 33 MB). */
    private static final long MAX_BYTES = 384L << 20;

    private final String json;
    private final TokenizerJson parsed;
    private final HuggingFaceTokenizer library;
    private final ReadWriteLock lock = new ReentrantReadWriteLock();
    private boolean closed;

    private Tokenizer(String json) {
        this.json = json;
        this.parsed = new TokenizerJson(json);
        this.library = open(parsed.forNative());
    }

    /**
     * Loads a tokenizer.json.
     *
     * @param path the file, or the model folder it lies in
     * @throws ModelFormatException if there is none, or it is damaged or of a kind that is not supported
     * @throws UncheckedIOException if it cannot be read
     */
    public static Tokenizer load(Path path) {
        Path file = Files.isDirectory(path) ? path.resolve("tokenizer.json") : path;
        if (!Files.isRegularFile(file)) {
            throw new ModelFormatException(
                    file,
                    "no such file; a tokenizer.json is needed (a tokenizer.model of SentencePiece must be converted)");
        }
        try {
            if (Files.size(file) > MAX_BYTES) {
                throw new ModelFormatException(
                        file, "has " + Files.size(file) + " bytes; a tokenizer.json has at most " + MAX_BYTES);
            }
            return fromJson(Files.readAllBytes(file));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        } catch (IllegalArgumentException e) {
            throw new ModelFormatException(file, String.valueOf(e.getMessage()), e);
        }
    }

    /**
     * A tokenizer from the text of a tokenizer.json.
     *
     * @throws IllegalArgumentException if it is damaged or of a kind that is not supported
     */
    public static Tokenizer fromJson(String json) {
        return new Tokenizer(json);
    }

    /**
     * A tokenizer from the UTF-8 bytes of a tokenizer.json.
     *
     * @throws IllegalArgumentException if they are damaged or of a kind that is not supported
     */
    public static Tokenizer fromJson(byte[] utf8) {
        try {
            return new Tokenizer(StandardCharsets.UTF_8
                    .newDecoder()
                    .decode(ByteBuffer.wrap(utf8))
                    .toString());
        } catch (CharacterCodingException e) {
            throw new IllegalArgumentException("not valid UTF-8", e);
        }
    }

    /**
     * Token ids of a text, nothing added.
     *
     * @throws IllegalArgumentException if the text has an unpaired surrogate, which no UTF-8 text can have
     */
    public int[] encode(String text) {
        return ids(encode(text, false));
    }

    /**
     * Token ids of a text with what the file's post-processor adds, for example a leading BOS.
     *
     * @throws IllegalArgumentException if the text has an unpaired surrogate
     */
    public int[] encodeWithSpecial(String text) {
        return ids(encode(text, true));
    }

    /**
     * Token ids of a text, nothing added, and where in the text each came from.
     *
     * @throws IllegalArgumentException if the text has an unpaired surrogate
     */
    public Encoding encodeWithOffsets(String text) {
        ai.djl.huggingface.tokenizers.Encoding encoding = encode(text, false);
        return Offsets.encoding(text, ids(encoding), encoding.getCharTokenSpans());
    }

    /**
     * The text of token ids, special tokens included. Ids without a token give nothing.
     *
     * @throws IllegalArgumentException if an id is negative
     */
    public String decode(int[] ids) {
        return decode(ids, false);
    }

    /**
     * The text of token ids without special tokens. Ids without a token give nothing.
     *
     * @throws IllegalArgumentException if an id is negative
     */
    public String decodeSkippingSpecial(int[] ids) {
        return decode(ids, true);
    }

    /**
     * A decoder for ids that come one by one, whose whole output equals {@link #decode(int[])}. It works on after the
     * tokenizer is closed.
     */
    public StreamingDecoder streamingDecoder() {
        return new StreamingDecoder(parsed.tokens(), parsed.decoder(), false);
    }

    /** A decoder for ids that come one by one, whose whole output equals {@link #decodeSkippingSpecial(int[])}. */
    public StreamingDecoder streamingDecoderSkippingSpecial() {
        return new StreamingDecoder(parsed.tokens(), parsed.decoder(), true);
    }

    /** The token of an id as the vocabulary writes it (a space is {@code Ġ} or {@code ▁}); empty if there is none. */
    public Optional<String> token(int id) {
        return id < 0 ? Optional.empty() : Optional.ofNullable(parsed.tokens().token(id));
    }

    /** The id of a token as the vocabulary writes it. */
    public OptionalInt id(String token) {
        Integer id = parsed.tokens().id(token);
        return id == null ? OptionalInt.empty() : OptionalInt.of(id);
    }

    /** Whether the file calls the token special: {@link #decodeSkippingSpecial} drops it. */
    public boolean isSpecial(int id) {
        return id >= 0 && parsed.tokens().isSpecial(id);
    }

    /** One more than the highest token id. A model's embedding may have more rows, never fewer. */
    public int vocabSize() {
        return parsed.tokens().size();
    }

    /** The text of the tokenizer.json, as it was given. */
    public String json() {
        return json;
    }

    /** Frees the native tokenizer. Closing twice is allowed. */
    @Override
    public void close() {
        Lock writing = lock.writeLock();
        writing.lock();
        try {
            closed = true;
            library.close();
        } finally {
            writing.unlock();
        }
    }

    private ai.djl.huggingface.tokenizers.Encoding encode(String text, boolean addSpecial) {
        Offsets.requirePairedSurrogates(text);
        return withLibrary(open -> open.encode(text, addSpecial, false));
    }

    private String decode(int[] ids, boolean skipSpecial) {
        long[] wide = new long[ids.length];
        for (int i = 0; i < ids.length; i++) {
            wide[i] = StreamingDecoder.requireId(ids[i], i);
        }
        return withLibrary(open -> open.decode(wide, skipSpecial));
    }

    private <T> T withLibrary(Function<HuggingFaceTokenizer, T> call) {
        Lock reading = lock.readLock();
        reading.lock();
        try {
            if (closed) {
                throw new IllegalStateException("the tokenizer is closed");
            }
            return call.apply(library);
        } finally {
            reading.unlock();
        }
    }

    private static int[] ids(ai.djl.huggingface.tokenizers.Encoding encoding) {
        long[] wide = encoding.getIds();
        int[] ids = new int[wide.length];
        for (int i = 0; i < ids.length; i++) {
            ids[i] = Math.toIntExact(wide[i]);
        }
        return ids;
    }

    private static HuggingFaceTokenizer open(String json) {
        TokenizerLibrary.prepare();
        try {
            return HuggingFaceTokenizer.newInstance(
                    new ByteArrayInputStream(json.getBytes(StandardCharsets.UTF_8)),
                    Map.of("addSpecialTokens", "false", "truncation", "false", "padding", "false"));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        } catch (RuntimeException e) {
            throw new IllegalArgumentException("the tokenizers library refuses it: " + e.getMessage(), e);
        }
    }
}
