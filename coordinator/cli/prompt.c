/* prompt.c - prompts through the file's own chat template.
 * Owns: nothing. Does not: know any template. Runs on: the main thread. */
#include "coordinator/cli/prompt.h"

#include "coordinator/text/chat.h"

#include <string.h>

static bool has_token(void *opaque, const char *text) {
    const struct tok *tok = opaque;
    return tok_find(tok, text, strlen(text)) != TOK_NONE;
}

static struct chat_str special_text(const struct tok *tok, enum tok_special which) {
    int32_t id = tok_special(tok, which);
    struct tok_text text = id == TOK_NONE ? (struct tok_text){"", 0} : tok_token_text(tok, id);
    return (struct chat_str){text.bytes, text.n};
}

static int render(const struct gguf *gguf, const struct tok *tok,
        const struct prompt_options *options, const char *text, size_t n_text, struct buf *out,
        struct err *err) {
    struct chat_message messages[2];
    size_t n = 0;
    if (options->system)
        messages[n++] = (struct chat_message){.role = CHAT_STR("system"),
                .content = {options->system, strlen(options->system)}};
    messages[n++] = (struct chat_message){.role = CHAT_STR("user"), .content = {text, n_text}};

    struct gguf_str source = {NULL, 0};
    int rc = gguf_get_str(gguf, "tokenizer.chat_template", &source, err);
    if (rc < 0) return rc;
    struct chat_options chat = {.add_generation_prompt = true,
            .adds_bos = tok_adds_bos(tok),
            .adds_eos = tok_adds_eos(tok),
            .bos = special_text(tok, TOK_BOS),
            .eos = special_text(tok, TOK_EOS),
            .has_token = has_token,
            .opaque = (void *)tok};
    rc = chat_render(source.bytes, source.n, messages, n, &chat, out, err);
    if (rc < 0) {
        err_note(err, "the chat template of %s", gguf_path(gguf));
        err_hint(err, "--raw sends the prompt as it is");
    }
    return rc;
}

int prompt_encode(const struct gguf *gguf, const struct tok *tok,
        const struct prompt_options *options, const char *text, size_t n_text, struct tok_ids *ids,
        struct err *err) {
    unsigned flags = TOK_PARSE_SPECIAL | TOK_ADD_SPECIAL;
    if (options->raw) return tok_encode(tok, text, n_text, flags, ids, err);

    struct buf rendered = {0};
    int rc = render(gguf, tok, options, text, n_text, &rendered, err);
    if (rc == 0)
        rc = tok_encode(tok, rendered.bytes ? rendered.bytes : "", rendered.n_bytes, flags, ids,
                err);
    buf_fini(&rendered);
    return rc;
}
