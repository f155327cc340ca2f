/**
 * A small Jinja that renders Hugging Face chat templates as transformers does, and remembers where each piece of its
 * output came from. It knows nothing of tokens, models or files: a template and plain Java values go in, text with
 * spans comes out.
 */
@NullMarked
package org.qlora4j.lora.text.jinja;

import org.jspecify.annotations.NullMarked;
