package org.qlora4j.optim.train;

import java.util.ArrayList;
import java.util.List;

/**
 * How the passes of a step are divided among ranks, and the fixed tree by which what they give is summed: the numbers
 * of the passes are the leaves of a binary tree, a node sums an aligned block of 2^k of them, its left half first. The
 * tree knows nothing of ranks, so the sum has the same bits on any number of them.
 *
 * @param count of the step
 * @param ranks that share them
 */
record Passes(int count, int ranks) {
    /** A block of the tree, all of whose passes one rank has. @param from its first pass @param size a power of two */
    record Node(int from, int size) {
        /** Whether the two make the next larger block, this one being the left half. */
        boolean isLeftOf(Node right) {
            return size == right.size && from + size == right.from && from % (2 * size) == 0;
        }

        Node with(Node right) {
            return new Node(from, size + right.size);
        }
    }

    /** First pass of a rank; its last is before the next rank's first. */
    int from(int rank) {
        return (int) ((long) count * rank / ranks);
    }

    int to(int rank) {
        return from(rank + 1);
    }

    /** The largest blocks that a rank's passes make, from left to right. */
    List<Node> nodes(int rank) {
        List<Node> nodes = new ArrayList<>();
        for (int at = from(rank); at < to(rank); ) {
            int size = 1;
            while (at % (2 * size) == 0 && at + 2 * size <= to(rank)) {
                size *= 2;
            }
            nodes.add(new Node(at, size));
            at += size;
        }
        return nodes;
    }
}
