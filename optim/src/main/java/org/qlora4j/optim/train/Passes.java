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

    /** Adds what was collected of two blocks. */
    interface Adder {
        void add(int to, int from);
    }

    /** The blocks of all ranks, in their order. */
    List<Node> nodes() {
        List<Node> all = new ArrayList<>();
        for (int r = 0; r < ranks; r++) {
            all.addAll(nodes(r));
        }
        return all;
    }

    /**
     * Adds up the tree above the blocks of all ranks.
     *
     * @param adder takes places in the list of {@link #nodes()}
     * @return the place that holds the sum now
     */
    int sum(List<Node> all, Adder adder) {
        return sum(all, 0, Integer.highestOneBit(Math.max(1, 2 * count - 1)), adder);
    }

    /** @return -1 if the block has no pass */
    private static int sum(List<Node> all, int from, int size, Adder adder) {
        int index = all.indexOf(new Node(from, size));
        if (index >= 0 || size == 1) {
            return index;
        }
        int left = sum(all, from, size / 2, adder);
        int right = sum(all, from + size / 2, size / 2, adder);
        if (left >= 0 && right >= 0) {
            adder.add(left, right);
        }
        return left >= 0 ? left : right;
    }

    /** Where a rank's share of {@code count} things begins; it ends where the next rank's begins. */
    static int start(int count, int rank, int ranks) {
        return (int) ((long) count * rank / ranks);
    }

    /** First pass of a rank; its last is before the next rank's first. */
    int from(int rank) {
        return start(count, rank, ranks);
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
