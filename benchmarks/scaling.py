#!/usr/bin/env python3
"""The tables of docs/scaling.md: cost of a step of Qwen3-14B on 1 to 1,024 GPUs, by formulas. Needs nothing but Python.

Prints Markdown; `benchmarks/scaling.py --check docs/scaling.md` fails if the page's tables are others.
"""
import sys

# Qwen3-14B's config.json
HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, HEAD, PARAMETERS = 5120, 17408, 40, 40, 8, 128, 14.8e9
RANK = 8
# assumed: a GPU of 989 TFLOP/s in bf16 of which training reaches 40 %, passes of 2,048 tokens
FLOPS, TOKENS = 0.4 * 989e12, 2048
# assumed: one message from rank to rank, and host memory to GPU over PCIe
LATENCY, PCIE = 10e-6, 25e9
# numbers exchanged at once, as GradientSum.PIECE
PIECE = 1 << 20

RANKS = [1, 2, 4, 8, 16, 64, 256, 1024]
GBITS = [25, 100, 200, 400]


def lora_numbers():
    """A and B of all seven linear layers: rank · (in + out) each."""
    q, kv = HEADS * HEAD, KV_HEADS * HEAD
    layer = 2 * (HIDDEN + q) + 2 * (HIDDEN + kv) + 3 * (HIDDEN + INTERMEDIATE)
    return RANK * layer * LAYERS


def pass_seconds():
    """Forward, forward again for the checkpoints, backward without weight gradients: 2 operations a weight each."""
    return 6 * PARAMETERS * TOKENS / FLOPS


def ring(n, size, rate):
    """Also our fixed tree's volume: each rank gets its slice from all, adds, and gives the sum to all."""
    return 2 * (n - 1) / n * size / rate + 2 * (n - 1) * LATENCY


def fixed_tree(n, size, rate):
    pieces = -(-size // (4 * PIECE)) if n > 1 else 0
    return 2 * (n - 1) / n * size / rate + pieces * 2 * (n - 1) * LATENCY + (2 * size / PCIE if n > 1 else 0)


def binomial(n, size, rate):
    """Reduce to one rank and broadcast, the whole buffer in each round."""
    rounds = (n - 1).bit_length()
    return 2 * rounds * (size / rate + LATENCY)


def table(title, cost, size):
    lines = [f"{title}, milliseconds a step:", "", "| ranks | " + " | ".join(f"{g} Gbit/s" for g in GBITS) + " |"]
    lines.append("|---" * (len(GBITS) + 1) + "|")
    for n in RANKS:
        lines.append(f"| {n} | " + " | ".join(f"{1e3 * cost(n, size, g / 8 * 1e9):.1f}" for g in GBITS) + " |")
    return lines


def main():
    numbers = lora_numbers()
    size = 4 * numbers
    compute = pass_seconds()
    out = [f"LoRA of rank {RANK} on all linear layers: {numbers:,} numbers, {size / 1e6:.0f} MB of fp32 gradients. "
           f"A pass of {TOKENS:,} tokens takes {compute:.2f} s.", ""]
    out += table("Ring (MPI's or NCCL's own, `--reduction fast`)", ring, size) + [""]
    out += table("The fixed tree as we sum it (slices to all, through host memory)", fixed_tree, size) + [""]
    out += table("Binomial tree of whole buffers (what we do not do)", binomial, size) + [""]
    out += ["Share of a step that computes, one pass a rank (the worst case), fixed tree:", "",
            "| ranks | " + " | ".join(f"{g} Gbit/s" for g in GBITS) + " |", "|---" * (len(GBITS) + 1) + "|"]
    for n in RANKS:
        shares = [compute / (compute + fixed_tree(n, size, g / 8 * 1e9)) for g in GBITS]
        out.append(f"| {n} | " + " | ".join(f"{100 * s:.0f} %" for s in shares) + " |")
    out += ["", "One batch of 128 passes divided among the ranks, 100 Gbit/s: seconds a step, and how many times faster than one GPU:",
            "", "| ranks | fixed tree | speed-up | ring | speed-up |", "|---|---|---|---|---|"]
    one = 128 * compute
    for n in RANKS:
        each = -(-128 // n) * compute
        tree, plain = each + fixed_tree(n, size, 12.5e9), each + ring(n, size, 12.5e9)
        out.append(f"| {n} | {tree:.2f} | {one / tree:.0f} | {plain:.2f} | {one / plain:.0f} |")
    text = "\n".join(out) + "\n"
    if sys.argv[1:2] == ["--check"]:
        with open(sys.argv[2]) as page:
            if text not in page.read():
                sys.exit(f"the tables in {sys.argv[2]} are not those of this script")
    else:
        print(text, end="")


main()
