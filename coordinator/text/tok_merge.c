/* tok_merge.c - one word to ids: the best-ranked adjacent pair merges first, the leftmost of
 * equals, until none can. BPE ranks pairs by the list of merges, SentencePiece by the result's
 * score.
 * Owns: nothing. Does not: cut texts into words. Runs on: any thread, with its own tok_work.
 *
 * A heap holds (rank, left symbol). Each symbol remembers the rank of its pair, so an entry is
 * stale exactly when the symbol's rank is another: at one place a rank stands for one pair (BPE),
 * or for pairs that are equally good (SPM). O(n log n) for a word of n bytes. */
#include "coordinator/text/tok_internal.h"

#include "coordinator/text/utf8.h"

#include <string.h>

#define NO_PLACE UINT32_MAX

static int heap_push(struct tok_work *work, uint64_t entry, struct err *err) {
    if (work->n_heap == work->heap_capacity) {
        uint64_t *heap = grow_array(work->heap, &work->heap_capacity, work->n_heap + 1,
                sizeof *heap, err);
        if (!heap) return ERR_NO_MEMORY;
        work->heap = heap;
    }
    size_t at = work->n_heap++;
    while (at > 0 && work->heap[(at - 1) / 2] > entry) {
        work->heap[at] = work->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    work->heap[at] = entry;
    return 0;
}

static uint64_t heap_pop(struct tok_work *work) {
    uint64_t *heap = work->heap;
    uint64_t top = heap[0], last = heap[--work->n_heap];
    size_t n = work->n_heap, at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n) break;
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

/* Higher scores give smaller ranks; equal scores equal ones. Never NO_RANK: scores are numbers. */
static uint32_t rank_of_score(float score) {
    score += 0.0f; /* -0 counts as 0 */
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    return bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
}

/* Looks up the pair of symbol i and the next one, and enters it into the heap. n: of the word. */
static int rank_pair(const struct tok *tok, struct tok_work *work, const char *word, size_t n,
        uint32_t i, struct err *err) {
    struct symbol *left = &work->symbols[i];
    left->rank = NO_RANK;
    if (left->next == NO_PLACE) return 0;
    const struct symbol *right = &work->symbols[left->next];

    if (tok->kind == TOK_KIND_SPM) {
        size_t end = right->next == NO_PLACE ? n : work->symbols[right->next].start;
        size_t n_both = end - left->start;
        if (n_both > tok->symbol_bytes_max) return 0;
        left->merged = text_index_find(&tok->by_symbol, &tok->symbols, word + left->start, n_both);
        if (left->merged == UINT32_MAX) return 0;
        left->rank = rank_of_score(tok->scores[left->merged]);
    } else {
        if (left->symbol == NO_SYMBOL || right->symbol == NO_SYMBOL) return 0;
        left->rank = bpe_rank(tok, left->symbol, right->symbol, &left->merged);
        if (left->rank == NO_RANK) return 0;
    }
    return heap_push(work, (uint64_t)left->rank << 32 | i, err);
}

/* One symbol for each byte (byte-level BPE) or character. Returns how many. */
static size_t first_symbols(const struct tok *tok, struct symbol *symbols, const char *word,
        size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n;) {
        size_t length = 1;
        uint32_t symbol;
        if (tok->kind == TOK_KIND_BPE) {
            symbol = tok->byte_symbols[(uint8_t)word[i]];
        } else {
            length = utf8_decode(word + i, n - i, NULL);
            ASSERT(length > 0);
            symbol = text_index_find(&tok->by_symbol, &tok->symbols, word + i, length);
        }
        symbols[count] = (struct symbol){
            .previous = count ? (uint32_t)count - 1 : NO_PLACE,
            .next = (uint32_t)count + 1,
            .start = (uint32_t)i,
            .symbol = symbol,
            .rank = NO_RANK,
        };
        count++;
        i += length;
    }
    symbols[count - 1].next = NO_PLACE;
    return count;
}

