/** Frozen weights and bitsandbytes' quantization, to the bit. */
package org.qlora4j.nf4.weight;
