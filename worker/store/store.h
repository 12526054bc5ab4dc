/* store.h - which experts this process holds, as matrices ready to multiply.
 *
 * The store owns the repacked weights. Experts arrive piece by piece (from the wire) or whole (from
 * a mapped file); an expert can be used once all its bytes are in. Memory is bounded by a limit that
 * the owner gives. Owner: one thread; experts that are ready are immutable and may be read by any
 * thread while the owner does not drop them. */
#pragma once

#include "kernels/kern.h"
#include "proto/base/err.h"
#include "proto/base/pool.h"

#include <stdint.h>

struct store; /* opaque */

/* Limits: far above real models, so that a peer cannot make the tables grow without end. */
#define STORE_LAYERS_MAX 1024
#define STORE_EXPERTS_MAX 4096
#define STORE_WIDTH_MAX (1u << 20)
#define STORE_STAGING_MAX 64 /* experts that may be under way at the same time */

/* The experts of one layer; gate and up are [n_ff][n_embd], down is [n_embd][n_ff]. */
struct store_layer {
    uint32_t layer;
    uint32_t n_expert;
    uint32_t n_embd;
    uint32_t n_ff;
    enum dtype gate_type;
    enum dtype up_type;
    enum dtype down_type;
    enum kern_glu glu;
};

/* One expert's matrices; borrowed from the store. */
struct store_expert {
    struct kern_mat gate;
    struct kern_mat up;
    struct kern_mat down;
};

/* limit_bytes bounds the repacked weights held. kern decides the layout. ERR_NO_MEMORY. */
int store_new(const struct kern_ops *kern, uint64_t limit_bytes, struct store **out_store,
        struct err *err);
void store_free(struct store *store);

/* Announces a layer before its experts; the same layer again must have the same shapes.
 * ERR_BAD_INPUT (shapes that cannot be multiplied: widths not multiples of a block, zero, over
 * limits), ERR_UNSUPPORTED (a type that cannot be computed). */
int store_add_layer(struct store *store, const struct store_layer *layer, struct err *err);
const struct store_layer *store_find_layer(const struct store *store, uint32_t layer); /* or NULL */

/* Bytes of one expert of a layer as GGUF blocks (gate, up, down one after another) and as held (each
 * matrix on a multiple of 64 bytes). The layer's types are computable, its widths multiples of their
 * blocks. */
uint64_t store_expert_gguf_bytes(const struct store_layer *layer);
uint64_t store_expert_held_bytes(const struct kern_ops *kern, const struct store_layer *layer);

/* Takes the next piece of an expert: pieces come in order of offset, one expert at a time or several
 * (at most STORE_STAGING_MAX) interleaved. Repacks as rows arrive, on the calling thread; bytes may lie
 * anywhere. A piece at 0 starts an expert anew; one that is held already is taken in again silently
 * (idempotent). ERR_BAD_INPUT (order, sizes), ERR_LIMIT (over limit_bytes, too many under way),
 * ERR_NOT_FOUND (layer not announced), ERR_NO_MEMORY. After an error the store is as before. */
int store_put(struct store *store, uint32_t layer, uint32_t expert, uint64_t offset,
        const void *bytes, uint64_t n_bytes, struct err *err);

/* Takes a whole expert from GGUF rows in three places (a mapped file), repacking on the pool. Errors
 * as store_put. */
int store_put_expert(struct store *store, uint32_t layer, uint32_t expert, const void *gate,
        const void *up, const void *down, struct pool *pool, struct err *err);

/* The matrices of an expert that is complete, or NULL. */
const struct store_expert *store_find(const struct store *store, uint32_t layer, uint32_t expert);

uint64_t store_n_experts(const struct store *store); /* complete ones */
uint64_t store_held_bytes(const struct store *store);
