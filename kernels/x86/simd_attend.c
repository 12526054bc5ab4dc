/* simd_attend.c - one query row against the cache of one key/value head (docs/numerics.md rule 5).
 * The twin of kernels/ref/attn_ref.c.
 *
 * Per tile of 64 positions: the scores of all query heads, read key by key for QUERIES heads at a
 * time; maxima, exponentials and sums in registers; then the weighted values for QUERIES heads and
 * CHUNK elements at a time, summed in registers over the tile and merged into the result.
 * Owns: nothing. Does not: know layers or where the cache is kept.
 * Runs on: any thread of a CPU that has the set. */
#include "kernels/x86/simd_set.h"

#include "kernels/x86/simd_lanes.h"

/* Query heads that share one pass over keys or values, positions scored together (their product is a
 * multiple of 4), and value registers of lanes a head. */
#if defined(__AVX512F__)
#define QUERIES 4
#define POSITIONS 4
#define CHUNK 4
#else
#define QUERIES 2
#define POSITIONS 2
#define CHUNK 2
#endif
#define POSITIONS_ONE 4
#define CHUNK_ONE 4

/* The running softmax of one query head, and what its last tile is merged with. */
struct query {
    float m, l;
    float old_scale, new_scale; /* a and b of rule 5 */
    float p[KERN_ATTN_TILE];    /* scores, then weights; by position within the tile */
};

/* Sixteen elements of a cache row of n elements, from element i; the last ones padded with zeros. */
INLINE struct lanes load_row(enum dtype type, const uint8_t *row, size_t n, size_t i) {
    if (type == DT_Q8_0) {
        float d;
        memcpy(&d, row + n + i / 32 * sizeof d, sizeof d);
        return ln_mul(ln_load_i8(row + i), ln_set1(d));
    }
    size_t elem = type == DT_F32 ? 4 : 2;
    const uint8_t *p = row + i * elem;
    uint8_t padded[64];
    if (i + 16 > n) {
        memset(padded, 0, sizeof padded);
        memcpy(padded, p, (n - i) * elem);
        p = padded;
    }
    return type == DT_F32 ? ln_load((const float *)(const void *)p) : ln_load_f16(p);
}

/* q . k of n_q heads and n_pos positions from j, all at once. */
INLINE void score(enum dtype type, const struct kern_attn *attn, size_t k_bytes, uint32_t first_q,
        int n_q, uint32_t j, int n_pos, struct query *queries) {
    const uint8_t *k = (const uint8_t *)attn->k + j * k_bytes;
    const float *q = attn->q + first_q * attn->q_stride;
    size_t n = attn->n_dim_k, full = n / 16 * 16;
    struct lanes acc[QUERIES * POSITIONS_ONE];
    UNROLL
    for (int a = 0; a < n_q * n_pos; a++)
        acc[a] = ln_zero();
    for (size_t i = 0; i < full; i += 16) {
        struct lanes key[POSITIONS_ONE];
        UNROLL
        for (int pos = 0; pos < n_pos; pos++)
            key[pos] = load_row(type, k + (size_t)pos * k_bytes, n, i);
        UNROLL
        for (int h = 0; h < n_q; h++) {
            struct lanes x = ln_load(q + (size_t)h * attn->q_stride + i);
            UNROLL
            for (int pos = 0; pos < n_pos; pos++)
                acc[h * n_pos + pos] = ln_fma(x, key[pos], acc[h * n_pos + pos]);
        }
    }
    if (full < n) {
        UNROLL
        for (int a = 0; a < n_q * n_pos; a++) {
            const uint8_t *row = k + (size_t)(a % n_pos) * k_bytes;
            struct lanes x = ln_load_first(q + (size_t)(a / n_pos) * attn->q_stride + full, n - full);
            struct lanes sum = ln_fma(x, load_row(type, row, n, full), acc[a]);
            acc[a] = ln_keep_after(sum, n - full, acc[a]);
        }
    }
    float sums[QUERIES * POSITIONS_ONE];
    UNROLL
    for (int a = 0; a < n_q * n_pos; a += 4) {
        if (n_q * n_pos % 4 == 0)
            _mm_storeu_ps(sums + a, ln_sum4(acc[a], acc[a + 1], acc[a + 2], acc[a + 3]));
        else
            for (int b = a; b < n_q * n_pos; b++)
                sums[b] = ln_sum(acc[b]);
    }
    UNROLL
    for (int a = 0; a < n_q * n_pos; a++)
        queries[first_q + (uint32_t)(a / n_pos)].p[(j + (uint32_t)(a % n_pos)) % KERN_ATTN_TILE] =
                sums[a] * attn->scale;
}

