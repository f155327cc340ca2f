package org.qlora4j.samples.fuzz;

import com.code_intelligence.jazzer.junit.FuzzTest;
import java.util.stream.Stream;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.qlora4j.lora.text.Tokenizer;

/** tokenizer.json, which goes on to the native library if our own reader lets it pass. */
class TokenizerFuzz {
    private static final String TEXT = "a <s>b\u00e9 \uD83D\uDE00 aaaa\n\n12";

    static Stream<Arguments> seeds() {
        return Fuzzing.seeds("""
                {"version":"1.0","truncation":null,"padding":null,
                "added_tokens":[{"id":4,"content":"<s>","single_word":false,"lstrip":false,"rstrip":true,
                "normalized":false,"special":true}],
                "normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},
                {"type":"Replace","pattern":{"String":" "},"content":"a"}]},
                "pre_tokenizer":{"type":"Sequence","pretokenizers":[
                {"type":"Split","pattern":{"Regex":"\\\\s+(?!\\\\S)|[^a]{1,3}"},"behavior":"Isolated","invert":false},
                {"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]},
                "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},
                {"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},
                {"Sequence":{"id":"B","type_id":1}}],
                "special_tokens":{"<s>":{"id":"<s>","ids":[4],"tokens":["<s>"]}}},
                "decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
                "model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,
                "end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,
                "vocab":{"a":0,"b":1,"\u0120":2,"aa":3},"merges":[["a","a"]]}}""", """
                {"added_tokens":[{"id":0,"content":"<unk>","special":true}],
                "normalizer":{"type":"Prepend","prepend":"\u2581"},"pre_tokenizer":{"type":"Metaspace",
                "replacement":"\u2581","prepend_scheme":"first","split":false},"post_processor":null,
                "decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"\u2581"},"content":" "},
                {"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},
                "model":{"type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,
                "vocab":{"<unk>":0,"<0x0A>":1,"\u2581":2,"a":3,"b":4,"\u2581a":5},"merges":["\u2581 a"]}}""");
    }

    @MethodSource("seeds")
    @FuzzTest
    void json(byte[] input) {
        Fuzzing.hold(() -> {
            try (Tokenizer tokenizer = Tokenizer.fromJson(input)) {
                int[] ids = tokenizer.encodeWithSpecial(TEXT);
                tokenizer.encodeWithOffsets(TEXT);
                tokenizer.decode(ids);
                tokenizer.decodeSkippingSpecial(ids);
            }
        });
    }
}
