/** LoRA: configuration, targets, trained parameters, PEFT's files, merging. */
package org.qlora4j.lora.adapter;