INLINE void score_tile(enum dtype type, const struct kern_attn *attn, size_t k_bytes, uint32_t j0,
        uint32_t j1, struct query *queries) {
    uint32_t h = 0;
    for (; h + QUERIES <= attn->n_q; h += QUERIES) {
        uint32_t j = j0;
        for (; j + POSITIONS <= j1; j += POSITIONS)
            score(type, attn, k_bytes, h, QUERIES, j, POSITIONS, queries);
        for (; j < j1; j++)
            score(type, attn, k_bytes, h, QUERIES, j, 1, queries);
    }
    for (; h < attn->n_q; h++) {
        uint32_t j = j0;
        for (; j + POSITIONS_ONE <= j1; j += POSITIONS_ONE)
            score(type, attn, k_bytes, h, 1, j, POSITIONS_ONE, queries);
        for (; j < j1; j++)
            score(type, attn, k_bytes, h, 1, j, 1, queries);
    }
}

/* Merges a tile's maximum and sum into the running ones; leaves the scales for the values. */
static void merge_scales(struct query *query, float m_tile, float l_tile) {
    float max = m_tile > query->m ? m_tile : query->m;
    query->old_scale = math_exp(query->m - max);
    query->new_scale = math_exp(m_tile - max);
    query->l = fmaf(query->l, query->old_scale, l_tile * query->new_scale);
    query->m = max;
}

/* Scores to weights. Positions that are not visible hold -infinity and become weights of zero, which
 * change no lane of the sum. */
static void weigh_tile(struct query *query, bool first_tile) {
    struct lanes max = ln_load(query->p), sum = ln_zero();
    for (size_t i = 16; i < KERN_ATTN_TILE; i += 16)
        max = ln_max(ln_load(query->p + i), max);
    float m = ln_max_of(max);
    for (size_t i = 0; i < KERN_ATTN_TILE; i += 16) {
        struct lanes p = ln_exp(ln_sub(ln_load(query->p + i), ln_set1(m)));
        ln_store(query->p + i, p);
        sum = ln_add(sum, p);
    }
    float l = ln_sum(sum);
    if (first_tile) {
        query->m = m;
        query->l = l;
    } else {
        merge_scales(query, m, l);
    }
}

/* The weighted values of n_q heads, n_chunk registers from element i on, merged into the results. */
INLINE void add_values(enum dtype type, const struct kern_attn *attn, size_t v_bytes,
        uint32_t first_q, int n_q, size_t i, int n_chunk, uint32_t j0, uint32_t j1,
        const struct query *queries) {
    const uint8_t *v = (const uint8_t *)attn->v;
    const struct query *query = queries + first_q;
    struct lanes acc[QUERIES][CHUNK_ONE];
    UNROLL
    for (int h = 0; h < n_q; h++)
        UNROLL
        for (int c = 0; c < n_chunk; c++)
            acc[h][c] = ln_zero();
    for (uint32_t j = j0; j < j1; j++) {
        struct lanes value[CHUNK_ONE];
        UNROLL
        for (int c = 0; c < n_chunk; c++)
            value[c] = load_row(type, v + j * v_bytes, attn->n_dim_v, i + (size_t)c * 16);
        UNROLL
        for (int h = 0; h < n_q; h++) {
            struct lanes p = ln_set1(query[h].p[j % KERN_ATTN_TILE]);
            UNROLL
            for (int c = 0; c < n_chunk; c++)
                acc[h][c] = ln_fma(p, value[c], acc[h][c]);
        }
    }
    bool first_tile = j0 == attn->first;
    UNROLL
    for (int h = 0; h < n_q; h++) {
        float *out = attn->out + (first_q + (uint32_t)h) * attn->out_stride;
        UNROLL
        for (int c = 0; c < n_chunk; c++) {
            size_t at = i + (size_t)c * 16;
            size_t n = attn->n_dim_v - at < 16 ? attn->n_dim_v - at : 16;
            struct lanes o = acc[h][c];
            if (!first_tile) {
                struct lanes scaled = ln_mul(o, ln_set1(query[h].new_scale));
                o = ln_fma(ln_load_first(out + at, n), ln_set1(query[h].old_scale), scaled);
            }
            ln_store_first(out + at, o, n);
        }
    }
}

