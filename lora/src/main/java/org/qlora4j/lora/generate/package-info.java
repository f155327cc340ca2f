/** Answers: sampling and streaming. */
package org.qlora4j.lora.generate;
