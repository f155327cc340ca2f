/**
 * Data sets: {@link org.qlora4j.lora.data.DatasetSpec what people type}, {@link org.qlora4j.lora.data.DatasetFiles its
 * files}, their rows, {@link org.qlora4j.lora.data.Example what a row says}, and
 * {@link org.qlora4j.lora.data.ExampleEncoder its tokens}.
 */
package org.qlora4j.lora.data;
