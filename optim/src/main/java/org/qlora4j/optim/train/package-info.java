/** The training loop, its checkpoints and logs. */
package org.qlora4j.optim.train;
