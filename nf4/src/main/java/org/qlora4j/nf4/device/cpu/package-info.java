/** The processor in fp32: oneDNN for products, the Vector API for the rest. */
package org.qlora4j.nf4.device.cpu;
