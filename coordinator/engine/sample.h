/* sample.h - from a row of logits to the next token.
 *
 * Order: repeat penalty, then (temperature 0: the largest logit, ties to the lower id) or top-k,
 * top-p, min-p, temperature, draw. Formulas, z the logits:
 *   repeat penalty r over the last SAMPLE_PENALTY_TOKENS tokens: z > 0 ? z / r : z * r, once a token
 *   top-k: the k largest; ties to the lower id
 *   top-p: softmax over what is left, sorted; the shortest prefix whose sum reaches p
 *   min-p: those with probability >= p times the largest
 *   temperature T: probabilities proportional to exp((z - max) / T)
 *   draw: u uniform in [0, 1) from the session's generator; the first with running sum > u * total
 * exp is the contract's own (docs/numerics.md, rule 4), sums run in binary64 in descending order, so a
 * seed gives the same text on every machine. A NaN logit is never chosen. Owner: one thread. */
#pragma once

#include "proto/base/err.h"
#include "proto/base/rng.h"

#include <stdint.h>

/* How far back the repeat penalty looks. */
#define SAMPLE_PENALTY_TOKENS 64

struct sample_options {
    float temperature;    /* 0: greedy */
    uint32_t top_k;       /* 0: off */
    float top_p;          /* 1: off */
    float min_p;          /* 0: off */
    float repeat_penalty; /* 1: off */
    uint64_t seed;
};

#define SAMPLE_DEFAULTS                                                                            \
    { .temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1 }

struct sampler; /* opaque */

/* ERR_USAGE for values out of range (named), ERR_NO_MEMORY. */
int sampler_new(const struct sample_options *options, uint32_t n_vocab,
        struct sampler **out_sampler, struct err *err);
void sampler_free(struct sampler *sampler);

/* Tells the sampler of a token of the prompt or of the answer, for the penalty. */
void sampler_accept(struct sampler *sampler, int32_t token);

/* Draws from logits[n_vocab]; suppressed[n] ids are never drawn (may be NULL). Allocates nothing. */
int32_t sampler_draw(struct sampler *sampler, const float *logits, const int32_t *suppressed,
        uint32_t n_suppressed);
