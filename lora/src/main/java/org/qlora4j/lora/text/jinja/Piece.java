package org.qlora4j.lora.text.jinja;

/**
 * A range of the output that came from a value of the context.
 *
 * @param span where it is in the output
 * @param source which value it came from
 * @param sourceStart the char of that value's text at which the range starts, if it is an unchanged part of it; -1 if
 *     the characters were changed on the way (upper case, JSON escapes) and only the origin as a whole is known
 */
public record Piece(Span span, Source source, int sourceStart) {}
