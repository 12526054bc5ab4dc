/* neon_attend.c - one query row against the cache of one key/value head (docs/numerics.md rule 5).
 * The twin of kernels/ref/attn_ref.c.
 *
 * Per tile of 64 positions: the scores of all query heads; maxima, exponentials and sums; then the
 * weighted values, summed in registers over the tile and merged into the result. Both passes keep four
 * sums of sixteen lanes in registers: four heads share what is read of the cache, or two heads with two
 * positions (scores) or 32 elements (values), or one head with four.
 * Owns: nothing. Does not: know layers or where the cache is kept.
 * Runs on: any thread of an aarch64 CPU. */
#include "kernels/arm/neon_set.h"

#include "kernels/arm/neon_lanes.h"

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
    LANES_OF(k, vreinterpretq_f32_u8(vld1q_u8(row + 4 * i + 16 * k)));
}

/* The same for the last elements where they are fewer than sixteen, padded with zeros. Rows of Q8_0
 * have none. */
INLINE struct lanes load_row_end(enum dtype type, const uint8_t *row, size_t n, size_t i) {
    size_t elem = type == DT_F32 ? 4 : 2;
    uint8_t padded[64] = {0};
    memcpy(padded, row + i * elem, (n - i) * elem);
    return load_row(type, padded, 16, 0);
}

/* Sums of products to scores: those of position j + pos to p[h][..]. */
INLINE void put_scores(struct lanes (*acc)[PARTS], int n_q, int n_pos, float scale,
        struct query *queries, uint32_t j) {
    const int n = n_q * n_pos;
    struct lanes flat[PARTS];
    float scores[PARTS];
    EACH_PART(h, n_q, EACH_PART(pos, n_pos, flat[h * n_pos + pos] = acc[h][pos]));
    if (n == 4)
        vst1q_f32(scores, vmulq_n_f32(ln_sum4(flat[0], flat[1], flat[2], flat[3]), scale));
    else
        EACH_PART(i, n_q * n_pos, scores[i] = ln_sum(flat[i]) * scale);

    EACH_PART(h, n_q, {
        float *p = queries[h].p + j % KERN_ATTN_TILE;
        memcpy(p, scores + h * n_pos, (size_t)n_pos * sizeof *p);
    });
}

/* The scores of n_q heads from first_q and n_pos positions from j, all at once. */
INLINE void score(enum dtype type, const struct kern_attn *attn, size_t k_bytes, uint32_t first_q,
        int n_q, uint32_t j, int n_pos, struct query *queries) {
    const uint8_t *k = (const uint8_t *)attn->k + j * k_bytes;
    const float *q = attn->q + first_q * attn->q_stride;
    size_t n = attn->n_dim_k, full = n / 16 * 16, q_stride = attn->q_stride;
    struct lanes acc[PARTS][PARTS];
    EACH_PART(h, n_q, EACH_PART(pos, n_pos, acc[h][pos] = ln_zero()));
    for (size_t i = 0; i < full; i += 16) {
        struct lanes key[PARTS];
        EACH_PART(pos, n_pos, key[pos] = load_row(type, k + pos * k_bytes, n, i));
        EACH_PART(h, n_q, EACH_PART(part, 4, {
            float32x4_t x = vld1q_f32(q + h * q_stride + i + 4 * part);
            EACH_PART(pos, n_pos,
                    { acc[h][pos].v[part] = vfmaq_f32(acc[h][pos].v[part], x, key[pos].v[part]); });
        }));
    }
    if (type != DT_Q8_0 && full < n) {
        struct lanes key[PARTS];
        EACH_PART(pos, n_pos, key[pos] = load_row_end(type, k + pos * k_bytes, n, full));
        EACH_PART(h, n_q, {
            struct lanes x = ln_load_first(q + h * q_stride + full, n - full);
            EACH_PART(pos, n_pos, {
                struct lanes sum = ln_fma(x, key[pos], acc[h][pos]);
                acc[h][pos] = ln_keep_after(sum, n - full, acc[h][pos]);
            });
        });
    }
    put_scores(acc, n_q, n_pos, attn->scale, queries + first_q, j);
}

/* The scores of n_q heads and all positions of a tile, n_pos at a time. */
INLINE void score_heads(enum dtype type, const struct kern_attn *attn, size_t k_bytes,
        uint32_t first_q, int n_q, int n_pos, uint32_t j0, uint32_t j1, struct query *queries) {
    uint32_t j = j0;
    for (; j1 - j >= (uint32_t)n_pos; j += (uint32_t)n_pos)
        score(type, attn, k_bytes, first_q, n_q, j, n_pos, queries);
    if (n_pos == 1) return;
    for (; j < j1; j++)
        score(type, attn, k_bytes, first_q, n_q, j, 1, queries);
}

