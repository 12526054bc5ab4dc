/* tok_pre.h - pre-tokenizers: how a text is cut into the words inside which BPE merges.
 *
 * A pre-tokenizer is a list of steps. The first cuts the text, the next cuts each piece of the
 * first as a text of its own, and so on. A step's matches become pieces, and so do the gaps.
 * For files of this folder only. A struct tok_pre is immutable, any thread; a struct pre_cuts has
 * one owner. */
#pragma once

#include "proto/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pre_cut {
    PRE_CUT_MATCHES = 0,  /* each match is a piece */
    PRE_CUT_THREES,       /* each match is cut in threes of characters, counted from its right */
    PRE_CUT_THREES_OPEN,  /* likewise, but the match's own ends are no cuts (only a full three's) */
};

struct pre_step {
    const char *regex; /* NULL ends the list */
    enum pre_cut cut;
};

#define PRE_STEPS_MAX 7

/* What a file's tokenizer.ggml.pre stands for. */
struct pre_entry {
    const char *name;
    const struct pre_step *steps; /* up to PRE_STEPS_MAX and the end */
    unsigned traits;              /* enum pre_trait */
};

enum pre_trait {
    PRE_ADD_BOS = 1,       /* add_bos_token when the file does not say */
    PRE_WHOLE_WORDS = 2,   /* a word that is a token is taken as it is, merges or not */
    PRE_RAW = 4,           /* vocabulary in plain UTF-8 with U+2581 for space, not byte-mapped */
    PRE_LSTRIP_MASK = 8,   /* "<mask>" swallows the spaces before it */
};

/* The entry of a name; NULL when it is unknown. "" finds "default". */
const struct pre_entry *pre_find(const char *name, size_t n);

struct tok_pre; /* opaque: the compiled steps */

/* ERR_NO_MEMORY; ERR_BUG when one of our patterns does not compile. */
int tok_pre_new(const struct pre_entry *entry, struct tok_pre **out_pre, struct err *err);
void tok_pre_free(struct tok_pre *pre);

/* Where the pieces end, ascending; all-zero is empty. The memory is kept from call to call. */
struct pre_cuts {
    uint32_t *ends;
    size_t n;
    size_t capacity;
    uint32_t *before; /* the step's input */
    size_t before_capacity;
    void *match;      /* PCRE2's work space */
    void *match_limits;
    void *stack;
};

void pre_cuts_fini(struct pre_cuts *cuts);

/* Cuts text[n], valid UTF-8 and n < 2^31, into pieces: cuts->ends. Where a pattern gives up on a
 * piece (a run of megabytes), the rest of that piece is cut every 4 KiB. ERR_NO_MEMORY. */
int tok_pre_cut(const struct tok_pre *pre, const char *text, size_t n, struct pre_cuts *cuts,
        struct err *err);
