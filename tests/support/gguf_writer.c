/* gguf_writer.c - makes small GGUF files. Owns: the bytes until they are written. Does not: check
 * what it is told, or quantise. Runs on: one thread. Layout: GGUF version 3. */
#include "tests/support/gguf_writer.h"

#include "proto/base/checked.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void gguf_writer_begin(struct gguf_writer *w) {
    *w = (struct gguf_writer){.version = 3, .alignment = 32};
}

void gguf_writer_fini(struct gguf_writer *w) {
    buf_fini(&w->kvs);
    buf_fini(&w->tensors);
    buf_fini(&w->payload);
}

static void put(struct gguf_writer *w, struct buf *to, const void *bytes, size_t n) {
    if (!w->err.code) (void)buf_append(to, bytes, n, &w->err); /* kept in w->err */
}

static void put_u32(struct gguf_writer *w, struct buf *to, uint32_t value) {
    put(w, to, &value, sizeof value);
}

static void put_u64(struct gguf_writer *w, struct buf *to, uint64_t value) {
    put(w, to, &value, sizeof value);
}

static void put_str(struct gguf_writer *w, struct buf *to, const char *text) {
    put_u64(w, to, strlen(text));
    put(w, to, text, strlen(text));
}

static void put_zeros(struct gguf_writer *w, struct buf *to, uint64_t n) {
    if (w->err.code || buf_reserve(to, n, &w->err) < 0) return;
    memset(to->bytes + to->n_bytes, 0, n + 1);
    to->n_bytes += n;
}

static void pad(struct gguf_writer *w, struct buf *to) {
    put_zeros(w, to, align_up(to->n_bytes, w->alignment) - to->n_bytes);
}

void gguf_writer_raw(
        struct gguf_writer *w, const char *key, uint32_t type, const void *value, size_t n_bytes) {
    put_str(w, &w->kvs, key);
    put_u32(w, &w->kvs, type);
    put(w, &w->kvs, value, n_bytes);
    w->n_kvs++;
}

void gguf_writer_u8(struct gguf_writer *w, const char *key, uint8_t value) {
    gguf_writer_raw(w, key, GGUF_U8, &value, sizeof value);
}

void gguf_writer_i8(struct gguf_writer *w, const char *key, int8_t value) {
    gguf_writer_raw(w, key, GGUF_I8, &value, sizeof value);
}

void gguf_writer_u16(struct gguf_writer *w, const char *key, uint16_t value) {
    gguf_writer_raw(w, key, GGUF_U16, &value, sizeof value);
}

void gguf_writer_i16(struct gguf_writer *w, const char *key, int16_t value) {
    gguf_writer_raw(w, key, GGUF_I16, &value, sizeof value);
}

void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t value) {
    gguf_writer_raw(w, key, GGUF_U32, &value, sizeof value);
}

void gguf_writer_i32(struct gguf_writer *w, const char *key, int32_t value) {
    gguf_writer_raw(w, key, GGUF_I32, &value, sizeof value);
}

void gguf_writer_u64(struct gguf_writer *w, const char *key, uint64_t value) {
    gguf_writer_raw(w, key, GGUF_U64, &value, sizeof value);
}

void gguf_writer_i64(struct gguf_writer *w, const char *key, int64_t value) {
    gguf_writer_raw(w, key, GGUF_I64, &value, sizeof value);
}

void gguf_writer_f32(struct gguf_writer *w, const char *key, float value) {
    gguf_writer_raw(w, key, GGUF_F32, &value, sizeof value);
}

void gguf_writer_f64(struct gguf_writer *w, const char *key, double value) {
    gguf_writer_raw(w, key, GGUF_F64, &value, sizeof value);
}

void gguf_writer_bool(struct gguf_writer *w, const char *key, bool value) {
    uint8_t byte = value;
    gguf_writer_raw(w, key, GGUF_BOOL, &byte, sizeof byte);
}

