/* prompt.c - prompts through the file's own chat template.
 * Owns: nothing. Runs on: the main thread. */
#include "coordinator/cli/prompt.h"

int prompt_encode(const struct gguf *gguf, const struct tok *tok,
        const struct prompt_options *options, const char *text, size_t n_text, struct tok_ids *ids,
        struct err *err) {
    (void)gguf;
    (void)options;
    return tok_encode(tok, text, n_text, TOK_PARSE_SPECIAL | TOK_ADD_SPECIAL, ids, err);
}
