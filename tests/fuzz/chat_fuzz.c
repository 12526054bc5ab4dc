/* chat_fuzz.c - any bytes as a chat template, with messages that have one of everything. */
#include "coordinator/text/chat.h"
#include "coordinator/text/jinja.h"

#include <stdlib.h>

static const struct chat_message messages[] = {
        {.role = CHAT_STR("system"), .content = CHAT_STR("Be brief.")},
        {.role = CHAT_STR("user"), .content = CHAT_STR("W\u00e9tter? <b>'x'</b> \"y\"\n")},
        {.role = CHAT_STR("assistant"),
                .reasoning = CHAT_STR("hm"),
                .tool_calls_json = CHAT_STR("[{\"id\": \"c\", \"function\": {\"name\": \"f\", "
                                            "\"arguments\": \"{\\\"a\\\": [1, 2.5, null]}\"}}]")},
        {.role = CHAT_STR("tool"), .content = CHAT_STR("20"), .tool_call_id = CHAT_STR("c")},
        {.role = CHAT_STR("assistant"), .content = CHAT_STR("<think>t</think>20 degrees")},
};

static bool no_token(void *opaque, const char *text) {
    (void)opaque;
    return text[0] == '[';
}

/* Small limits, so that loops end soon and inputs that need much are not what is kept. */
static void render_small(const char *source, size_t n) {
    const struct jinja_limits limits = {
            .memory_bytes = 4 << 20, .output_bytes = 1 << 16, .steps = 50000, .depth = 150};
    struct jinja *jinja;
    struct jinja_value *value;
    struct buf out = {0};
    struct err err = ERR_INIT;
    if (jinja_new(&limits, 1754000000, &jinja, &err) < 0) abort();
    static const char json[] = "[{\"role\": \"user\", \"content\": \"a b\", \"n\": [1, 2, 3]}, "
                               "{\"role\": \"assistant\", \"content\": \"c\", \"n\": []}]";
    if (jinja_from_json(jinja, json, sizeof json - 1, &value, &err) < 0) abort();
    jinja_set(jinja, "messages", value);
    if (jinja_render(jinja, source, n, &out, &err) < 0 && out.n_bytes) abort();
    if (out.n_bytes > limits.output_bytes) abort();
    jinja_free(jinja);
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    const struct chat_options options = {.add_generation_prompt = true,
            .adds_bos = true,
            .adds_eos = true,
            .quiet = true,
            .bos = CHAT_STR("<s>"),
            .eos = CHAT_STR("</s>"),
            .tools_json = CHAT_STR("[{\"function\": {\"name\": \"f\", \"parameters\": {}}}]"),
            .now_unix = 1754000000,
            .has_token = no_token};
    struct buf out = {0};
    struct err err = ERR_INIT;
    render_small((const char *)bytes, n);
    /* With the real limits only what is short, or a run takes seconds. */
    if (n < 400) {
        int rc = chat_render((const char *)bytes, n, messages, sizeof messages / sizeof *messages,
                &options, &out, &err);
        if (rc < 0 && (out.n_bytes || err.code != rc)) abort();
    }
    /* And the bytes as JSON of a request. */
    struct chat_options request = options;
    request.tools_json = (struct chat_str){(const char *)bytes, n};
    err_reset(&err);
    (void)chat_render("{{ tools|tojson }}", 18, messages, 2, &request, &out, &err);
    buf_fini(&out);
    return 0;
}