INLINE void score_tile(enum dtype type, const struct kern_attn *attn, size_t k_bytes, uint32_t j0,
        uint32_t j1, struct query *queries) {
    uint32_t h = 0;
    for (; attn->n_q - h >= 4; h += 4)
        score_heads(type, attn, k_bytes, h, 4, 1, j0, j1, queries);
    if (attn->n_q - h >= 2) {
        score_heads(type, attn, k_bytes, h, 2, 2, j0, j1, queries);
        h += 2;
    }
    if (attn->n_q - h == 1) score_heads(type, attn, k_bytes, h, 1, 4, j0, j1, queries);
}

/* Merges a tile's maximum and sum into the running ones; leaves the scales for the values. */
static void merge_scales(struct query *query, float m_tile, float l_tile) {
    float max = m_tile > query->m ? m_tile : query->m;
    query->old_scale = math_exp(query->m - max);
    query->new_scale = math_exp(m_tile - max);
    query->l = math_fma(query->l, query->old_scale, l_tile * query->new_scale);
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

/* Sixteen of a tile's weighted values, or the last n, merged into the result at out. */
INLINE void merge_values(
        struct lanes sum, const struct query *query, bool first_tile, float *out, size_t n) {
    if (!first_tile) {
        struct lanes scaled = ln_mul(sum, ln_set1(query->new_scale));
        sum = ln_fma(
                n == 16 ? ln_load(out) : ln_load_first(out, n), ln_set1(query->old_scale), scaled);
    }
    if (n == 16)
        ln_store(out, sum);
    else
        ln_store_first(out, sum, n);
}

/* The weighted values of n_q heads, 16 n_chunk elements from element i on. */
INLINE void add_values(enum dtype type, const struct kern_attn *attn, size_t v_bytes,
        uint32_t first_q, int n_q, size_t i, int n_chunk, uint32_t j0, uint32_t j1,
        const struct query *queries) {
    const uint8_t *v = (const uint8_t *)attn->v + j0 * v_bytes;
    const struct query *query = queries + first_q;
    struct lanes acc[PARTS][PARTS];
    EACH_PART(h, n_q, EACH_PART(c, n_chunk, acc[h][c] = ln_zero()));
    for (uint32_t at = j0 % KERN_ATTN_TILE, end = at + (j1 - j0); at < end; at++, v += v_bytes)
        EACH_PART(c, n_chunk, {
            struct lanes value = load_row(type, v, attn->n_dim_v, i + 16 * c);
            EACH_PART(h, n_q, EACH_PART(part, 4, {
                acc[h][c].v[part] = vfmaq_n_f32(acc[h][c].v[part], value.v[part], query[h].p[at]);
            }));
        });
    EACH_PART(h, n_q, {
        float *out = attn->out + (first_q + h) * attn->out_stride + i;
        EACH_PART(c, n_chunk,
                { merge_values(acc[h][c], &query[h], j0 == attn->first, out + 16 * c, 16); });
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

/* The weighted values of n_q heads: all full sixteens of elements, n_chunk of them at a time. */
INLINE void value_heads(enum dtype type, const struct kern_attn *attn, size_t v_bytes,
        uint32_t first_q, int n_q, int n_chunk, uint32_t j0, uint32_t j1,
        const struct query *queries) {
    size_t full = attn->n_dim_v / 16 * 16, step = 16 * (size_t)n_chunk, i = 0;
    for (; full - i >= step; i += step)
        add_values(type, attn, v_bytes, first_q, n_q, i, n_chunk, j0, j1, queries);
    if (n_chunk == 1) return;
    for (; i < full; i += 16)
        add_values(type, attn, v_bytes, first_q, n_q, i, 1, j0, j1, queries);
}

INLINE void value_tile(enum dtype type, const struct kern_attn *attn, size_t v_bytes, uint32_t j0,
        uint32_t j1, const struct query *queries) {
    uint32_t h = 0;
    for (; attn->n_q - h >= 4; h += 4)
        value_heads(type, attn, v_bytes, h, 4, 1, j0, j1, queries);
    if (attn->n_q - h >= 2) {
        value_heads(type, attn, v_bytes, h, 2, 2, j0, j1, queries);
        h += 2;
    }
    if (attn->n_q - h == 1) value_heads(type, attn, v_bytes, h, 1, 4, j0, j1, queries);

    size_t full = attn->n_dim_v / 16 * 16;
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

void neon_attend(const struct kern_attn *attn) {
    ASSERT(attn->first < attn->end);
    if (attn->kv_type == DT_F32)
        attend_f32(attn);
    else if (attn->kv_type == DT_F16)
        attend_f16(attn);
    else
        attend_q8_0(attn);
}
