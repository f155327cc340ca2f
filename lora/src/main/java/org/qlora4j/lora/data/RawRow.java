package org.qlora4j.lora.data;

import java.nio.file.Path;

/**
 * A row of a data file before anybody looked at it.
 *
 * @param file where it is from
 * @param number its line, counted from 1; in a Parquet file its row
 * @param json a JSON object in UTF-8; in a JSONL file the line as it is, which may be anything
 */
record RawRow(Path file, long number, byte[] json) {
    String where() {
        return where(file, number);
    }

    static String where(Path file, long number) {
        return file + (file.toString().endsWith(".parquet") ? " row " : " line ") + number;
    }
}
