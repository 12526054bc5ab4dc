/* gguf.h - a GGUF model file (version 2 or 3, little-endian), mapped; split files appear as one.
 *
 * Everything in the file is checked before it is believed: counts, lengths, offsets, overlaps,
 * types. An open struct gguf is read-only and may be used by any thread. Strings are borrowed from
 * it and valid until gguf_free(); they are not terminated unless stated.
 * Source of the layout: the GGUF description, versions 2 and 3. */
#pragma once

#include "proto/base/err.h"
#include "proto/format/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gguf; /* opaque, immutable after open */

enum gguf_type {
    GGUF_U8 = 0, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL,
    GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64, GGUF_TYPE_COUNT,
};

struct gguf_str {
    const char *bytes; /* UTF-8 by the format, any bytes in practice; not terminated */
    size_t n;
};

struct gguf_array {
    enum gguf_type type; /* of the elements; never GGUF_ARRAY */
    uint64_t n;
    const uint8_t *bytes; /* encoded elements, unaligned */
    size_t n_bytes;
};

struct gguf_tensor {
    const char *name;  /* terminated */
    enum dtype type;   /* dtype_find(type) is not NULL */
    uint32_t n_dims;   /* 1..4 */
    uint64_t ne[4];    /* ne[0] is contiguous; unused ones are 1; none is 0 */
    const uint8_t *bytes; /* the mapped blocks, maybe unaligned */
    uint64_t n_bytes;
    uint32_t part;        /* which file of a split model, from 0 */
    uint64_t file_offset; /* of bytes, from the start of that file */
};

/* Maps the file; for the first part of a split model also its siblings.
 * ERR_IO, ERR_BAD_INPUT (what is wrong, at which byte), ERR_UNSUPPORTED (version, byte order). */
int gguf_open(const char *path, struct gguf **out_gguf, struct err *err);

/* The same from memory, for one file that is not split. Borrows bytes until gguf_free(). */
int gguf_open_bytes(const void *bytes, size_t n, struct gguf **out_gguf, struct err *err);
void gguf_free(struct gguf *gguf);

const char *gguf_path(const struct gguf *gguf); /* of the first part; "(memory)" for bytes */
uint32_t gguf_version(const struct gguf *gguf); /* 2 or 3 */
uint32_t gguf_n_parts(const struct gguf *gguf); /* files; 1 unless split */
const char *gguf_part_path(const struct gguf *gguf, uint32_t part); /* part < gguf_n_parts */
uint64_t gguf_file_bytes(const struct gguf *gguf); /* all parts together */

uint64_t gguf_n_tensors(const struct gguf *gguf);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *gguf, uint64_t index); /* or NULL */
const struct gguf_tensor *gguf_find_tensor(const struct gguf *gguf, const char *name); /* or NULL */

/* Metadata. Each returns 1 when the key is there (and writes the value), 0 when it is not (value
 * untouched: put the default there first), ERR_BAD_INPUT when it has another type or a value that
 * does not fit. Integers of any width, and booleans, read as u64; u64/i64/f32/f64 read as f64. */
int gguf_get_u64(const struct gguf *gguf, const char *key, uint64_t *value, struct err *err);
int gguf_get_f64(const struct gguf *gguf, const char *key, double *value, struct err *err);
int gguf_get_bool(const struct gguf *gguf, const char *key, bool *value, struct err *err);
int gguf_get_str(const struct gguf *gguf, const char *key, struct gguf_str *value, struct err *err);
int gguf_get_array(const struct gguf *gguf, const char *key, struct gguf_array *value, struct err *err);

/* Element i of an array of integers or booleans, or of floats. ERR_BAD_INPUT for other types, i out
 * of range, or a negative value read as u64. */
int gguf_array_u64(const struct gguf_array *array, uint64_t i, uint64_t *value, struct err *err);
int gguf_array_i64(const struct gguf_array *array, uint64_t i, int64_t *value, struct err *err);
int gguf_array_f64(const struct gguf_array *array, uint64_t i, double *value, struct err *err);

/* Walks an array of strings: start with *cursor = 0; true with the next string, false at the end or
 * when the array holds no strings. */
bool gguf_array_next_str(const struct gguf_array *array, size_t *cursor, struct gguf_str *value);

/* The name of a metadata type ("u32", "array"), "unknown" for other numbers. */
const char *gguf_type_name(enum gguf_type type);

/* Every key in file order, for inspection: false when index is past the end. */
bool gguf_key_at(const struct gguf *gguf, uint64_t index, struct gguf_str *key, enum gguf_type *type);

/* Tells the system that a mapped range is not needed any more (it may be read again later, from
 * disk): used when a repacked copy has taken its place. */
void gguf_release(const struct gguf *gguf, const void *bytes, uint64_t n_bytes);
