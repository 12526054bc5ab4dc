/* model_rope.c - rotary positions: from metadata to one frequency per pair.
 * Owns: the frequencies. Does not: rotate. Runs on: the loading thread.
 *
 * All in binary64 with the kernels' own logarithm, so that every machine has the same frequencies
 * (docs/numerics.md, rule 4). YaRN: Peng et al. 2023, "YaRN: Efficient Context Window Extension",
 * section 3.2; the rounding of the ramp's ends is that of the GGUF engines. */
#include "coordinator/model/model_arch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROPE_PI 3.14159265358979323846

enum rope_scaling { ROPE_NONE, ROPE_LINEAR, ROPE_YARN };

static int read_scaling(const struct model_keys *keys, enum rope_scaling *out, struct err *err) {
    char key[128];
    (void)snprintf(key, sizeof key, "%s.rope.scaling.type", keys->arch);

    struct gguf_str type = {"linear", 6};
    int rc = gguf_get_str(keys->gguf, key, &type, err);
    if (rc < 0) return rc;

    static const char *const names[] = {
            [ROPE_NONE] = "none", [ROPE_LINEAR] = "linear", [ROPE_YARN] = "yarn"};
    for (int i = ROPE_NONE; i <= ROPE_YARN; i++) {
        if (type.n != strlen(names[i]) || memcmp(type.bytes, names[i], type.n) != 0) continue;
        *out = (enum rope_scaling)i;
        return 0;
    }
    return err_set(err, ERR_UNSUPPORTED,
            "rotary scaling by another rule than none, linear or yarn (%s) is not supported yet",
            key);
}

static int read_yarn(const struct model_keys *keys, const struct model_hparams *hp,
        struct model_rope_params *rope, struct err *err) {
    double ext = -1, attn = 1;
    uint32_t n_ctx_orig = hp->n_ctx_train;

    int rc = model_key_f64(keys, "rope.scaling.yarn_ext_factor", MODEL_OPTIONAL, -1, 1, &ext, err);
    if (rc < 0) return rc;
    rc = model_key_f64(keys, "rope.scaling.yarn_attn_factor", MODEL_OPTIONAL, 1e-3, 1e3, &attn,
            err);
    if (rc < 0) return rc;
    rc = model_key_f64(keys, "rope.scaling.yarn_beta_fast", MODEL_OPTIONAL, 1e-3, 1e6,
            &rope->beta_fast, err);
    if (rc < 0) return rc;
    rc = model_key_f64(keys, "rope.scaling.yarn_beta_slow", MODEL_OPTIONAL, 1e-3, 1e6,
            &rope->beta_slow, err);
    if (rc < 0) return rc;
    rc = model_key_u32(keys, "rope.scaling.original_context_length", MODEL_OPTIONAL, 1, INT32_MAX,
            &n_ctx_orig, err);
    if (rc < 0) return rc;

    rope->ext_factor = ext < 0 ? 1 : ext;
    rope->attn_factor *= attn;
    rope->n_ctx_orig = n_ctx_orig;
    return 0;
}

int model_rope_read(const struct model_keys *keys, const struct model_hparams *hp,
        struct model_rope_params *rope, struct err *err) {
    *rope = (struct model_rope_params){.kind = KERN_ROPE_NEOX, .n_rot = hp->n_dim_k, .base = 10000,
            .factor = 1, .attn_factor = 1, .beta_fast = 32, .beta_slow = 1,
            .n_ctx_orig = hp->n_ctx_train};

    int rc = model_key_u32(keys, "rope.dimension_count", MODEL_OPTIONAL, 1, MODEL_N_DIM_HEAD_MAX,
            &rope->n_rot, err);
    if (rc < 0) return rc;
    if (rope->n_rot % 2 != 0)
        return err_set(err, ERR_BAD_INPUT, "%u rotated elements in a head; pairs are needed",
                rope->n_rot);
    rc = model_key_f64(keys, "rope.freq_base", MODEL_OPTIONAL, 1.0001, 1e15, &rope->base, err);
    if (rc < 0) return rc;

    enum rope_scaling scaling = ROPE_LINEAR;
    if ((rc = read_scaling(keys, &scaling, err)) < 0) return rc;
    if (scaling == ROPE_NONE) return 0;

    double factor = 0;
    rc = model_key_f64(keys, "rope.scaling.factor", MODEL_OPTIONAL, 0, 1e6, &factor, err);
    if (rc == 0)
        rc = model_key_f64(keys, "rope.scale_linear", MODEL_OPTIONAL, 0, 1e6, &factor, err);
    if (rc < 0) return rc;
    if (factor != 0 && factor < 1e-6)
        return err_set(err, ERR_BAD_INPUT, "a rotary scaling factor of %g", factor);
    rope->factor = factor == 0 ? 1 : factor;

    rc = model_key_f64(keys, "rope.scaling.attn_factor", MODEL_OPTIONAL, 1e-3, 1e3,
            &rope->attn_factor, err);
    if (rc < 0) return rc;
    return scaling == ROPE_YARN ? read_yarn(keys, hp, rope, err) : 0;
}

/* The pair (not rounded) that turns beta times within the original context. */
static double yarn_corr(const struct model_rope_params *p, double beta) {
    return p->n_rot * kern_log(p->n_ctx_orig / (2 * ROPE_PI * beta)) / (2 * kern_log(p->base));
}

int model_rope_init(struct model_rope *rope, const struct model_rope_params *params,
        const float *freq_factors, struct err *err) {
    uint32_t n_pairs = params->n_rot / 2;
    double *inv_freq = calloc(n_pairs ? n_pairs : 1, sizeof *inv_freq);
    if (!inv_freq) return err_set(err, ERR_NO_MEMORY, "no memory for %u rotary pairs", n_pairs);

    double lo = 0, hi = 0, mag = params->attn_factor;
    if (params->ext_factor != 0) {
        lo = fmax(0, floor(yarn_corr(params, params->beta_fast)));
        hi = fmin(params->n_rot - 1.0, ceil(yarn_corr(params, params->beta_slow)));
        mag *= 1 + 0.1 * kern_log(params->factor);
    }

    for (uint32_t i = 0; i < n_pairs; i++) {
        double f = kern_rope_inv_freq(params->base, i, params->n_rot);
        if (freq_factors) {
            if (!(freq_factors[i] >= 1e-6f && freq_factors[i] <= 1e6f)) {
                free(inv_freq);
                return err_set(err, ERR_BAD_INPUT, "tensor rope_freqs.weight: element %u is %g", i,
                        (double)freq_factors[i]);
            }
            f /= freq_factors[i];
        }
        double at = (i - lo) / fmax(0.001, hi - lo);
        double ramp = params->ext_factor * (1 - fmin(1, fmax(0, at)));
        inv_freq[i] = params->ext_factor != 0 ? f / params->factor * (1 - ramp) + f * ramp
                                              : f / params->factor;
    }

    *rope = (struct model_rope){.kind = params->kind, .n_rot = params->n_rot, .mag = (float)mag,
            .inv_freq = inv_freq};
    return 0;
}

void model_rope_fini(struct model_rope *rope) {
    free(rope->inv_freq);
    *rope = (struct model_rope){0};
}
