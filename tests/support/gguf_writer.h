/* gguf_writer.h - makes small GGUF files for tests and model makers.
 *
 * Begin, add metadata and tensors in any order, finish. The first failure is kept and reported by
 * finish, so that the calls between need no check. Everything stays in memory until then. Nothing
 * is validated beyond what the layout needs: tests also write wrong files with it. */
#pragma once

#include "proto/base/buf.h"
#include "proto/format/gguf.h"

struct gguf_writer {    /* owner: one thread */
    uint32_t version;   /* 3; change it before finish to write others */
    uint32_t alignment; /* 32; change it before the first tensor, and add general.alignment */
    uint64_t n_kvs;
    uint64_t n_tensors;
    struct buf kvs;
    struct buf tensors;
    struct buf payload;
    struct err err;
};

void gguf_writer_begin(struct gguf_writer *w);
void gguf_writer_fini(struct gguf_writer *w);

void gguf_writer_u8(struct gguf_writer *w, const char *key, uint8_t value);
void gguf_writer_i8(struct gguf_writer *w, const char *key, int8_t value);
void gguf_writer_u16(struct gguf_writer *w, const char *key, uint16_t value);
void gguf_writer_i16(struct gguf_writer *w, const char *key, int16_t value);
void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t value);
void gguf_writer_i32(struct gguf_writer *w, const char *key, int32_t value);
void gguf_writer_u64(struct gguf_writer *w, const char *key, uint64_t value);
void gguf_writer_i64(struct gguf_writer *w, const char *key, int64_t value);
void gguf_writer_f32(struct gguf_writer *w, const char *key, float value);
void gguf_writer_f64(struct gguf_writer *w, const char *key, double value);
void gguf_writer_bool(struct gguf_writer *w, const char *key, bool value);
void gguf_writer_str(struct gguf_writer *w, const char *key, const char *value);

/* n elements of a type of fixed size, as they lie in memory. */
void gguf_writer_array(struct gguf_writer *w, const char *key, enum gguf_type type, uint64_t n,
        const void *elements);
void gguf_writer_str_array(
        struct gguf_writer *w, const char *key, uint64_t n, const char *const *strings);

/* An entry of any type with its encoded value. */
void gguf_writer_raw(
        struct gguf_writer *w, const char *key, uint32_t type, const void *value, size_t n_bytes);

/* A tensor of ne[0] * .. * ne[n_dims - 1] elements; n_dims up to 4, ne[0] a multiple of the type's
 * block. bytes: its blocks, NULL for zeros. */
void gguf_writer_tensor(struct gguf_writer *w, const char *name, enum dtype type, uint32_t n_dims,
        const uint64_t *ne, const void *bytes);

/* Appends the file to out. The writer can go on and finish again. */
int gguf_writer_finish(struct gguf_writer *w, struct buf *out, struct err *err);

/* Writes the file to path, over what is there. */
int gguf_writer_finish_file(struct gguf_writer *w, const char *path, struct err *err);
