/* route.c - the router's decision.
 * Owns: nothing. Does not: know where experts are. Runs on: any thread. */
#include "coordinator/moe/route.h"

#include <math.h>
#include <string.h>

/* The smallest divisor when renormalising, so that weights that all vanish do not become NaN. */
#define WEIGHT_SUM_MIN 6.103515625e-5f

static float or_lowest(float x) {
    return x == x ? x : -INFINITY;
}

/* Keeps the best groups: a group counts the sum of its two largest values; the others become -inf. */
static void keep_best_groups(const struct model_router *router, float *value) {
    uint32_t n_in_group = router->n_expert / router->n_group;
    float score[256];
    uint32_t n_group = router->n_group < 256 ? router->n_group : 256;

    for (uint32_t g = 0; g < n_group; g++) {
        float first = -INFINITY, second = -INFINITY;
        for (uint32_t i = g * n_in_group; i < (g + 1) * n_in_group; i++) {
            if (value[i] > first) {
                second = first;
                first = value[i];
            } else if (value[i] > second) {
                second = value[i];
            }
        }
        score[g] = n_in_group > 1 ? first + second : first;
    }
    for (uint32_t g = 0; g < n_group; g++) {
        uint32_t n_better = 0;
        for (uint32_t o = 0; o < n_group; o++)
            n_better += score[o] > score[g] || (score[o] == score[g] && o < g);
        if (n_better < router->n_group_used) continue;
        for (uint32_t i = g * n_in_group; i < (g + 1) * n_in_group; i++)
            value[i] = -INFINITY;
    }
}

/* The indices of the k largest values, ascending; ties to the lower index. Marks the chosen ones. */
static void choose(const float *value, uint32_t n, uint32_t k, uint16_t *out) {
    uint32_t n_chosen = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (n_chosen == k && !(value[i] > value[out[k - 1]])) continue;

        /* out is kept sorted by (value descending, index ascending) while choosing */
        uint32_t at = n_chosen < k ? n_chosen++ : k - 1;
        while (at > 0 && value[i] > value[out[at - 1]]) {
            out[at] = out[at - 1];
            at--;
        }
        out[at] = (uint16_t)i;
    }
    for (uint32_t i = 1; i < k; i++) {
        uint16_t e = out[i];
        uint32_t at = i;
        for (; at > 0 && out[at - 1] > e; at--)
            out[at] = out[at - 1];
        out[at] = e;
    }
}

static void route_row(const struct model_router *router, const struct kern_ops *kern, float *p,
        uint16_t *expert, float *weight, float *value) {
    uint32_t n = router->n_expert, k = router->n_expert_used;

    if (router->gating == MODEL_GATING_SOFTMAX) kern->softmax(p, n);
    if (router->gating == MODEL_GATING_SIGMOID) kern->sigmoid(p, n);
    for (uint32_t i = 0; i < n; i++)
        value[i] = or_lowest(router->bias ? p[i] + router->bias[i] : p[i]);
    if (router->n_group > 1) keep_best_groups(router, value);
    choose(value, n, k, expert);

    for (uint32_t i = 0; i < k; i++)
        weight[i] = p[expert[i]];
    if (router->gating == MODEL_GATING_SOFTMAX_TOPK) kern->softmax(weight, k);
    if (router->renormalise) {
        float sum = 0;
        for (uint32_t i = 0; i < k; i++)
            sum += weight[i];
        if (!(sum > WEIGHT_SUM_MIN)) sum = WEIGHT_SUM_MIN;
        for (uint32_t i = 0; i < k; i++)
            weight[i] /= sum;
    }
    if (router->scale != 0 && router->scale != 1)
        for (uint32_t i = 0; i < k; i++)
            weight[i] *= router->scale;
}

void moe_route(const struct model_router *router, const struct kern_ops *kern, float *logits,
        uint32_t n_rows, uint16_t *expert, float *weight, float *scratch) {
    for (uint32_t r = 0; r < n_rows; r++)
        route_row(router, kern, logits + (size_t)r * router->n_expert,
                expert + (size_t)r * router->n_expert_used,
                weight + (size_t)r * router->n_expert_used, scratch);
}
