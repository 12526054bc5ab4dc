#!/usr/bin/env python3
"""The demo model: perplexity of its text, tokens of that text, and the greedy answers it is to give."""
import json
import os

import potluck
from potluck import DEMO, run

GAP = 0.3  # below it another rounding may rightly choose another token


def check_text(tally, expected):
    text_path = os.path.join(potluck.scratch(), "text.txt")
    with open(text_path, "w", encoding="utf-8") as f:
        f.write(expected["text"])
    result = run("tokenize", DEMO, "-f", text_path, "--special", "--json")
    tally.check(result.code == 0 and result.json()["token_ids"] == expected["text_token_ids"],
                "the text's tokens are the expected ones", result if result.code else None)
    result = run("tokenize", DEMO, "--decode", " ".join(map(str, expected["text_token_ids"])), "--special")
    tally.check(result.code == 0 and result.out.rstrip("\n") == expected["text"].rstrip("\n"),
                "the tokens decode to the text", result)

    ids_path = potluck.write_ids("text.json", expected["text_token_ids"])
    by_ids = run("eval", DEMO, "--tokens", ids_path, "--kv", "f32", "--json", seconds=120)
    by_text = run("eval", DEMO, "--text", text_path, "--kv", "f32", "--json", seconds=120)
    if not tally.check(by_ids.code == 0, "eval of the token ids runs", by_ids):
        return
    found = by_ids.json()
    ratio = found["perplexity"] / expected["perplexity"]
    tally.check(abs(ratio - 1) < 0.01, f"perplexity {found['perplexity']:.4f}, expected {expected['perplexity']:.4f}")
    tally.check(by_text.code == 0 and by_text.json()["logits_sha256"] == found["logits_sha256"],
                "eval of the text gives the same bits as eval of its ids", by_text)
    print(f"perplexity {found['perplexity']:.4f}, expected {expected['perplexity']:.4f} "
          f"({100 * (ratio - 1):+.2f} %), {found['tokens']} tokens in {found['seconds']:.2f} s")


def check_greedy(tally, answer):
    """The row of one prompt for the table."""
    want, gaps = answer["greedy_token_ids"], answer["gap_first_second"]
    sure = next((i for i, gap in enumerate(gaps) if gap < GAP), len(want))
    result = run("run", DEMO, "-p", answer["prompt"], "--temp", 0, "-n", len(want), "--json", seconds=120)
    if not tally.check(result.code == 0 and not result.broke, f"{answer['prompt']}: runs", result):
        return [answer["prompt"], "-", "-", "-"]
    got = result.json()
    tally.check(got["prompt_token_ids"] == answer["prompt_token_ids"],
                f"{answer['prompt']}: the chat prompt is {answer['prompt_token_ids']}, not {got['prompt_token_ids']}")
    equal = next((i for i, (a, b) in enumerate(zip(want, got["token_ids"])) if a != b),
                 min(len(want), len(got["token_ids"])))
    tally.check(equal >= min(sure, len(want)),
                f"{answer['prompt']}: leaves the expected answer at token {equal}; the first gap under {GAP} is at {sure}")
    return [answer["prompt"], len(want), sure, equal]


def main():
    with open(potluck.shared_or_skip("models", "demo", "expected.json"), encoding="utf-8") as f:
        expected = json.load(f)
    tally = potluck.Tally("golden_demo")
    check_text(tally, expected)
    rows = [check_greedy(tally, answer) for answer in expected["greedy"]]
    print()
    potluck.table(["prompt", "tokens", "sure until", "equal until"], rows)
    tally.end()


if __name__ == "__main__":
    main()
