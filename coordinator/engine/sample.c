/* sample.c - the sampler.
 * Owns: the candidates of one draw and the recent tokens. Does not: know what tokens mean.
 * Runs on: the engine's thread. */
#include "coordinator/engine/sample.h"

#include "kernels/kern.h"
#include "proto/base/checked.h"

#include <math.h>
#include <stdlib.h>

struct candidate {
    float z;
    int32_t id;
};

struct sampler {
    struct sample_options options;
    uint32_t n_vocab;
    struct rng rng;
    struct candidate *heap;   /* [n_vocab] */
    struct candidate *sorted; /* [n_vocab] taken from the heap, best first */
    int32_t recent[SAMPLE_PENALTY_TOKENS];
    uint64_t n_accepted;
};

int sampler_new(const struct sample_options *options, uint32_t n_vocab,
        struct sampler **out_sampler, struct err *err) {
    if (!(options->temperature >= 0) || !(options->temperature <= 100))
        return err_set(err, ERR_USAGE, "temperature %g; 0 to 100 is possible",
                (double)options->temperature);
    if (!(options->top_p > 0) || !(options->top_p <= 1))
        return err_set(err, ERR_USAGE, "top-p %g; more than 0 and at most 1 is possible",
                (double)options->top_p);
    if (!(options->min_p >= 0) || !(options->min_p <= 1))
        return err_set(err, ERR_USAGE, "min-p %g; 0 to 1 is possible", (double)options->min_p);
    if (!(options->repeat_penalty > 0) || !(options->repeat_penalty <= 100))
        return err_set(err, ERR_USAGE, "repeat penalty %g; more than 0 and at most 100 is possible",
                (double)options->repeat_penalty);

    struct sampler *sampler = calloc(1, sizeof *sampler);
    if (sampler) {
        sampler->options = *options;
        sampler->n_vocab = n_vocab;
        rng_init(&sampler->rng, options->seed);
        sampler->heap = calloc(n_vocab, sizeof *sampler->heap);
        sampler->sorted = calloc(n_vocab, sizeof *sampler->sorted);
    }
    if (!sampler || !sampler->heap || !sampler->sorted) {
        sampler_free(sampler);
        return err_set(err, ERR_NO_MEMORY, "no memory to sample from %u tokens", n_vocab);
    }
    *out_sampler = sampler;
    return 0;
}

void sampler_free(struct sampler *sampler) {
    if (!sampler) return;
    free(sampler->heap);
    free(sampler->sorted);
    free(sampler);
}

void sampler_accept(struct sampler *sampler, int32_t token) {
    sampler->recent[sampler->n_accepted++ % SAMPLE_PENALTY_TOKENS] = token;
}

/* Better: larger, then lower id. */
static bool better(struct candidate a, struct candidate b) {
    return a.z > b.z || (a.z == b.z && a.id < b.id);
}

static void sift_down(struct candidate *heap, uint32_t n, uint32_t at) {
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= n) return;
        if (child + 1 < n && better(heap[child + 1], heap[child])) child++;
        if (!better(heap[child], heap[at])) return;
        struct candidate swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
        at = child;
    }
}

static void fill(struct sampler *sampler, const float *logits, const int32_t *suppressed,
        uint32_t n_suppressed) {
    struct candidate *c = sampler->heap;
    for (uint32_t i = 0; i < sampler->n_vocab; i++)
        c[i] = (struct candidate){logits[i] == logits[i] ? logits[i] : -INFINITY, (int32_t)i};
    for (uint32_t i = 0; i < n_suppressed; i++)
        if ((uint32_t)suppressed[i] < sampler->n_vocab) c[suppressed[i]].z = -INFINITY;
}

static void penalise(struct sampler *sampler) {
    float r = sampler->options.repeat_penalty;
    if (r == 1) return;

    uint64_t n = min_u64(sampler->n_accepted, SAMPLE_PENALTY_TOKENS);
    for (uint64_t i = 0; i < n; i++) {
        int32_t id = sampler->recent[i];
        bool seen = id < 0 || (uint32_t)id >= sampler->n_vocab;
        for (uint64_t j = 0; j < i && !seen; j++)
            seen = sampler->recent[j] == id;
        if (seen) continue;
        float z = sampler->heap[id].z;
        sampler->heap[id].z = z > 0 ? z / r : z * r;
    }
}

static int32_t largest(const struct candidate *c, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (better(c[i], c[best])) best = i;
    return c[best].id;
}

/* Takes candidates from the heap, best first, until top-k, top-p or min-p says enough. Returns how
 * many; they stand in sampler->sorted. */
static uint32_t take_best(struct sampler *sampler) {
    const struct sample_options *o = &sampler->options;
    struct candidate *heap = sampler->heap;
    uint32_t n = sampler->n_vocab;
    for (uint32_t i = n / 2; i-- > 0;)
        sift_down(heap, n, i);
    float max = heap[0].z;

    uint32_t k = o->top_k && o->top_k < n ? o->top_k : n;
    double total = 0;
    if (k == n && o->top_p < 1)
        for (uint32_t i = 0; i < n; i++)
            total += (double)kern_exp(heap[i].z - max);

    uint32_t n_taken = 0;
    double sum = 0;
    while (n_taken < k && n > 0) {
        struct candidate best = heap[0];
        double p = (double)kern_exp(best.z - max);
        if (n_taken > 0 && (best.z == -INFINITY || p < (double)o->min_p)) break;
        if (k == sampler->n_vocab && o->top_p < 1 && sum >= (double)o->top_p * total) break;
        sum += p;
        sampler->sorted[n_taken++] = best;
        heap[0] = heap[--n];
        sift_down(heap, n, 0);
    }
    if (k == sampler->n_vocab || o->top_p == 1) return n_taken;

    /* top-p among the top k (min-p cut the tail already: it keeps a prefix of the same order, but the
     * sum that top-p refers to is that of all k, so what min-p cut off is added to it) */
    double cut = 0;
    uint32_t left = k - n_taken;
    while (left-- > 0 && n > 0 && heap[0].z != -INFINITY) {
        cut += (double)kern_exp(heap[0].z - max);
        heap[0] = heap[--n];
        sift_down(heap, n, 0);
    }
    double target = (double)o->top_p * (sum + cut), running = 0;
    for (uint32_t i = 0; i < n_taken; i++) {
        running += (double)kern_exp(sampler->sorted[i].z - max);
        if (running >= target) return i + 1;
    }
    return n_taken;
}

int32_t sampler_draw(struct sampler *sampler, const float *logits, const int32_t *suppressed,
        uint32_t n_suppressed) {
    fill(sampler, logits, suppressed, n_suppressed);
    penalise(sampler);
    if (sampler->options.temperature == 0) return largest(sampler->heap, sampler->n_vocab);

    uint32_t n = take_best(sampler);
    float max = sampler->sorted[0].z;
    if (max == -INFINITY)
        return sampler->sorted[0].id; /* nothing but NaN: any token, never a crash */
    double total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += (double)kern_exp((sampler->sorted[i].z - max) / sampler->options.temperature);

    double target = rng_unit(&sampler->rng) * total, running = 0;
    for (uint32_t i = 0; i < n; i++) {
        running += (double)kern_exp((sampler->sorted[i].z - max) / sampler->options.temperature);
        if (running > target) return sampler->sorted[i].id;
    }
    return sampler->sorted[n - 1].id;
}
