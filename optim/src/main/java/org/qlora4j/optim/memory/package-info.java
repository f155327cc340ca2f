/** How much memory a training run will hold, before it starts. */
package org.qlora4j.optim.memory;
