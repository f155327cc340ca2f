package org.qlora4j.lora.export;

import java.nio.file.Files;
import java.nio.file.Path;

/** The golden data of the project. */
final class ExportFiles {
    private ExportFiles() {}

    static Path golden(String name) {
        for (Path dir = Path.of("").toAbsolutePath(); dir != null; dir = dir.getParent()) {
            if (Files.isDirectory(dir.resolve("golden"))) {
                return dir.resolve("golden").resolve(name);
            }
        }
        throw new IllegalStateException(
                "no folder 'golden' above " + Path.of("").toAbsolutePath());
    }
}
