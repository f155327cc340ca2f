/** Learning rates and optimizers, on the flat buffers of trained parameters. It may not know what a layer is. */
package org.qlora4j.optim;
