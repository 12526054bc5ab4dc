/* buf.c - growable bytes with overflow-checked sizes. Owns: nothing. Runs on: any thread. */
#include "proto/base/buf.h"

#include "proto/base/checked.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void buf_fini(struct buf *buf) {
    free(buf->bytes);
    *buf = (struct buf){0};
}

void buf_reset(struct buf *buf) {
    buf->n_bytes = 0;
    if (buf->bytes) buf->bytes[0] = 0;
}

int buf_reserve(struct buf *buf, size_t n_more, struct err *err) {
    if (n_more >= SIZE_MAX / 2 - buf->n_bytes)
        return err_set(err, ERR_NO_MEMORY, "a buffer of %zu more bytes", n_more);
    size_t need = buf->n_bytes + n_more + 1;
    if (need <= buf->capacity) return 0;

    size_t capacity = buf->capacity + buf->capacity / 2;
    if (capacity < need) capacity = need;
    if (capacity < 64) capacity = 64;
    char *bytes = realloc(buf->bytes, capacity);
    if (!bytes) return err_set(err, ERR_NO_MEMORY, "no memory for a buffer of %zu bytes", capacity);
    buf->bytes = bytes;
    buf->capacity = capacity;
    buf->bytes[buf->n_bytes] = 0;
    return 0;
}

int buf_append(struct buf *buf, const void *bytes, size_t n_bytes, struct err *err) {
    int rc = buf_reserve(buf, n_bytes, err);
    if (rc < 0) return rc;
    if (n_bytes) memcpy(buf->bytes + buf->n_bytes, bytes, n_bytes);
    buf->n_bytes += n_bytes;
    buf->bytes[buf->n_bytes] = 0;
    return 0;
}

int buf_append_str(struct buf *buf, const char *text, struct err *err) {
    return buf_append(buf, text, strlen(text), err);
}

int buf_printf(struct buf *buf, struct err *err, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    int rc = n < 0 ? err_set(err, ERR_BUG, "a format that cannot be printed")
                   : buf_reserve(buf, (size_t)n, err);
    if (rc == 0) {
        vsnprintf(buf->bytes + buf->n_bytes, (size_t)n + 1, fmt, again);
        buf->n_bytes += (size_t)n;
    }
    va_end(again);
    return rc;
}

int buf_read_file(struct buf *buf, const char *path, size_t max_bytes, struct err *err) {
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "rb");
    if (!file) return err_set(err, ERR_IO, "cannot open %s: %s", path, strerror(errno));

    int rc = 0;
    buf_reset(buf);
    for (;;) {
        rc = buf_reserve(buf, 64 << 10, err);
        if (rc < 0) break;
        size_t n = fread(buf->bytes + buf->n_bytes, 1, 64 << 10, file);
        buf->n_bytes += n;
        buf->bytes[buf->n_bytes] = 0;
        if (buf->n_bytes > max_bytes) {
            rc = err_set(err, ERR_LIMIT, "%s has more than %zu bytes", path, max_bytes);
            break;
        }
        if (n == 0) {
            if (ferror(file)) rc = err_set(err, ERR_IO, "cannot read %s: %s", path, strerror(errno));
            break;
        }
    }
    if (!is_stdin) fclose(file);
    return rc;
}
