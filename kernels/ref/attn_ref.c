/* attn_ref.c - one query row against the cache of one key/value head (docs/numerics.md rule 5).
 * Owns: nothing. Does not: know layers, sessions or where the cache is kept.
 * Runs on: any thread.
 *
 *   tile of 64 positions:  scores -> maximum -> exp -> sum, weighted values
 *   tiles merge in order;  the sink, if any, merges last;  result o / l */
#include "kernels/ref/ref.h"

#include "kernels/ref/blocks.h"
#include "kernels/ref/lanes.h"
#include "kernels/ref/math_ref.h"

#include "proto/base/checked.h"
#include "proto/base/err.h"

/* A tile's or a whole query's running softmax; o is [n_dim_v]. */
struct partial {
    float m;
    float l;
    float *o;
};

size_t kern_kv_row_bytes(enum dtype kv_type, uint32_t n) {
    switch (kv_type) {
    case DT_F32:
        return 4 * (size_t)n;
    case DT_F16:
        return 2 * (size_t)n;
    default:
        ASSERT(kv_type == DT_Q8_0);
        ASSERT(n % 32 == 0);
        return (size_t)n + n / 32 * sizeof(float);
    }
}

/* Room for the vector twins too: per query head the scores of a tile, two results, a padded query
 * and a few numbers; and one tile of widened keys or values. */
size_t kern_attn_scratch_floats(uint32_t n_dim_k, uint32_t n_dim_v, uint32_t n_q) {
    size_t dim_k = align_up(n_dim_k, LANES), dim_v = align_up(n_dim_v, LANES);
    size_t per_query = KERN_ATTN_TILE + 2 * dim_v + dim_k + LANES;
    return n_q * per_query + KERN_ATTN_TILE * (dim_k > dim_v ? dim_k : dim_v);
}

void ref_kv_store(enum dtype kv_type, void *to, const float *x, uint32_t n) {
    uint8_t *bytes = to;
    if (kv_type == DT_F32) {
        memcpy(bytes, x, n * sizeof *x);
    } else if (kv_type == DT_F16) {
        for (uint32_t i = 0; i < n; i++) {
            uint16_t half = f16_from_f32(x[i]);
            memcpy(bytes + 2 * (size_t)i, &half, sizeof half);
        }
    } else {
        ASSERT(kv_type == DT_Q8_0);
        ASSERT(n % 32 == 0);
        for (uint32_t i = 0; i < n; i += 32) {
            int8_t q[32];
            float d;
            ref_quantise_block(x + i, 32, q, &d);
            memcpy(bytes + i, q, sizeof q);
            memcpy(bytes + n + i / 32 * sizeof d, &d, sizeof d);
        }
    }
}

/* Widens one cache row, exactly. */
static void widen(enum dtype kv_type, const uint8_t *row, uint32_t n, float *out) {
    if (kv_type == DT_F32) {
        memcpy(out, row, n * sizeof *out);
    } else if (kv_type == DT_F16) {
        for (uint32_t i = 0; i < n; i++)
            out[i] = load_f16(row + 2 * (size_t)i);
    } else {
        for (uint32_t i = 0; i < n; i++) {
            float d;
            memcpy(&d, row + n + i / 32 * sizeof d, sizeof d);
            out[i] = (float)(int8_t)row[i] * d;
        }
    }
}

/* into = into and t merged: t comes after. */
static void merge(struct partial *into, const struct partial *t, uint32_t n_dim_v) {
    float max = t->m > into->m ? t->m : into->m;
    float a = math_exp(into->m - max), b = math_exp(t->m - max);
    into->l = math_fma(into->l, a, t->l * b);
    for (uint32_t i = 0; i < n_dim_v; i++)
        into->o[i] = math_fma(into->o[i], a, t->o[i] * b);
    into->m = max;
}

/* The visible positions [j0, j1) of one tile for one query. wide holds a row of k or v. */
static void attend_tile(const struct kern_attn *attn, const float *q, uint32_t j0, uint32_t j1,
        float *wide, struct partial *out) {
    size_t k_bytes = kern_kv_row_bytes(attn->kv_type, attn->n_dim_k);
    size_t v_bytes = kern_kv_row_bytes(attn->kv_type, attn->n_dim_v);
    uint32_t tile0 = j0 / KERN_ATTN_TILE * KERN_ATTN_TILE;
    float p[KERN_ATTN_TILE];
    struct lanes sum;
    lanes_zero(&sum);

    out->m = -INFINITY;
    for (uint32_t j = j0; j < j1; j++) {
        struct lanes dot;
        lanes_zero(&dot);
        widen(attn->kv_type, (const uint8_t *)attn->k + j * k_bytes, attn->n_dim_k, wide);
        lanes_add_products(&dot, q, wide, attn->n_dim_k);
        float s = lanes_sum(dot) * attn->scale;
        p[j - tile0] = s;
        out->m = s > out->m ? s : out->m;
    }
    memset(out->o, 0, attn->n_dim_v * sizeof *out->o);
    for (uint32_t j = j0; j < j1; j++) {
        float weight = math_exp(p[j - tile0] - out->m);
        sum.v[(j - tile0) % LANES] += weight;
        widen(attn->kv_type, (const uint8_t *)attn->v + j * v_bytes, attn->n_dim_v, wide);
        for (uint32_t i = 0; i < attn->n_dim_v; i++)
            out->o[i] = math_fma(weight, wide[i], out->o[i]);
    }
    out->l = lanes_sum(sum);
}

static void attend_query(const struct kern_attn *attn, uint32_t query) {
    float *wide = attn->scratch;
    uint32_t n_dim = attn->n_dim_k > attn->n_dim_v ? attn->n_dim_k : attn->n_dim_v;
    const float *q = attn->q + query * attn->q_stride;
    struct partial total = {.o = attn->out + query * attn->out_stride};
    struct partial tile = {.o = wide + align_up(n_dim, LANES)};

    for (uint32_t j = attn->first; j < attn->end;) {
        uint32_t next = (j / KERN_ATTN_TILE + 1) * KERN_ATTN_TILE;
        if (next > attn->end) next = attn->end;
        if (j == attn->first) {
            attend_tile(attn, q, j, next, wide, &total);
        } else {
            attend_tile(attn, q, j, next, wide, &tile);
            merge(&total, &tile, attn->n_dim_v);
        }
        j = next;
    }
    if (attn->sinks != NULL) {
        tile.m = attn->sinks[query];
        tile.l = 1.0f;
        memset(tile.o, 0, attn->n_dim_v * sizeof *tile.o);
        merge(&total, &tile, attn->n_dim_v);
    }
    for (uint32_t i = 0; i < attn->n_dim_v; i++)
        total.o[i] = total.o[i] / total.l;
}

void ref_attend(const struct kern_attn *attn) {
    ASSERT(attn->first < attn->end);
    for (uint32_t query = 0; query < attn->n_q; query++)
        attend_query(attn, query);
}
