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

/* Query heads that share one pass over keys or values, positions scored together, and registers of
 * lanes a head that values are summed in; the _ONE ones for a single head. */
#if defined(__AVX512F__)
#define QUERIES 4
#define POSITIONS 4
#define CHUNK 4
#define CHUNK_ONE 8
#else
#define QUERIES 2
#define POSITIONS 2
#define CHUNK 2
#define CHUNK_ONE 4
#endif
#define POSITIONS_ONE 4

/* The running softmax of one query head, and what its last tile is merged with. */
struct query {
    float m, l;
    float old_scale, new_scale; /* a and b of rule 5 */
    float p[KERN_ATTN_TILE];    /* scores, then weights; by position within the tile */
};

/* Sixteen elements of a cache row of n elements, from element i. */
INLINE struct lanes load_row(enum dtype type, const uint8_t *row, size_t n, size_t i) {
    if (type == DT_Q8_0) {
        float d;
        memcpy(&d, row + n + i / 32 * sizeof d, sizeof d);
        return ln_mul(ln_load_i8(row + i), ln_set1(d));
    }
    if (type == DT_F16) return ln_load_f16(row + 2 * i);
    return ln_load((const float *)(const void *)(row + 4 * i));
}

/* The same for the last elements where they are fewer than sixteen, padded with zeros. Rows of Q8_0
 * have none. */
INLINE struct lanes load_row_end(enum dtype type, const uint8_t *row, size_t n, size_t i) {
    size_t elem = type == DT_F32 ? 4 : 2;
    uint8_t padded[64] = {0};
    memcpy(padded, row + i * elem, (n - i) * elem);
    return type == DT_F32 ? ln_load((const float *)(const void *)padded) : ln_load_f16(padded);
}

/* Sums of products to scores: p[h][j..] of n_q heads and n_pos positions. */
INLINE void put_scores(struct lanes (*acc)[EACH_MAX], int n_q, int n_pos, float scale,
        struct query *queries, uint32_t j) {
    const __m128 scales = _mm_set1_ps(scale);
    uint32_t at = j % KERN_ATTN_TILE;
    if (n_pos == 4) {
        EACH(h, n_q, {
            __m128 sums = ln_sum4(acc[h][0], acc[h][1], acc[h][2], acc[h][3]);
            _mm_storeu_ps(queries[h].p + at, _mm_mul_ps(sums, scales));
        });
    } else if (n_q == 2 && n_pos == 2) {
        __m128 sums = ln_sum4(acc[0][0], acc[0][1], acc[1][0], acc[1][1]);
        sums = _mm_mul_ps(sums, scales);
        _mm_storel_pi((__m64 *)(void *)(queries[0].p + at), sums);
        _mm_storeh_pi((__m64 *)(void *)(queries[1].p + at), sums);
    } else {
        EACH(h, n_q, EACH(pos, n_pos, queries[h].p[at + pos] = ln_sum(acc[h][pos]) * scale));
    }
}

