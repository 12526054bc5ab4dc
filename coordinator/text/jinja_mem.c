/* jinja_mem.c - memory, growing texts, budgets and sticky errors of the template interpreter.
 * Owns: the chunks of a struct jinja. Does not: know values or nodes.
 * Runs on: the owner thread. */
#include "coordinator/text/jinja_internal.h"

#include "proto/base/checked.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES ((size_t)32 << 10)
#define CHUNK_BYTES_MAX ((size_t)4 << 20)

struct jinja_chunk {
    struct jinja_chunk *next;
    size_t n_bytes; /* of bytes[] */
    _Alignas(16) char bytes[];
};

static void chunks_free(struct jinja_chunk *chunk) {
    while (chunk) {
        struct jinja_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
}

void jinja_areas_free(struct jinja *j) {
    chunks_free(j->objects.chunks);
    chunks_free(j->texts.chunks);
}

static bool area_reserve(struct jinja *j, struct jinja_area *area, size_t n_bytes) {
    if ((size_t)(area->end - area->top) >= n_bytes) return true;

    size_t grown = area->chunks ? min_u64(area->chunks->n_bytes * 2, CHUNK_BYTES_MAX) : CHUNK_BYTES;
    size_t size = max_u64(grown, n_bytes);
    size_t left = j->limits.memory_bytes - j->memory_used;
    if (size > left) size = n_bytes;
    if (size > left) {
        jinja_fail(j, ERR_LIMIT, "the chat template needs more than %zu MiB of memory",
                j->limits.memory_bytes >> 20);
        return false;
    }
    struct jinja_chunk *chunk = malloc(sizeof *chunk + size);
    if (!chunk) {
        jinja_fail(j, ERR_NO_MEMORY, "no memory for %zu bytes of a chat template", size);
        return false;
    }
    chunk->next = area->chunks;
    chunk->n_bytes = size;
    area->chunks = chunk;
    area->top = chunk->bytes;
    area->end = chunk->bytes + size;
    j->memory_used += size;
    return true;
}

void *jinja_alloc(struct jinja *j, size_t n_bytes) {
    if (n_bytes > j->limits.memory_bytes) n_bytes = j->limits.memory_bytes; /* fails below */
    n_bytes = align_up(n_bytes, 16);
    if (!area_reserve(j, &j->objects, n_bytes)) return NULL;
    void *bytes = j->objects.top;
    j->objects.top += n_bytes;
    memset(bytes, 0, n_bytes);
    return bytes;
}

char *jinja_alloc_text(struct jinja *j, size_t n_bytes) {
    if (!area_reserve(j, &j->texts, n_bytes)) return NULL;
    char *bytes = j->texts.top;
    j->texts.top += n_bytes;
    return bytes;
}

bool jinja_grow(struct jinja *j, void **items, size_t item_bytes, size_t n, size_t *capacity) {
    if (n < *capacity) return true;
    size_t wanted = *capacity ? *capacity * 2 : 4;
    void *grown = jinja_alloc(j, wanted * item_bytes);
    if (!grown) return false;
    if (n) memcpy(grown, *items, n * item_bytes);
    *items = grown;
    *capacity = wanted;
    return true;
}

bool jinja_text_append(struct jinja *j, struct jinja_text *text, const char *bytes, size_t n) {
    if (n == 0) return true;
    if (n > j->limits.output_bytes - text->n) {
        jinja_fail(j, ERR_LIMIT, "the chat template makes a text of more than %zu KiB",
                j->limits.output_bytes >> 10);
        return false;
    }
    if (n > text->capacity - text->n) {
        size_t more = max_u64(n, max_u64(text->capacity, 64));
        bool last = text->bytes && text->bytes + text->capacity == j->texts.top;
        if (last && (size_t)(j->texts.end - j->texts.top) >= more) {
            j->texts.top += more;
        } else {
            char *moved = jinja_alloc_text(j, text->n + more);
            if (!moved) return false;
            if (text->n) memcpy(moved, text->bytes, text->n);
            text->bytes = moved;
            text->capacity = text->n;
        }
        text->capacity += more;
    }
    memcpy(text->bytes + text->n, bytes, n);
    text->n += n;
    return jinja_step(j, n / 32);
}

bool jinja_text_str(struct jinja *j, struct jinja_text *text, const char *str) {
    return jinja_text_append(j, text, str, strlen(str));
}

bool jinja_step(struct jinja *j, uint64_t n) {
    if (n > j->limits.steps - j->steps_used) {
        j->steps_used = j->limits.steps;
        jinja_fail(j, ERR_LIMIT, "the chat template does not end within %llu steps",
                (unsigned long long)j->limits.steps);
        return false;
    }
    j->steps_used += n;
    return true;
}

bool jinja_enter(struct jinja *j) {
    if (j->depth >= j->limits.depth) {
        jinja_fail(j, ERR_LIMIT, "the chat template nests deeper than %u levels", j->limits.depth);
        return false;
    }
    j->depth++;
    return jinja_step(j, 1);
}

void jinja_leave(struct jinja *j) {
    j->depth--;
}

void *jinja_fail(struct jinja *j, int code, const char *fmt, ...) {
    if (j->failed) return NULL;
    j->failed = true;
    char text[sizeof j->err.what - 64];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (j->line > 0)
        err_set(&j->err, code, "%s (line %d)", text, j->line);
    else
        err_set(&j->err, code, "%s", text);
    return NULL;
}

void *jinja_lacks(struct jinja *j, const char *kind, const char *name, size_t n) {
    if (j->failed) return NULL;
    j->failed = true;
    err_set(&j->err, ERR_UNSUPPORTED,
            "the chat template uses %s '%.*s' (line %d), which is not supported yet", kind,
            (int)min_u64(n, 100), name, j->line);
    return NULL;
}
