package org.qlora4j.lora.text;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.function.Consumer;

/**
 * One decoder of a tokenizer.json, fed token by token. It passes a token on as soon as no later token can change it.
 * After a stage that fuses all tokens into one, the tokens passed on are consecutive parts of that one.
 */
interface DecoderStage {
    void accept(String token, Consumer<String> next);

    default void finish(Consumer<String> next) {}

    /** Changes each token, or each part of the one token, by itself. */
    @FunctionalInterface
    interface Each extends DecoderStage {
        String apply(String token);

        @Override
        default void accept(String token, Consumer<String> next) {
            next.accept(apply(token));
        }
    }

    /** {@code ByteLevel}: the bytes of all tokens as one UTF-8 text. */
    final class Bytes implements DecoderStage {
        private final Utf8Stream utf8 = new Utf8Stream();

        @Override
        public void accept(String token, Consumer<String> next) {
            StringBuilder certain = new StringBuilder();
            for (byte b : ByteLevel.bytes(token)) {
                utf8.accept(Byte.toUnsignedInt(b), certain);
            }
            next.accept(certain.toString());
        }

        @Override
        public void finish(Consumer<String> next) {
            StringBuilder rest = new StringBuilder();
            utf8.finish(rest);
            next.accept(rest.toString());
        }
    }

    /**
     * {@code ByteFallback}: a run of tokens like {@code <0xE2>} becomes the text of its bytes. One invalid byte turns
     * the whole run into U+FFFD, one per byte, so nothing of a run is certain before it ends.
     */
    final class Fallback implements DecoderStage {
        private final ByteArrayOutputStream run = new ByteArrayOutputStream();

        @Override
        public void accept(String token, Consumer<String> next) {
            int b = byteOf(token);
            if (b >= 0) {
                run.write(b);
            } else {
                finish(next);
                next.accept(token);
            }
        }

        @Override
        public void finish(Consumer<String> next) {
            int length = run.size();
            if (length == 0) {
                return;
            }
            byte[] bytes = run.toByteArray();
            run.reset();
            String text;
            try {
                text = StandardCharsets.UTF_8
                        .newDecoder()
                        .decode(ByteBuffer.wrap(bytes))
                        .toString();
            } catch (CharacterCodingException e) {
                for (int i = 0; i < length; i++) {
                    next.accept("\uFFFD");
                }
                return;
            }
            next.accept(text);
        }

        static int byteOf(String token) {
            if (token.length() != 6 || !token.startsWith("<0x") || token.charAt(5) != '>') {
                return -1;
            }
            int high = Character.digit(token.charAt(3), 16);
            int low = Character.digit(token.charAt(4), 16);
            // ASCII only: Character.digit knows digits of other scripts, whose UTF-8 would not be 6 bytes long
            return high < 0 || low < 0 || token.charAt(3) > 'f' || token.charAt(4) > 'f' ? -1 : high << 4 | low;
        }
    }

    /** {@code Replace} over the one fused token: a match can begin in one part and end in a later one. */
    final class ReplaceAcross implements DecoderStage {
        private final String pattern;
        private final String content;
        private final StringBuilder held = new StringBuilder();

        ReplaceAcross(String pattern, String content) {
            this.pattern = pattern;
            this.content = content;
        }

        @Override
        public void accept(String token, Consumer<String> next) {
            held.append(token);
            StringBuilder certain = new StringBuilder();
            int from = 0;
            for (int match = held.indexOf(pattern); match >= 0; match = held.indexOf(pattern, from)) {
                certain.append(held, from, match).append(content);
                from = match + pattern.length();
            }
            // the last characters could be the beginning of a match
            int until = Math.max(from, held.length() - (pattern.length() - 1));
            certain.append(held, from, until);
            held.delete(0, until);
            next.accept(certain.toString());
        }

        @Override
        public void finish(Consumer<String> next) {
            next.accept(held.toString());
            held.setLength(0);
        }
    }

    /** {@code Strip} over the one fused token: only its beginning changes. */
    final class StripStart implements DecoderStage {
        private final int content;
        private int left;

        StripStart(int content, int count) {
            this.content = content;
            this.left = count;
        }

        @Override
        public void accept(String token, Consumer<String> next) {
            int from = 0;
            while (left > 0 && from < token.length()) {
                if (token.codePointAt(from) == content) {
                    from += Character.charCount(content);
                    left--;
                } else {
                    left = 0;
                }
            }
            next.accept(token.substring(from));
        }

        static String strip(String token, int content, int count) {
            int from = 0;
            for (int i = 0; i < count && from < token.length() && token.codePointAt(from) == content; i++) {
                from += Character.charCount(content);
            }
            return token.substring(from);
        }
    }

    /**
     * {@code Metaspace}: the mark becomes a space; in the first token it is dropped if a space was put before the text.
     */
    final class Metaspace implements DecoderStage {
        private final String mark;
        private final boolean dropInFirst;
        private final boolean fused;
        private boolean first = true;

        Metaspace(String mark, boolean dropInFirst, boolean fused) {
            this.mark = mark;
            this.dropInFirst = dropInFirst;
            this.fused = fused;
        }

        @Override
        public void accept(String token, Consumer<String> next) {
            next.accept(token.replace(mark, first && dropInFirst ? "" : " "));
            first &= fused;
        }
    }

    /** No decoder at all: tokens joined by a space. */
    final class Join implements DecoderStage {
        private boolean first = true;

        @Override
        public void accept(String token, Consumer<String> next) {
            next.accept(first ? token : " " + token);
            first = false;
        }
    }

    /**
     * A decoder that looks at a token as a whole, behind one that fused all tokens: nothing is certain before the end.
     */
    final class Whole implements DecoderStage {
        private final DecoderStage stage;
        private final StringBuilder all = new StringBuilder();

        Whole(DecoderStage stage) {
            this.stage = stage;
        }

        @Override
        public void accept(String token, Consumer<String> next) {
            all.append(token);
        }

        @Override
        public void finish(Consumer<String> next) {
            stage.accept(all.toString(), next);
            stage.finish(next);
            all.setLength(0);
        }
    }
}
