/** The device seam: memory, operations and their checks. It may not know a concrete device. */
package org.qlora4j.nf4.device;
