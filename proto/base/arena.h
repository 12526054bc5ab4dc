/* arena.h - bump allocation inside one block made at start: what a step needs is sized when the
 * session is made, so that steps allocate nothing. One owner thread. */
#pragma once

#include "proto/base/err.h"

#include <stddef.h>

struct arena {
    unsigned char *base; /* owned, 64-byte aligned */
    size_t n_bytes;
    size_t used;
};

/* Allocates the block. ERR_NO_MEMORY. */
int arena_init(struct arena *arena, size_t n_bytes, struct err *err);
void arena_fini(struct arena *arena);

/* 64-byte aligned bytes, not cleared; NULL when the block is full (a sizing bug of ours). */
void *arena_alloc(struct arena *arena, size_t n_bytes);

/* Gives back all that was allocated after the mark. */
size_t arena_mark(const struct arena *arena);
void arena_rewind(struct arena *arena, size_t mark);

/* 64-byte aligned heap memory for kernels, freed with free(); NULL when there is none. n_bytes 0
 * gives a block of 64. */
void *aligned_new(size_t n_bytes);
