/* model_toy.h - a small glm4moe model as lists of keys and tensors, to be spoilt and then written.
 *
 * Three blocks: dense, experts, NextN. d 32, 2 heads over 1, 4 experts (2 used) of width 32, 64
 * tokens; all F32 with seeded content. Plain data, one owner. Aborts on failure: tests only. */
#pragma once

#include "proto/base/buf.h"
#include "proto/format/gguf.h"

#include <stdint.h>

#define TOY_LIST_MAX 80

struct toy_key {
    char name[64];
    enum gguf_type type; /* GGUF_U32, GGUF_F32, GGUF_BOOL, GGUF_STRING, or GGUF_ARRAY of u32 */
    double value;
    char text[32];       /* of a string */
    uint32_t array[8];
    uint32_t n_array;
};

struct toy_tensor {
    char name[64];
    enum dtype type;
    uint32_t n_dims;
    uint64_t ne[4];
    float *content; /* owned; NULL: zeros (types other than F32) */
};

struct toy {
    struct toy_key keys[TOY_LIST_MAX];
    uint32_t n_keys;
    struct toy_tensor tensors[TOY_LIST_MAX];
    uint32_t n_tensors;
    struct buf bytes; /* of the file that was opened last */
};

void toy_init(struct toy *toy);
void toy_fini(struct toy *toy);

/* NULL when there is none. Keys by their name behind "glm4moe." or their whole name. */
struct toy_key *toy_key(struct toy *toy, const char *name);
struct toy_tensor *toy_tensor(struct toy *toy, const char *name);

/* Changes a number, or adds it as u32. */
void toy_set(struct toy *toy, const char *name, double value);
void toy_drop_key(struct toy *toy, const char *name);
void toy_drop_tensor(struct toy *toy, const char *name);

/* Adds an F32 tensor; content: as many floats as it has elements, copied; NULL: seeded by name. */
struct toy_tensor *toy_add(struct toy *toy, const char *name, uint32_t n_dims, uint64_t ne0,
        uint64_t ne1, uint64_t ne2, const float *content);

/* Writes and opens; the toy must outlive the result. NULL when the reader refuses the file. */
struct gguf *toy_open(struct toy *toy);
