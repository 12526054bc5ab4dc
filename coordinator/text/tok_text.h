/* tok_text.h - numbered byte strings in one block, and an index from bytes to number.
 * For files of this folder only. One owner while it is filled; then read-only, any thread. */
#pragma once

#include "coordinator/text/tok.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Strings 0..n-1; all-zero is the empty list. */
struct text_list {
    char *bytes;
    size_t n_bytes; /* below 4 GiB */
    size_t bytes_capacity;
    uint32_t *starts; /* [n + 1]; string i is bytes[starts[i]..starts[i + 1]] */
    uint32_t n;
    size_t starts_capacity;
};

void text_list_fini(struct text_list *list);

/* Adds a string; its number is the old list->n. ERR_NO_MEMORY, ERR_LIMIT (4 GiB in all). */
int text_list_add(struct text_list *list, const char *bytes, size_t n, struct err *err);
struct tok_text text_list_at(const struct text_list *list, uint32_t i);

struct text_slot {
    uint32_t hash;
    uint32_t number; /* of the string, plus 1; 0 = free */
};

/* Open addressing over the strings of one list. seed keeps a crafted file from choosing which
 * strings share a slot. */
struct text_index {
    struct text_slot *slots;
    size_t n_slots; /* a power of two, or 0 */
    size_t n;
    uint64_t seed;
};

void text_index_fini(struct text_index *index);

/* Makes room for n strings in all. ERR_NO_MEMORY. */
int text_index_reserve(struct text_index *index, const struct text_list *list, size_t n,
        struct err *err);

/* Enters string i of the list, unless an equal one is there. Needs room. Returns the number under
 * which the bytes are found now. */
uint32_t text_index_add(struct text_index *index, const struct text_list *list, uint32_t i);

/* The number of the string, or UINT32_MAX. */
uint32_t text_index_find(const struct text_index *index, const struct text_list *list,
        const char *bytes, size_t n);

/* Mixes all bits of a 64-bit key. */
uint64_t mix_u64(uint64_t x);
