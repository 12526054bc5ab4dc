/* prompt.h - from a question to the token ids that a model expects: chat template, special tokens. */
#pragma once

#include "coordinator/text/tok.h"
#include "proto/base/err.h"
#include "proto/format/gguf.h"

#include <stdbool.h>

struct prompt_options {
    bool raw;           /* no chat template */
    const char *system; /* a system message, or NULL */
};

/* Appends to ids. ERR_UNSUPPORTED when there is neither a usable template nor a known family. */
int prompt_encode(const struct gguf *gguf, const struct tok *tok,
        const struct prompt_options *options, const char *text, size_t n_text, struct tok_ids *ids,
        struct err *err);
