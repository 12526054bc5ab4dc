/* store_internal.h - the insides of the store; only its own files include it. */
#pragma once

#include "worker/store/store.h"

#include <stdbool.h>

enum store_part { PART_GATE, PART_UP, PART_DOWN, PART_COUNT };

/* One matrix of an expert: its shape and its place in the GGUF bytes and in the held bytes. */
struct part_shape {
    enum dtype type;
    enum kern_layout layout;
    uint32_t n_in;
    uint32_t n_out;
    uint64_t row_bytes; /* of one GGUF row */
    uint64_t gguf_start;
    uint64_t gguf_bytes;
    uint64_t held_start;
    uint64_t held_bytes;
};

/* An expert that is coming in: the rows of the group of KERN_OUT_STEP output rows that is not complete
 * yet. Earlier groups are repacked already, so this is all that is kept besides the result. */
struct staging {
    uint64_t n_bytes; /* allocated */
    uint64_t filled;
    uint64_t received; /* bytes of the expert taken in */
    unsigned char *bytes;
};

/* An expert that is held or coming in. */
struct entry {
    struct store_expert expert; /* points into a slab */
    struct staging *staging;    /* NULL: complete, or nothing received yet */
    bool complete;
};

/* Everything known of one layer. */
struct layer_slot {
    struct store_layer shape;
    struct part_shape parts[PART_COUNT];
    uint64_t gguf_bytes;    /* of one expert */
    uint64_t held_bytes;    /* likewise, a multiple of 64 */
    struct entry **entries; /* [n_expert], NULL: nothing of it is here */
};

/* A block of memory that experts are cut from; they are given back only all together. */
struct slab {
    struct slab *next;
    uint64_t n_bytes;
    uint64_t used;
    unsigned char *bytes;
};

/* owner: one thread */
struct store {
    const struct kern_ops *kern;
    uint64_t limit_bytes;
    uint64_t taken_bytes; /* of complete experts and of those coming in */
    uint64_t held_bytes;  /* of complete experts */
    uint64_t n_experts;   /* complete */
    uint32_t n_staging;   /* experts coming in */
    uint64_t staging_bytes;
    struct slab *slabs; /* newest first */
    struct layer_slot *layers[STORE_LAYERS_MAX];
};

/* Makes the entry of an expert that has none, with room for its matrices. */
int store_take_room(struct store *store, struct layer_slot *slot, uint32_t expert,
        struct entry **out_entry, struct err *err);

/* The slot of an announced layer; checks that the expert exists. ERR_NOT_FOUND, ERR_BAD_INPUT. */
int store_slot_of(const struct store *store, uint32_t layer, uint32_t expert,
        struct layer_slot **out_slot, struct err *err);

void store_drop_staging(struct store *store, struct entry *entry);