void gguf_writer_str(struct gguf_writer *w, const char *key, const char *value) {
    gguf_writer_raw(w, key, GGUF_STRING, NULL, 0);
    put_str(w, &w->kvs, value);
}

static void begin_array(struct gguf_writer *w, const char *key, uint32_t type, uint64_t n) {
    gguf_writer_raw(w, key, GGUF_ARRAY, NULL, 0);
    put_u32(w, &w->kvs, type);
    put_u64(w, &w->kvs, n);
}

static size_t element_bytes(enum gguf_type type) {
    switch (type) {
    case GGUF_U8:
    case GGUF_I8:
    case GGUF_BOOL:
        return 1;
    case GGUF_U16:
    case GGUF_I16:
        return 2;
    case GGUF_U32:
    case GGUF_I32:
    case GGUF_F32:
        return 4;
    case GGUF_U64:
    case GGUF_I64:
    case GGUF_F64:
        return 8;
    default:
        return 0;
    }
}

void gguf_writer_array(struct gguf_writer *w, const char *key, enum gguf_type type, uint64_t n,
        const void *elements) {
    begin_array(w, key, type, n);
    put(w, &w->kvs, elements, n * element_bytes(type));
}

void gguf_writer_str_array(
        struct gguf_writer *w, const char *key, uint64_t n, const char *const *strings) {
    begin_array(w, key, GGUF_STRING, n);
    for (uint64_t i = 0; i < n; i++)
        put_str(w, &w->kvs, strings[i]);
}

void gguf_writer_tensor(struct gguf_writer *w, const char *name, enum dtype type, uint32_t n_dims,
        const uint64_t *ne, const void *bytes) {
    uint64_t n_bytes = dtype_row_bytes(type, n_dims ? ne[0] : 1);
    pad(w, &w->payload);
    put_str(w, &w->tensors, name);
    put_u32(w, &w->tensors, n_dims);
    for (uint32_t d = 0; d < n_dims; d++) {
        put_u64(w, &w->tensors, ne[d]);
        if (d > 0) n_bytes *= ne[d];
    }
    put_u32(w, &w->tensors, type);
    put_u64(w, &w->tensors, w->payload.n_bytes);
    if (bytes)
        put(w, &w->payload, bytes, n_bytes);
    else
        put_zeros(w, &w->payload, n_bytes);
    w->n_tensors++;
}

int gguf_writer_finish(struct gguf_writer *w, struct buf *out, struct err *err) {
    struct buf file = {0};
    put(w, &file, "GGUF", 4);
    put_u32(w, &file, w->version);
    put_u64(w, &file, w->n_tensors);
    put_u64(w, &file, w->n_kvs);
    put(w, &file, w->kvs.bytes, w->kvs.n_bytes);
    put(w, &file, w->tensors.bytes, w->tensors.n_bytes);
    if (w->n_tensors) {
        pad(w, &file);
        put(w, &file, w->payload.bytes, w->payload.n_bytes);
        pad(w, &file);
    }
    put(w, out, file.bytes, file.n_bytes);
    buf_fini(&file);
    return w->err.code ? err_set(err, w->err.code, "writing a GGUF file: %s", w->err.what) : 0;
}

int gguf_writer_finish_file(struct gguf_writer *w, const char *path, struct err *err) {
    struct buf bytes = {0};
    int rc = gguf_writer_finish(w, &bytes, err);
    FILE *file = rc == 0 ? fopen(path, "wb") : NULL;
    if (rc == 0 && !file) rc = err_set(err, ERR_IO, "cannot create %s: %s", path, strerror(errno));
    if (file) {
        bool good = fwrite(bytes.bytes, 1, bytes.n_bytes, file) == bytes.n_bytes;
        good = fclose(file) == 0 && good;
        if (!good) rc = err_set(err, ERR_IO, "cannot write %s: %s", path, strerror(errno));
    }
    buf_fini(&bytes);
    return rc;
}
