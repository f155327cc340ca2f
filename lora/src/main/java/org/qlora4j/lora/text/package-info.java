/**
 * Text and token ids: tokenizers, chat templates, and which tokens of a rendered conversation are the assistant's. It
 * does not know how a model computes.
 */
@NullMarked
package org.qlora4j.lora.text;

import org.jspecify.annotations.NullMarked;
