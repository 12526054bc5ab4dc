/* buf.h - growable bytes. bytes[n_bytes] is always a terminator, so text can be used as a string.
 * Plain data with one owner; all-zero is the empty buffer. */
#pragma once

#include "proto/base/err.h"

#include <stddef.h>
#include <stdint.h>

struct buf {
    char *bytes; /* NULL while empty and never grown */
    size_t n_bytes;
    size_t capacity;
};

void buf_fini(struct buf *buf);

/* Empties, keeps the memory. */
void buf_reset(struct buf *buf);

/* Makes room for n_more bytes and a terminator. ERR_NO_MEMORY. */
int buf_reserve(struct buf *buf, size_t n_more, struct err *err);
int buf_append(struct buf *buf, const void *bytes, size_t n_bytes, struct err *err);
int buf_append_str(struct buf *buf, const char *text, struct err *err);
int buf_printf(struct buf *buf, struct err *err, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/* Reads a whole file ("-" is standard input). ERR_IO, ERR_LIMIT when over max_bytes. */
int buf_read_file(struct buf *buf, const char *path, size_t max_bytes, struct err *err);
