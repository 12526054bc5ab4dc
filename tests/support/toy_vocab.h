/* toy_vocab.h - small vocabularies in memory for tests of the tokenizer. */
#pragma once

#include "coordinator/text/tok.h"
#include "tests/support/gguf_writer.h"

/* What goes into a file; NULL and 0 leave a key out. */
struct toy_vocab {
    const char *model, *pre;
    const char *const *tokens;
    const int32_t *types; /* [n_types] */
    const float *scores;  /* [n_scores] */
    const char *const *merges;
    size_t n_tokens, n_types, n_scores, n_merges;
    int64_t bos, eos, unk; /* -1: no key */
};

/* Writes the keys into a writer that was begun. */
void toy_vocab_write(struct gguf_writer *w, const struct toy_vocab *vocab);

/* Finishes the writer and loads the vocabulary from it. */
int toy_vocab_load(struct gguf_writer *w, struct tok **out_tok, struct err *err);

/* A vocabulary of a kind: "gpt2" with all 256 bytes, "llama" with byte tokens, "gemma4"; with a few
 * merges, control tokens "<s>", "</s>", "<|im_end|>", user-defined "<|x|>", "<a><b", "\n\n". */
int toy_vocab_open(const char *model, struct tok **out_tok, struct err *err);

/* The stand-in character of a byte in byte-level BPE, terminated. */
void toy_vocab_mapped(unsigned byte, char out[4]);
