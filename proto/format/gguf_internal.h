/* gguf_internal.h - what the files of the GGUF reader share. Only they and their tests include it.
 *
 * A part is one file (or one range of memory): its bytes, its metadata and its tensors. A struct
 * gguf has one part, or all parts of a split model; metadata is that of part 0. */
#pragma once

#include "proto/format/gguf.h"

struct gguf_kv {
    struct gguf_str key;
    enum gguf_type type;
    const uint8_t *value; /* encoded; checked to be complete */
    size_t n_bytes;       /* of the encoded value */
};

struct gguf_part {
    char *path; /* owned; NULL for memory */
    const uint8_t *bytes;
    size_t n_bytes;
    bool mapped; /* else borrowed memory */

    uint32_t version;
    uint64_t n_kvs;
    struct gguf_kv *kvs;           /* owned, in file order */
    const struct gguf_kv **by_key; /* owned, sorted by key */
    uint64_t n_tensors;
    struct gguf_tensor *tensors; /* owned until gguf_open() joins them, in file order */
    char *names;                 /* owned, terminated one after the other */
};

struct gguf {
    uint32_t n_parts;
    struct gguf_part *parts; /* owned */
    uint64_t n_tensors;
    struct gguf_tensor *tensors;        /* owned, of all parts, in file order */
    const struct gguf_tensor **by_name; /* owned, sorted by name */
};

/* Maps a file as a part. On failure the part is empty. ERR_IO, ERR_BAD_INPUT. */
int gguf_part_map(struct gguf_part *part, const char *path, struct err *err);

/* Reads and checks header, metadata and tensor list. ERR_BAD_INPUT, ERR_UNSUPPORTED,
 * ERR_NO_MEMORY; gguf_part_fini() frees what was made so far. */
int gguf_part_parse(struct gguf_part *part, struct err *err);
void gguf_part_fini(struct gguf_part *part);

/* The entry with that key, or NULL. */
const struct gguf_kv *gguf_part_find(const struct gguf_part *part, const char *key);

/* As gguf_get_u64, on one part. */
int gguf_part_get_u64(
        const struct gguf_part *part, const char *key, uint64_t *value, struct err *err);

/* Encoded bytes of a value of fixed size; 0 for strings and arrays. */
size_t gguf_type_bytes(enum gguf_type type);

/* Order by bytes, a shorter string first: <0, 0, >0. */
int gguf_str_cmp(struct gguf_str a, struct gguf_str b);

/* Little-endian loads from unaligned bytes. */
uint32_t gguf_load_u32(const uint8_t *bytes);
uint64_t gguf_load_u64(const uint8_t *bytes);

/* Part 0 of gguf is parsed. When it is the first of several: opens, checks and adds the others.
 * ERR_IO naming the missing file, ERR_BAD_INPUT, ERR_UNSUPPORTED. */
int gguf_split_open(struct gguf *gguf, struct err *err);
