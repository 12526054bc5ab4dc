/* arena.c - bump allocation in one block. Owns: the block. Runs on: its owner's thread. */
#include "proto/base/arena.h"

#include "proto/base/checked.h"

#include <stdlib.h>

#define ARENA_ALIGN 64

int arena_init(struct arena *arena, size_t n_bytes, struct err *err) {
    *arena = (struct arena){0};
    arena->base = aligned_new(n_bytes);
    if (!arena->base)
        return err_set(err, ERR_NO_MEMORY, "no memory for %zu bytes of working space", n_bytes);
    arena->n_bytes = n_bytes;
    return 0;
}

void arena_fini(struct arena *arena) {
    free(arena->base);
    *arena = (struct arena){0};
}

void *arena_alloc(struct arena *arena, size_t n_bytes) {
    if (n_bytes > arena->n_bytes - arena->used) return NULL;
    size_t n = align_up(n_bytes, ARENA_ALIGN);
    void *bytes = arena->base + arena->used;
    arena->used = n > arena->n_bytes - arena->used ? arena->n_bytes : arena->used + n;
    return bytes;
}

size_t arena_mark(const struct arena *arena) {
    return arena->used;
}

void arena_rewind(struct arena *arena, size_t mark) {
    ASSERT(mark <= arena->used);
    arena->used = mark;
}

void *aligned_new(size_t n_bytes) {
    if (n_bytes > SIZE_MAX / 2) return NULL;
    void *bytes = NULL;
    size_t n = align_up(n_bytes ? n_bytes : 1, ARENA_ALIGN);
    return posix_memalign(&bytes, ARENA_ALIGN, n) == 0 ? bytes : NULL;
}
