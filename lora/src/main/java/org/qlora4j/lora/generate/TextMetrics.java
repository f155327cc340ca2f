package org.qlora4j.lora.generate;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * How close an answer is to a reference. Words are runs of letters and digits in lower case; every Chinese, Japanese or
 * Korean character is a word of its own, so that no dictionary is needed.
 */
public final class TextMetrics {
    private static final Pattern WORD = Pattern.compile(
            "[\\p{IsHan}\\p{IsHiragana}\\p{IsKatakana}\\p{IsHangul}]|[\\p{L}\\p{M}\\p{N}&&[^\\p{IsHan}\\p{IsHiragana}\\p{IsKatakana}\\p{IsHangul}]]+");

    private static final int LONGEST_NGRAM = 4;

    private TextMetrics() {}

    static List<String> words(String text) {
        List<String> words = new ArrayList<>();
        Matcher m = WORD.matcher(text.toLowerCase(java.util.Locale.ROOT));
        while (m.find()) {
            words.add(m.group());
        }
        return words;
    }

    /** Whether both say the same, up to white space at the ends. */
    public static boolean exactMatch(String answer, String reference) {
        return answer.strip().equals(reference.strip());
    }

    /**
     * ROUGE-L: F1 of the longest common subsequence of words.
     *
     * @see <a href="https://aclanthology.org/W04-1013">Lin 2004</a>
     */
    public static double rougeL(String answer, String reference) {
        List<String> a = words(answer);
        List<String> r = words(reference);
        int common = longestCommonSubsequence(a, r);
        return common == 0 ? 0 : 2.0 * common / (a.size() + r.size());
    }

    private static int longestCommonSubsequence(List<String> a, List<String> b) {
        int[] last = new int[b.size() + 1];
        for (String word : a) {
            int diagonal = 0;
            for (int j = 1; j <= b.size(); j++) {
                int above = last[j];
                last[j] = word.equals(b.get(j - 1)) ? diagonal + 1 : Math.max(above, last[j - 1]);
                diagonal = above;
            }
        }
        return last[b.size()];
    }

    /**
     * BLEU-4 of one answer. An n-gram order without a hit counts {@code 1/2^k} hits, k counting such orders, as nltk's
     * {@code SmoothingFunction().method3}.
     *
     * @see <a href="https://aclanthology.org/P02-1040">Papineni et al. 2002</a>
     */
    public static double bleu(String answer, String reference) {
        List<String> a = words(answer);
        List<String> r = words(reference);
        double logSum = 0;
        int empty = 0;
        for (int n = 1; n <= LONGEST_NGRAM; n++) {
            double hits = hits(a, r, n);
            int all = Math.max(1, a.size() - n + 1);
            if (hits == 0) {
                if (n == 1) {
                    return 0;
                }
                hits = 1.0 / (1 << ++empty);
            }
            logSum += Math.log(hits / all) / LONGEST_NGRAM;
        }
        double brevity = a.size() > r.size() ? 0 : 1 - (double) r.size() / a.size();
        return Math.exp(logSum + brevity);
    }

    /** n-grams of a that stand in r, each at most as often as there. */
    private static int hits(List<String> a, List<String> r, int n) {
        Map<List<String>, Integer> left = new HashMap<>();
        for (int i = 0; i + n <= r.size(); i++) {
            left.merge(r.subList(i, i + n), 1, Integer::sum);
        }
        int hits = 0;
        for (int i = 0; i + n <= a.size(); i++) {
            List<String> gram = a.subList(i, i + n);
            if (left.merge(gram, -1, Integer::sum) >= 0) {
                hits++;
            }
        }
        return hits;
    }
}
