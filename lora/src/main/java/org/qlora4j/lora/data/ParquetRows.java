package org.qlora4j.lora.data;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.hardwood.InputFile;
import dev.hardwood.reader.ParquetFileReader;
import dev.hardwood.reader.RowReader;
import dev.hardwood.row.FieldAccessor;
import dev.hardwood.row.PqList;
import dev.hardwood.row.PqMap;
import dev.hardwood.row.PqStruct;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;

/**
 * Parquet files, by the hardwood library. It and snappy-java are optional: a program that reads no Parquet needs
 * neither on its path.
 */
final class ParquetRows {
    private static final ObjectMapper JSON = new ObjectMapper();

    /** Takes a row. */
    interface Sink {
        void row(long number, byte[] json);
    }

    /** A batch of rows takes a second at most. */
    private static final long STALL_MILLIS = 30_000;

    private ParquetRows() {}

    /** Reads rows until there are no more. */
    interface Body {
        /** @param rows to be told of each row */
        void read(AtomicLong rows) throws IOException;
    }

    static void read(Path file, Sink sink, BrokenRows broken) throws IOException {
        watched(file, broken, STALL_MILLIS, rows -> readAll(file, sink, broken, rows));
    }

    /**
     * Reads in a thread of its own, and gives up where no row comes any more: on some damaged files hardwood waits
     * without end for a thread of its own that has died.
     */
    static void watched(Path file, BrokenRows broken, long stallMillis, Body body) throws IOException {
        AtomicLong rows = new AtomicLong();
        FutureTask<Boolean> task = new FutureTask<>(() -> {
            body.read(rows);
            return true;
        });
        Thread thread = Thread.ofPlatform().daemon().name("parquet").start(task);
        long before = -1;
        while (true) {
            try {
                task.get(stallMillis, TimeUnit.MILLISECONDS);
                return;
            } catch (TimeoutException e) {
                long now = rows.get();
                if (now == before) {
                    thread.interrupt();
                    broken.add(
                            RawRow.where(file, now + 1),
                            "cannot be read, nor what comes after it: no row came in " + stallMillis
                                    + " ms; the file is damaged");
                    return;
                }
                before = now;
            } catch (ExecutionException e) {
                switch (e.getCause()) {
                    case IOException io -> throw io;
                    case RuntimeException runtime -> throw runtime;
                    case Error error -> throw error;
                    case null, default -> throw new AssertionError("no other exception is declared", e);
                }
            } catch (InterruptedException e) {
                thread.interrupt();
                Thread.currentThread().interrupt();
                throw new IllegalStateException("reading " + file + " was interrupted", e);
            }
        }
    }

    private static void readAll(Path file, Sink sink, BrokenRows broken, AtomicLong count) throws IOException {
        // libdeflate would be native code of the system; java.util.zip is fast enough
        if (System.getProperty("hardwood.uselibdeflate") == null) {
            System.setProperty("hardwood.uselibdeflate", "false");
        }
        long number = 0;
        try (ParquetFileReader reader = ParquetFileReader.open(InputFile.of(file));
                RowReader rows = reader.rowReader()) {
            while (rows.hasNext()) {
                rows.next();
                number++;
                count.set(number);
                sink.row(number, JSON.writeValueAsBytes(fields(rows)));
            }
        } catch (JsonProcessingException e) {
            throw new AssertionError("maps, lists and scalars can be written", e);
        } catch (NoClassDefFoundError e) {
            throw new IllegalArgumentException(
                    file + ": to read Parquet, add dev.hardwood:hardwood-core and org.xerial.snappy:snappy-java to the"
                            + " class path (missing: " + e.getMessage() + ")",
                    e);
        } catch (RuntimeException e) {
            broken.add(RawRow.where(file, number + 1), "cannot be read, nor what comes after it: " + cause(e));
        }
    }

    /** The innermost reason: the library wraps it several times. */
    private static String cause(Throwable e) {
        Throwable at = e;
        for (int i = 0; i < 20 && at.getCause() != null; i++) {
            at = at.getCause();
        }
        return String.valueOf(at.getMessage());
    }

    private static Map<String, @Nullable Object> fields(FieldAccessor row) {
        Map<String, @Nullable Object> fields = new LinkedHashMap<>();
        for (int i = 0; i < row.getFieldCount(); i++) {
            String name = row.getFieldName(i);
            fields.put(name, row.isNull(name) ? null : plain(row.getValue(name)));
        }
        return fields;
    }

    private static @Nullable Object plain(@Nullable Object value) {
        return switch (value) {
            case null -> null;
            case PqStruct struct -> fields(struct);
            case PqList list -> {
                List<@Nullable Object> values = new ArrayList<>();
                for (int i = 0; i < list.size(); i++) {
                    values.add(list.isNull(i) ? null : plain(list.get(i)));
                }
                yield values;
            }
            case PqMap map -> {
                Map<String, @Nullable Object> values = new LinkedHashMap<>();
                for (PqMap.Entry entry : map.getEntries()) {
                    values.put(String.valueOf(entry.getKey()), plain(entry.getValue()));
                }
                yield values;
            }
            case Number number -> number;
            case Boolean bool -> bool;
            case byte[] bytes -> Base64.getEncoder().encodeToString(bytes);
            default -> value.toString();
        };
    }
}
