/** The entry to the devices. It may not know what a model is. */
package org.qlora4j.nf4;