static int merge_all(const struct tok *tok, struct tok_work *work, const char *word, size_t n,
        struct err *err) {
    while (work->n_heap > 0) {
        uint64_t top = heap_pop(work);
        uint32_t i = (uint32_t)top;
        struct symbol *left = &work->symbols[i];
        if (left->rank != top >> 32) continue;

        struct symbol *right = &work->symbols[left->next];
        left->symbol = left->merged;
        left->next = right->next;
        right->rank = NO_RANK;
        if (right->next != NO_PLACE) work->symbols[right->next].previous = i;

        int rc = rank_pair(tok, work, word, n, i, err);
        if (rc == 0 && left->previous != NO_PLACE)
            rc = rank_pair(tok, work, word, n, left->previous, err);
        if (rc < 0) return rc;
    }
    return 0;
}

/* A symbol that is no token: byte by byte, or else the unknown token. */
static int spell(const struct tok *tok, const char *bytes, size_t n, struct tok_ids *ids,
        struct err *err) {
    size_t n_before = ids->n;
    for (size_t i = 0; i < n; i++) {
        int32_t id = tok->byte_tokens[(uint8_t)bytes[i]];
        int rc = 0;
        if (id != TOK_NONE) {
            rc = tok_ids_push(ids, id, err);
        } else {
            ids->n = n_before;
            if (tok->specials[TOK_UNK] != TOK_NONE)
                return tok_ids_push(ids, tok->specials[TOK_UNK], err);
            rc = err_set(err, ERR_UNSUPPORTED,
                    "this model's vocabulary has no token for the byte 0x%02x of the text",
                    (unsigned)(uint8_t)bytes[i]);
        }
        if (rc < 0) return rc;
    }
    return 0;
}

static int emit(const struct tok *tok, const struct tok_work *work, const char *word, size_t n,
        struct tok_ids *ids, struct err *err) {
    for (uint32_t i = 0; i != NO_PLACE; i = work->symbols[i].next) {
        const struct symbol *symbol = &work->symbols[i];
        size_t end = symbol->next == NO_PLACE ? n : work->symbols[symbol->next].start;
        int rc = symbol->symbol < tok->n_vocab
                ? tok_ids_push(ids, (int32_t)symbol->symbol, err)
                : spell(tok, word + symbol->start, end - symbol->start, ids, err);
        if (rc < 0) return rc;
    }
    return 0;
}

/* Words taken whole: any token (whole_words), and gemma4's runs of line ends. */
static uint32_t whole_word(const struct tok *tok, const char *word, size_t n) {
    bool wanted = tok->whole_words || (tok->kind == TOK_KIND_RAW_BPE && word[0] == '\n');
    if (!wanted || n > tok->symbol_bytes_max) return NO_SYMBOL;
    return text_index_find(&tok->by_symbol, &tok->symbols, word, n);
}

int merge_word(const struct tok *tok, struct tok_work *work, const char *word, size_t n,
        struct tok_ids *ids, struct err *err) {
    if (n == 0) return 0;
    uint32_t whole = whole_word(tok, word, n);
    if (whole < tok->n_vocab) return tok_ids_push(ids, (int32_t)whole, err);

    if (work->symbols_capacity < n) {
        struct symbol *symbols = grow_array(work->symbols, &work->symbols_capacity, n,
                sizeof *symbols, err);
        if (!symbols) return ERR_NO_MEMORY;
        work->symbols = symbols;
    }
    size_t n_symbols = first_symbols(tok, work->symbols, word, n);
    work->n_heap = 0;
    for (uint32_t i = 0; i < n_symbols; i++) {
        int rc = rank_pair(tok, work, word, n, i, err);
        if (rc < 0) return rc;
    }
    int rc = merge_all(tok, work, word, n, err);
    return rc < 0 ? rc : emit(tok, work, word, n, ids, err);
}
