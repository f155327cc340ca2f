/**
 * What a run leaves for people to look at: TensorBoard's event files, charts, a page. It reads the trainer's log and
 * changes nothing.
 */
package org.qlora4j.optim.report;
