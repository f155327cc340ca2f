/** The transformer: forward and backward of each layer in one file. It may not know which device it runs on. */
package org.qlora4j.lora.model;
