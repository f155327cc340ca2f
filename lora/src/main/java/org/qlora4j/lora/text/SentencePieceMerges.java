package org.qlora4j.lora.text;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/**
 * Merges of a SentencePiece BPE vocabulary, which itself only has a score for each piece: every way to make a piece of
 * two others, best score first, then by id; ways to make one piece by the ids of the left, then of the right part. This
 * is the order of the merges in the tokenizer.json that transformers makes of a SentencePiece model.
 */
final class SentencePieceMerges {
    private record Merge(int piece, int left, int right) {}

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
                addSplits(vocabulary, id, merges);
            }
        }
        merges.sort(Comparator.comparingDouble((Merge merge) -> -scores.get(merge.piece))
                .thenComparingInt(Merge::piece)
                .thenComparingInt(Merge::left)
                .thenComparingInt(Merge::right));
        List<List<String>> pairs = new ArrayList<>(merges.size());
        for (Merge merge : merges) {
            pairs.add(List.of(vocabulary.token(merge.left), vocabulary.token(merge.right)));
        }
        return pairs;
    }

    private static void addSplits(GgufVocabulary vocabulary, int id, List<Merge> merges) {
        String piece = vocabulary.token(id);
        for (int at = 1; at < piece.length(); at++) {
            String left = piece.substring(0, at);
            String right = piece.substring(at);
            if (takesPart(vocabulary, left) && takesPart(vocabulary, right)) {
                merges.add(new Merge(id, vocabulary.id(left), vocabulary.id(right)));
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