INLINE void value_tile(enum dtype type, const struct kern_attn *attn, size_t v_bytes, uint32_t j0,
        uint32_t j1, const struct query *queries) {
    uint32_t h = 0;
    for (; h + QUERIES <= attn->n_q; h += QUERIES) {
        size_t i = 0;
        for (; i + 16 * CHUNK <= attn->n_dim_v; i += 16 * CHUNK)
            add_values(type, attn, v_bytes, h, QUERIES, i, CHUNK, j0, j1, queries);
        for (; i < attn->n_dim_v; i += 16)
            add_values(type, attn, v_bytes, h, QUERIES, i, 1, j0, j1, queries);
    }
    for (; h < attn->n_q; h++) {
        size_t i = 0;
        for (; i + 16 * CHUNK_ONE <= attn->n_dim_v; i += 16 * CHUNK_ONE)
            add_values(type, attn, v_bytes, h, 1, i, CHUNK_ONE, j0, j1, queries);
        for (; i < attn->n_dim_v; i += 16)
            add_values(type, attn, v_bytes, h, 1, i, 1, j0, j1, queries);
    }
}

/* A sink is a tile with its own maximum, a sum of 1 and no values; then everything is divided. */
static void finish(const struct kern_attn *attn, struct query *queries) {
    for (uint32_t h = 0; h < attn->n_q; h++) {
        struct query *query = queries + h;
        float *out = attn->out + h * attn->out_stride;
        if (attn->sinks != NULL) merge_scales(query, attn->sinks[h], 1.0f);
        for (size_t i = 0; i < attn->n_dim_v; i += 16) {
            size_t n = attn->n_dim_v - i < 16 ? attn->n_dim_v - i : 16;
            struct lanes o = ln_load_first(out + i, n);
            if (attn->sinks != NULL) {
                struct lanes nothing = ln_set1(0.0f * query->new_scale);
                o = ln_fma(o, ln_set1(query->old_scale), nothing);
            }
            ln_store_first(out + i, ln_div(o, ln_set1(query->l)), n);
        }
    }
}

INLINE void attend_type(enum dtype type, const struct kern_attn *attn) {
    struct query *queries = (struct query *)(void *)attn->scratch;
    size_t k_bytes = kern_kv_row_bytes(type, attn->n_dim_k);
    size_t v_bytes = kern_kv_row_bytes(type, attn->n_dim_v);
    for (uint32_t j0 = attn->first, j1; j0 < attn->end; j0 = j1) {
        j1 = (j0 / KERN_ATTN_TILE + 1) * KERN_ATTN_TILE;
        bool partial = j0 % KERN_ATTN_TILE != 0 || j1 > attn->end;
        if (j1 > attn->end) j1 = attn->end;
        if (partial)
            for (uint32_t h = 0; h < attn->n_q; h++)
                for (size_t i = 0; i < KERN_ATTN_TILE; i += 16)
                    ln_store(queries[h].p + i, ln_set1(-INFINITY));
        score_tile(type, attn, k_bytes, j0, j1, queries);
        for (uint32_t h = 0; h < attn->n_q; h++)
            weigh_tile(&queries[h], j0 == attn->first);
        value_tile(type, attn, v_bytes, j0, j1, queries);
    }
    finish(attn, queries);
}

static void attend_f32(const struct kern_attn *attn) {
    attend_type(DT_F32, attn);
}

static void attend_f16(const struct kern_attn *attn) {
    attend_type(DT_F16, attn);
}

static void attend_q8_0(const struct kern_attn *attn) {
    attend_type(DT_Q8_0, attn);
}

void FLOAT_NAME(attend)(const struct kern_attn *attn) {
    ASSERT(attn->first < attn->end);
    if (attn->kv_type == DT_F32)
        attend_f32(attn);
    else if (attn->kv_type == DT_F16)
        attend_f16(attn);
    else
        attend_q8_0(attn);
}