/* The scores of n_q heads from first_q and n_pos positions from j, all at once. */
INLINE void score(enum dtype type, const struct kern_attn *attn, size_t k_bytes, uint32_t first_q,
        int n_q, uint32_t j, int n_pos, struct query *queries) {
    const uint8_t *k = (const uint8_t *)attn->k + j * k_bytes;
    const float *q = attn->q + first_q * attn->q_stride;
    size_t n = attn->n_dim_k, full = n / 16 * 16, q_stride = attn->q_stride;
    struct lanes acc[EACH_MAX][EACH_MAX];
    EACH(h, n_q, EACH(pos, n_pos, acc[h][pos] = ln_zero()));
    for (size_t i = 0; i < full; i += 16) {
        struct lanes key[EACH_MAX];
        EACH(pos, n_pos, key[pos] = load_row(type, k + pos * k_bytes, n, i));
        EACH(h, n_q, {
            struct lanes x = ln_load(q + h * q_stride + i);
            EACH(pos, n_pos, acc[h][pos] = ln_fma(x, key[pos], acc[h][pos]));
        });
    }
    if (type != DT_Q8_0 && full < n) {
        struct lanes key[EACH_MAX];
        EACH(pos, n_pos, key[pos] = load_row_end(type, k + pos * k_bytes, n, full));
        EACH(h, n_q, {
            struct lanes x = ln_load_first(q + h * q_stride + full, n - full);
            EACH(pos, n_pos, {
                struct lanes sum = ln_fma(x, key[pos], acc[h][pos]);
                acc[h][pos] = ln_keep_after(sum, n - full, acc[h][pos]);
            });
        });
    }
    put_scores(acc, n_q, n_pos, attn->scale, queries + first_q, j);
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

/* Scores to weights. Positions that are not visible hold -infinity and become weights of zero,
 * which change no lane of the sum. */
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

/* One register of a tile's weighted values, merged into the result at out: n elements. */
INLINE void merge_values(
        struct lanes sum, const struct query *query, bool first_tile, float *out, size_t n) {
    if (!first_tile) {
        struct lanes scaled = ln_mul(sum, ln_set1(query->new_scale));
        sum = ln_fma(ln_load_first(out, n), ln_set1(query->old_scale), scaled);
    }
    ln_store_first(out, sum, n);
}

/* The weighted values of n_q heads, n_chunk full registers from element i on. */
INLINE void add_values(enum dtype type, const struct kern_attn *attn, size_t v_bytes,
        uint32_t first_q, int n_q, size_t i, int n_chunk, uint32_t j0, uint32_t j1,
        const struct query *queries) {
    const uint8_t *v = (const uint8_t *)attn->v + j0 * v_bytes;
    const struct query *query = queries + first_q;
    size_t n = attn->n_dim_v;
    struct lanes acc[EACH_MAX][EACH_MAX];
    EACH(h, n_q, EACH(c, n_chunk, acc[h][c] = ln_zero()));
    for (uint32_t at = j0 % KERN_ATTN_TILE, end = at + (j1 - j0); at < end; at++, v += v_bytes) {
        struct lanes value[EACH_MAX];
        EACH(c, n_chunk, value[c] = load_row(type, v, n, i + 16 * c));
        EACH(h, n_q, {
            struct lanes p = ln_set1(query[h].p[at]);
            EACH(c, n_chunk, acc[h][c] = ln_fma(p, value[c], acc[h][c]));
        });
    }
    EACH(h, n_q, {
        float *out = attn->out + (first_q + h) * attn->out_stride + i;
        EACH(c, n_chunk, merge_values(acc[h][c], &query[h], j0 == attn->first, out + 16 * c, 16));
    });
}

/* The same for the last n - i < 16 elements of one head. */
INLINE void add_values_end(enum dtype type, const struct kern_attn *attn, size_t v_bytes,
        uint32_t h, size_t i, uint32_t j0, uint32_t j1, const struct query *queries) {
    const uint8_t *v = (const uint8_t *)attn->v;
    struct lanes acc = ln_zero();
    for (uint32_t j = j0; j < j1; j++) {
        struct lanes value = load_row_end(type, v + j * v_bytes, attn->n_dim_v, i);
        acc = ln_fma(ln_set1(queries[h].p[j % KERN_ATTN_TILE]), value, acc);
    }
    float *out = attn->out + h * attn->out_stride + i;
    merge_values(acc, &queries[h], j0 == attn->first, out, attn->n_dim_v - i);
}

INLINE void value_tile(enum dtype type, const struct kern_attn *attn, size_t v_bytes, uint32_t j0,
        uint32_t j1, const struct query *queries) {
    size_t full = attn->n_dim_v / 16 * 16;
    uint32_t h = 0;
    for (; h + QUERIES <= attn->n_q; h += QUERIES) {
        size_t i = 0;
        for (; i + 16 * CHUNK <= full; i += 16 * CHUNK)
            add_values(type, attn, v_bytes, h, QUERIES, i, CHUNK, j0, j1, queries);
        for (; i < full; i += 16)
            add_values(type, attn, v_bytes, h, QUERIES, i, 1, j0, j1, queries);
    }
    for (; h < attn->n_q; h++) {
        size_t i = 0;
        for (; i + 16 * CHUNK_ONE <= full; i += 16 * CHUNK_ONE)
            add_values(type, attn, v_bytes, h, 1, i, CHUNK_ONE, j0, j1, queries);
        for (; i + 16 * CHUNK <= full; i += 16 * CHUNK)
            add_values(type, attn, v_bytes, h, 1, i, CHUNK, j0, j1, queries);
        for (; i < full; i += 16)
            add_values(type, attn, v_bytes, h, 1, i, 1, j0, j1, queries);
    }
    if (type != DT_Q8_0 && full < attn->n_dim_v)
        for (h = 0; h < attn->n_q; h++)
            add_values_end(type, attn, v_bytes, h, full, j0, j1, queries);
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
