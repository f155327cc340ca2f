package org.qlora4j.optim.train;

import java.util.Map;

/**
 * One line of logging.jsonl.
 *
 * @param step optimizer steps done
 * @param values by ms-swift's keys, in order
 */
public record LogEntry(int step, Map<String, Object> values) {}
