/* tok_bpe.c - the merges of a BPE vocabulary: pairs of symbols, ranked by their place in the list.
 * Owns: the table of pairs in a struct tok. Does not: merge (tok_merge.c).
 * Runs on: the loading thread; bpe_rank on any. */
#include "coordinator/text/tok_internal.h"

#include <stdlib.h>
#include <string.h>

static struct pair_slot *find_pair(const struct tok *tok, uint64_t key) {
    size_t mask = tok->n_pair_slots - 1;
    for (size_t i = mix_u64(key ^ tok->by_symbol.seed) & mask;; i = (i + 1) & mask) {
        struct pair_slot *slot = &tok->pairs[i];
        if (slot->rank == NO_RANK || slot->key == key) return slot;
    }
}

uint32_t bpe_rank(const struct tok *tok, uint32_t left, uint32_t right, uint32_t *out_merged) {
    const struct pair_slot *slot = find_pair(tok, (uint64_t)left << 32 | right);
    *out_merged = slot->merged;
    return slot->rank;
}

static int make_pairs(struct tok *tok, uint64_t n_merges, struct err *err) {
    size_t n_slots = 64;
    while (n_slots / 3 * 2 < n_merges) n_slots *= 2;
    tok->pairs = malloc(n_slots * sizeof *tok->pairs);
    if (!tok->pairs)
        return err_set(err, ERR_NO_MEMORY, "no memory for %llu merges",
                (unsigned long long)n_merges);
    tok->n_pair_slots = n_slots;
    for (size_t i = 0; i < n_slots; i++)
        tok->pairs[i] = (struct pair_slot){.rank = NO_RANK, .merged = NO_SYMBOL};
    return 0;
}

/* The symbol of some bytes, a new one beyond the vocabulary if there is none. */
static int symbol_for(struct tok *tok, const char *bytes, size_t n, uint32_t *out_symbol,
        struct err *err) {
    uint32_t symbol = text_index_find(&tok->by_symbol, &tok->symbols, bytes, n);
    if (symbol == UINT32_MAX) {
        symbol = tok->symbols.n;
        int rc = text_list_add(&tok->symbols, bytes, n, err);
        if (rc == 0)
            rc = text_index_reserve(&tok->by_symbol, &tok->symbols, tok->by_symbol.n + 1, err);
        if (rc < 0) return rc;
        text_index_add(&tok->by_symbol, &tok->symbols, symbol);
        if (has_inner_space(bytes, n)) tok->space_starts_symbol = false;
    }
    *out_symbol = symbol;
    return 0;
}

static int bad_merge(uint32_t rank, struct gguf_str line, struct err *err) {
    return err_set(err, ERR_BAD_INPUT,
            "tokenizer.ggml.merges: entry %u (\"%.*s\", %zu bytes) is not two texts with a space "
            "between", (unsigned)rank, (int)(line.n < 40 ? line.n : 40), line.bytes, line.n);
}

/* Splits "LEFT RIGHT" at the first space that has something before it; both in symbol bytes in
 * both->bytes, the left one *out_left of them. 0 when the merge can never happen: it names
 * characters that stand for no byte. */
static int parse_merge(const struct tok *tok, uint32_t rank, struct gguf_str line,
        struct buf *both, size_t *out_left, struct err *err) {
    if (line.n < 3 || line.n > 2 * TOK_TOKEN_BYTES_MAX + 1) return bad_merge(rank, line, err);
    const char *space = memchr(line.bytes + 1, ' ', line.n - 1);
    if (!space || space == line.bytes + line.n - 1) return bad_merge(rank, line, err);
    size_t n_left = (size_t)(space - line.bytes), n_right = line.n - n_left - 1;

    buf_reset(both);
    if (tok->kind == TOK_KIND_RAW_BPE) {
        *out_left = n_left;
        int rc = buf_append(both, line.bytes, n_left, err);
        if (rc == 0) rc = buf_append(both, space + 1, n_right, err);
        return rc < 0 ? rc : 1;
    }
    int rc = bytes_from_mapped(both, line.bytes, n_left, err);
    if (rc != 1) return rc;
    *out_left = both->n_bytes;
    return bytes_from_mapped(both, space + 1, n_right, err);
}

static int add_merge(struct tok *tok, uint32_t rank, struct gguf_str line, struct buf *both,
        struct err *err) {
    size_t n_left = 0;
    int rc = parse_merge(tok, rank, line, both, &n_left, err);
    if (rc <= 0) return rc;

    uint32_t left, right, merged;
    rc = symbol_for(tok, both->bytes, n_left, &left, err);
    if (rc == 0)
        rc = symbol_for(tok, both->bytes + n_left, both->n_bytes - n_left, &right, err);
    if (rc == 0) rc = symbol_for(tok, both->bytes, both->n_bytes, &merged, err);
    if (rc < 0) return rc;

    struct pair_slot *slot = find_pair(tok, (uint64_t)left << 32 | right);
    if (slot->rank == NO_RANK) /* of equal merges the first counts */
        *slot = (struct pair_slot){(uint64_t)left << 32 | right, rank, merged};
    return 0;
}

int bpe_load(struct tok *tok, const struct gguf_array *merges, struct err *err) {
    int rc = make_pairs(tok, merges->n, err);
    if (rc < 0) return rc;

    struct buf both = {0};
    struct gguf_str line;
    size_t cursor = 0;
    for (uint32_t rank = 0; rc == 0 && gguf_array_next_str(merges, &cursor, &line); rank++)
        rc = add_merge(tok, rank, line, &both, err);
    buf_fini(&both);

    if (tok->kind == TOK_KIND_BPE) {
        for (unsigned b = 0; b < 256; b++) {
            char byte = (char)b;
            tok->byte_symbols[b] = text_index_find(&tok->by_symbol, &tok->symbols, &byte, 1);
        }
    }
    return rc;
}
