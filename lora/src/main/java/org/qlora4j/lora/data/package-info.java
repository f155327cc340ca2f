/** Data sets: rows read, rendered and tokenized. */
package org.qlora4j.lora.data;
