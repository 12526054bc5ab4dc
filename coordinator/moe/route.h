/* route.h - from router logits to chosen experts and weights.
 *
 * A pure function of one row's logits (docs/numerics.md, rule 8). Source of the steps: the generic
 * router of the architecture fact sheets (softmax or sigmoid, selection bias, groups, renormalising,
 * scaling), which are those of Mixtral, DeepSeek-V3 and GLM-4.5. */
#pragma once

#include "coordinator/model/model.h"
#include "kernels/kern.h"

#include <stdint.h>

/* Chooses experts for n_rows rows. logits[n_rows][n_expert] is overwritten (it serves as scratch).
 * Writes expert[n_rows][n_expert_used], ascending, and weight[n_rows][n_expert_used]. scratch holds
 * n_expert floats. Ties go to the lower index; a NaN logit is never preferred to a number. Any thread. */
void moe_route(const struct model_router *router, const struct kern_ops *kern, float *logits,
        uint32_t n_rows, uint16_t *expert, float *weight, float *scratch);
