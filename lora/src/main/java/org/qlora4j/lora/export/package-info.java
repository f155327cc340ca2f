/** Models and adapters in the files of other programs: Hugging Face folders, plain or in 4 bits, and GGUF. */
package org.qlora4j.lora.export;
