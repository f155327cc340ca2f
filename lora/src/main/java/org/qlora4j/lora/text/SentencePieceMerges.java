package org.qlora4j.lora.text;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/**
 * Merges of a SentencePiece BPE vocabulary, which itself only has a score for each piece: every way to make a piece of
 * two others, best score first. Ways to make one piece are ordered by the scores of the left, then of the right part,
 * as transformers orders them.
 */
final class SentencePieceMerges {
    private record Merge(String left, String right, double score, double leftScore, double rightScore) {}

    private static final Comparator<Merge> BEST_FIRST = Comparator.comparingDouble(Merge::score)
            .thenComparingDouble(Merge::leftScore)
            .thenComparingDouble(Merge::rightScore)
            .reversed();

    private SentencePieceMerges() {}

    /**
     * @param vocabulary pieces; only normal and user-defined ones take part, so that no text merges to a byte or
     *     control token
     * @param scores one per piece
     * @return pairs in the order in which they merge
     */
    static List<List<String>> of(GgufVocabulary vocabulary, List<Double> scores) {
        List<Merge> merges = new ArrayList<>();
        for (int id = 0; id < vocabulary.size(); id++) {
            if (takesPart(vocabulary, id)) {
                addSplits(vocabulary, scores, id, merges);
            }
        }
        merges.sort(BEST_FIRST); // stable: equal ones stay in the order of the vocabulary
        List<List<String>> pairs = new ArrayList<>(merges.size());
        for (Merge merge : merges) {
            pairs.add(List.of(merge.left, merge.right));
        }
        return pairs;
    }

    private static void addSplits(GgufVocabulary vocabulary, List<Double> scores, int id, List<Merge> merges) {
        String piece = vocabulary.token(id);
        for (int at = 1; at < piece.length(); at++) {
            String left = piece.substring(0, at);
            String right = piece.substring(at);
            if (takesPart(vocabulary, left) && takesPart(vocabulary, right)) {
                double leftScore = scores.get(vocabulary.id(left));
                merges.add(new Merge(left, right, scores.get(id), leftScore, scores.get(vocabulary.id(right))));
            }
        }
    }

    private static boolean takesPart(GgufVocabulary vocabulary, String piece) {
        return vocabulary.has(piece) && takesPart(vocabulary, vocabulary.id(piece));
    }

    private static boolean takesPart(GgufVocabulary vocabulary, int id) {
        return switch (vocabulary.type(id)) {
            case NORMAL, USER_DEFINED -> true;
            case UNDEFINED, UNKNOWN, CONTROL, UNUSED, BYTE -> false;
        };
    }
}
