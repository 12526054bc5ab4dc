/* kv.c - the key/value cache of one session.
 * Owns: one block of memory. Does not: know which positions are filled; that is the session's.
 * Runs on: the thread that runs the session's steps.
 *
 * Memory map: keys of [layer][head], then values of [layer][head]; each plane holds n_ctx rows and
 * starts at a multiple of 64 bytes. */
#include "coordinator/model/kv.h"

#include "kernels/kern.h"
#include "proto/base/aligned.h"
#include "proto/base/checked.h"

#include <inttypes.h>
#include <stdlib.h>

#define PLANE_ALIGN 64

struct kv {
    struct kv_shape shape;
    size_t k_plane; /* bytes of one head's keys */
    size_t v_plane;
    unsigned char *keys;
    unsigned char *values;
};

/* Bytes of one head's rows, UINT64_MAX on overflow. */
static uint64_t plane_bytes(enum dtype type, uint32_t n_dim, uint32_t n_ctx) {
    uint64_t n = 0;
    if (type == DT_Q8_0) n_dim = (n_dim + 31) / 32 * 32; /* odd widths: kv_new() says it better */
    if (!mul_u64(kern_kv_row_bytes(type, n_dim), n_ctx, &n)) return UINT64_MAX;
    if (n > UINT64_MAX - PLANE_ALIGN) return UINT64_MAX;
    return (n + PLANE_ALIGN - 1) & ~(uint64_t)(PLANE_ALIGN - 1);
}

uint64_t kv_bytes(const struct kv_shape *shape) {
    uint64_t k = plane_bytes(shape->type, shape->n_dim_k, shape->n_ctx);
    uint64_t v = plane_bytes(shape->type, shape->n_dim_v, shape->n_ctx);
    uint64_t both = 0, all = 0;
    uint64_t n_planes = (uint64_t)shape->n_layer * shape->n_head_kv;

    if (k == UINT64_MAX || v == UINT64_MAX || !add_u64(k, v, &both)) return UINT64_MAX;
    return mul_u64(both, n_planes, &all) ? all : UINT64_MAX;
}

static int check_shape(const struct kv_shape *shape, struct err *err) {
    if (shape->type != DT_F32 && shape->type != DT_F16 && shape->type != DT_Q8_0)
        return err_set(err, ERR_UNSUPPORTED, "a cache of type %s; f32, f16 and q8_0 are possible",
                dtype_name(shape->type));
    if (shape->type == DT_Q8_0 && (shape->n_dim_k % 32 != 0 || shape->n_dim_v % 32 != 0)) {
        err_set(err, ERR_UNSUPPORTED,
                "a q8_0 cache needs head widths that are multiples of 32; this model has %u and %u",
                shape->n_dim_k, shape->n_dim_v);
        return err_hint(err, "use an f16 cache");
    }
    return 0;
}

int kv_new(const struct kv_shape *shape, struct kv **out_kv, struct err *err) {
    int rc = check_shape(shape, err);
    if (rc < 0) return rc;

    uint64_t n_bytes = kv_bytes(shape);
    struct kv *kv = calloc(1, sizeof *kv);
    unsigned char *memory = kv && n_bytes <= SIZE_MAX / 2 ? aligned_new((size_t)n_bytes) : NULL;
    if (!memory) {
        free(kv);
        err_set(err, ERR_NO_MEMORY,
                "no memory for a key/value cache of %" PRIu64 " bytes (%u positions)", n_bytes,
                shape->n_ctx);
        return err_hint(err, "ask for a shorter context or a smaller cache type");
    }

    kv->shape = *shape;
    kv->k_plane = (size_t)plane_bytes(shape->type, shape->n_dim_k, shape->n_ctx);
    kv->v_plane = (size_t)plane_bytes(shape->type, shape->n_dim_v, shape->n_ctx);
    kv->keys = memory;
    kv->values = memory + kv->k_plane * shape->n_layer * shape->n_head_kv;
    *out_kv = kv;
    return 0;
}

void kv_free(struct kv *kv) {
    if (!kv) return;
    free(kv->keys);
    free(kv);
}

const struct kv_shape *kv_shape(const struct kv *kv) {
    return &kv->shape;
}

void *kv_keys(struct kv *kv, uint32_t layer, uint32_t head) {
    return kv->keys + kv->k_plane * ((size_t)layer * kv->shape.n_head_kv + head);
}

void *kv_values(struct kv *kv, uint32_t layer, uint32_t head) {
    return kv->values + kv->v_plane * ((size_t)layer * kv->shape.n_head_kv + head);
}
