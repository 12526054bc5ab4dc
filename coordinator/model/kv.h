/* kv.h - one session's keys and values: [block][kv head][position][width], f32, f16 or q8_0.
 *
 * Made for a fixed context length; steps append and truncate and allocate nothing. Owner: the
 * thread that runs the session's steps. */
#pragma once

#include "proto/base/err.h"
#include "proto/format/dtype.h"

#include <stdint.h>

struct kv;

struct kv_shape {
    uint32_t n_layer; /* trunk and MTP blocks */
    uint32_t n_head_kv;
    uint32_t n_dim_k;
    uint32_t n_dim_v;
    uint32_t n_ctx;
    enum dtype type; /* DT_F32, DT_F16, DT_Q8_0 */
};

/* Bytes a cache takes; UINT64_MAX when that overflows. */
uint64_t kv_bytes(const struct kv_shape *shape);

/* ERR_NO_MEMORY (with the bytes asked for), ERR_UNSUPPORTED (q8_0 with a head width that is not a
 * multiple of 32). The memory is touched when it is first written. */
int kv_new(const struct kv_shape *shape, struct kv **out_kv, struct err *err);
void kv_free(struct kv *kv);

const struct kv_shape *kv_shape(const struct kv *kv);

/* Position 0 of a head's keys or values; rows are kern_kv_row_bytes() apart. */
void *kv_keys(struct kv *kv, uint32_t layer, uint32_t head);
void *kv_values(struct kv *kv, uint32_t layer, uint32_t head);
