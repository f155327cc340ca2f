/**
 * Model files: reading safetensors (single and sharded) and GGUF, writing safetensors.
 *
 * <p>Files are hostile until checked: every length, offset and count is compared with the size of the file before
 * anything is allocated, and a failed check is a {@link org.qlora4j.nf4.file.ModelFormatException} that names file and
 * reason. Reading is positional ({@link java.nio.channels.FileChannel}), so many threads may read one model; nothing is
 * mapped, because a file that is truncated under a mapping ends the JVM. This package knows element types, not tensors,
 * devices or model families.
 */
package org.qlora4j.nf4.file;
