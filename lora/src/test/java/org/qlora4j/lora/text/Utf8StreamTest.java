package org.qlora4j.lora.text;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.HexFormat;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class Utf8StreamTest {
    /**
     * R stands for U+FFFD. The examples are those of the Unicode standard (tables 3-8 to 3-11) and the ends of each
     * range.
     */
    @ParameterizedTest
    @CsvSource({
        "C0AFE080BFF08182 41, RRRRRRRRA",
        "EDA080EDBFBFEDAF41, RRRRRRRRA",
        "F4919293FF4180BF42, RRRRRARRB",
        "E180E2F09192F1BF41, RRRRA",
        "F09F9982, 🙂",
        "F09F99, R",
        "F09F9941, RA",
        "EFBFBDEFBFBF, R\uFFFF",
        "F48FBFBF, \uDBFF\uDFFF",
        "C280 DFBF E0A080 ED9FBF EE8080, \u0080\u07FF\u0800\uD7FF\uE000",
    })
    void replacesEachMaximalInvalidPart(String hex, String expected) {
        StringBuilder out = new StringBuilder();
        Utf8Stream stream = new Utf8Stream();
        for (byte b : HexFormat.of().parseHex(hex.replace(" ", ""))) {
            stream.accept(Byte.toUnsignedInt(b), out);
        }
        stream.finish(out);
        assertEquals(expected.replace('R', '\uFFFD'), out.toString());
    }
}
