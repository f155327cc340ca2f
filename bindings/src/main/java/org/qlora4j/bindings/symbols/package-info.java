/**
 * The symbols of opened libraries, one level below {@code org.qlora4j.bindings} and the generated classes, so that the
 * two need not know each other in a circle. Opens nothing itself.
 */
package org.qlora4j.bindings.symbols;
