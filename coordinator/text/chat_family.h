/* chat_family.h - prompt forms of known model families, for files whose template cannot be used.
 *
 * A form is a table row: what stands around the texts of each role. Default system prompts, tools
 * and dates are prose of single models and not in here, except what gpt-oss cannot do without.
 * Any thread; nothing is kept. */
#pragma once

#include "coordinator/text/chat.h"

enum chat_family {
    CHAT_FAMILY_NONE,
    CHAT_FAMILY_CHATML,
    CHAT_FAMILY_LLAMA3,
    CHAT_FAMILY_GLM4,  /* GLM-4 */
    CHAT_FAMILY_GLM45, /* GLM-4.5, GLM-4.6 */
    CHAT_FAMILY_GLM47, /* GLM-4.7, GLM-5 */
    CHAT_FAMILY_DEEPSEEK_V3,
    CHAT_FAMILY_DEEPSEEK_R1,
    CHAT_FAMILY_DEEPSEEK_V31,
    CHAT_FAMILY_GEMMA,      /* Gemma 1 to 3 */
    CHAT_FAMILY_HARMONY,    /* gpt-oss */
    CHAT_FAMILY_MISTRAL_V1, /* 7B v0.1 and v0.2, Mixtral 8x7B */
    CHAT_FAMILY_MISTRAL_V3, /* 7B v0.3, Mixtral 8x22B */
    CHAT_FAMILY_MISTRAL_V3_TEKKEN,
    CHAT_FAMILY_MISTRAL_V7,
    CHAT_FAMILY_MISTRAL_V7_TEKKEN,
    CHAT_FAMILY_KIMI_K2,
    CHAT_FAMILY_GRANITE,
    CHAT_FAMILY_MINIMAX_M2,
    CHAT_FAMILY_PHI3,
    CHAT_FAMILY_COUNT,
};

/* "chatml", "llama3" ...; "none". */
const char *chat_family_name(enum chat_family family);

/* By marker strings of the template, or else by the special tokens that exist (has_token may be
 * NULL). CHAT_FAMILY_NONE where nothing fits. */
enum chat_family chat_family_detect(const char *source, size_t n_source,
        bool (*has_token)(void *opaque, const char *text), void *opaque);

/* Appends the messages in the family's form. can_think: the model knows <think> blocks.
 * ERR_UNSUPPORTED: tools, or a role that the form has no place for; ERR_NO_MEMORY. */
int chat_family_render(enum chat_family family, bool can_think, const struct chat_message *messages,
        size_t n, const struct chat_options *options, struct buf *out, struct err *err);
