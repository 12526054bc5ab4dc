/* tok_internal.h - what the tok_*.c files share. For files of this folder only.
 *
 * Vocabulary in three numberings of strings, all by token id first:
 *   texts   as the file spells them                        (tok_find, special tokens)
 *   symbols what merging works on: byte-level BPE in raw bytes, others as spelled. Longer than the
 *           vocabulary when merges name strings that are no tokens; empty where a token's text is
 *           no byte-mapped text
 *   pieces  what a token adds to the output */
#pragma once

#include "coordinator/text/tok.h"
#include "coordinator/text/tok_pre.h"
#include "coordinator/text/tok_text.h"

enum tok_kind { TOK_KIND_BPE, TOK_KIND_RAW_BPE, TOK_KIND_SPM };

/* Several of these can hold for one token. */
enum tok_attr {
    ATTR_UNKNOWN = 1, ATTR_UNUSED = 2, ATTR_NORMAL = 4, ATTR_CONTROL = 8, ATTR_USER = 16,
    ATTR_BYTE = 32, ATTR_EOG = 64, ATTR_LSTRIP = 128, ATTR_RSTRIP = 256,
};

/* Vocabularies in use have up to 262144 tokens, up to 514906 merges, texts up to some hundred
 * bytes; the limits leave room and bound the work a crafted file can cause. */
#define TOK_VOCAB_MAX ((uint64_t)1 << 22)
#define TOK_MERGES_MAX ((uint64_t)1 << 23)
#define TOK_TOKEN_BYTES_MAX 8192u
#define TOK_MARK_BYTES_MAX 1024u /* of control and user-defined tokens */

/* U+2581, which SentencePiece writes for a space. */
#define SPACE_MARK "\xe2\x96\x81"

#define NO_SYMBOL UINT32_MAX
#define NO_RANK UINT32_MAX

struct pair_slot {
    uint64_t key; /* left << 32 | right */
    uint32_t rank; /* NO_RANK = free slot */
    uint32_t merged;
};

struct tok {
    enum tok_kind kind;
    char *model_name, *pre_name; /* owned */
    uint32_t n_vocab;
    uint16_t *attrs;             /* [n_vocab], enum tok_attr */
    float *scores;               /* [n_vocab], SPM */
    struct text_list texts, symbols, pieces;
    struct text_index by_text, by_symbol;
    size_t symbol_bytes_max;
    uint32_t byte_symbols[256];  /* the symbol of each single byte, NO_SYMBOL; byte-level BPE */
    int32_t byte_tokens[256];    /* what spells a byte that no symbol spells, TOK_NONE */

    struct pair_slot *pairs; /* BPE merges */
    size_t n_pair_slots;     /* a power of two */
    struct tok_pre *pre;     /* BPE */
    bool whole_words;
    /* No symbol goes on with U+2581 after something else: words can be cut in front of it. */
    bool space_starts_symbol;

    uint32_t *marks; /* control, unknown and user-defined ids, sorted by their bytes */
    uint32_t *mark_order; /* [n_marks] priority of each: longest first; 0 = first */
    size_t n_marks;
    uint32_t mark_starts[257]; /* marks[mark_starts[b]..mark_starts[b + 1]] begin with byte b */

    bool add_bos, add_eos, add_prefix_space;
    int32_t specials[TOK_SPECIAL_COUNT];
    int32_t *suppressed; /* owned */
    size_t n_suppressed;
};

/* One symbol of the word that is being merged. */
struct symbol {
    uint32_t previous, next; /* UINT32_MAX = none */
    uint32_t start;          /* in the word, bytes */
    uint32_t symbol;         /* NO_SYMBOL: unknown character */
    uint32_t rank;           /* of merging with the next one; NO_RANK: cannot, or is dead */
    uint32_t merged;         /* the symbol that would give */
};

/* A stretch of the text between special tokens, or one special token. */
struct stretch {
    uint32_t from, end;
    int32_t id; /* the token, or TOK_NONE for text */
};

/* An occurrence of a special token. */
struct mark_hit {
    uint32_t order, from, n;
    int32_t id;
};

/* Work space of one tok_encode(). All-zero is empty. */
struct tok_work {
    struct symbol *symbols;
    size_t symbols_capacity;
    uint64_t *heap; /* rank << 32 | left symbol, smallest on top */
    size_t n_heap, heap_capacity;
    struct buf clean;   /* the text as valid UTF-8, when it was not */
    struct buf escaped; /* a stretch with U+2581 for spaces */
    struct pre_cuts cuts;

    struct stretch *stretches;
    size_t n_stretches, stretches_capacity;
    struct mark_hit *hits;
    size_t n_hits, hits_capacity;
    uint32_t *mark_counts; /* [n_marks] */
    uint8_t *taken;        /* [n] of the text */
};

void tok_work_fini(struct tok_work *work);

/* A bigger block for n elements of the given size, at least doubled; NULL and an error when there
 * is none (the old block stays). */
void *grow_array(void *block, size_t *capacity, size_t n, size_t size, struct err *err);

/* tok_bytes.c: the byte <-> character table of byte-level BPE. */

/* Appends the raw bytes of a byte-mapped text. 1, or 0 when it is none (out is then unchanged);
 * ERR_NO_MEMORY. */
int bytes_from_mapped(struct buf *out, const char *text, size_t n, struct err *err);

/* The token text "<0xNN>" as a byte; -1 when it is none. */
int byte_from_token_text(struct tok_text text);

/* Whether U+2581 stands anywhere but in front. */
bool has_inner_space(const char *text, size_t n);

/* tok_merge.c: the ids of one word, appended to ids. ERR_UNSUPPORTED when it cannot be spelled. */
int merge_word(const struct tok *tok, struct tok_work *work, const char *word, size_t n,
        struct tok_ids *ids, struct err *err);

/* tok_bpe.c: reads the merges, numbers the symbols. */
int bpe_load(struct tok *tok, const struct gguf_array *merges, struct err *err);

/* The rank of a pair and what it merges into; NO_RANK when it is no merge. */
uint32_t bpe_rank(const struct tok *tok, uint32_t left, uint32_t right, uint32_t *out_merged);

/* tok_special.c: special ids by text, the end-of-generation set, per-name corrections. After this
 * the attributes are final. */
int specials_load(struct tok *tok, const struct gguf *gguf, unsigned pre_traits, struct err *err);

/* tok_split.c: prepares and does the search for special tokens in raw text: work->stretches. */
int marks_load(struct tok *tok, struct err *err);
int marks_split(const struct tok *tok, struct tok_work *work, const char *text, size_t n,
        bool parse_special, struct err *err);
