/* chat_family.c - the table of prompt forms, and how a family is recognised.
 * Owns: nothing. Does not: tools, default system prompts. Runs on: any thread. */
#include "coordinator/text/chat_family.h"

#include "proto/base/checked.h"

#include <string.h>
#include <time.h>

enum form_flag {
    FORM_BOS = 1,            /* starts with the BOS token */
    FORM_TRIM = 2,           /* white space around contents goes */
    FORM_SYSTEM_FIRST = 4,   /* the system text stands in the first user message */
    FORM_SYSTEM_LAST = 8,    /* ... in the last user message */
    FORM_DROP_THINKING = 16, /* answers given before lose what they start with up to </think> */
    FORM_NOTHINK_TEXT = 32,  /* thinking off: "/nothink" behind every user message */
};

/* What stands before and behind a text. */
struct form_turn {
    const char *open, *close;
};

struct form {
    const char *name;
    unsigned flags;
    const char *start;
    struct form_turn system, user, assistant;
    const char *answer;          /* the beginning of an answer */
    const char *answer_thinking; /* the same with thinking on; NULL: no difference */
    const char *answer_direct;   /* ... off; NULL: no difference */
};

#define DS_END                                                                                     \
    "<\xef\xbd\x9c"                                                                                \
    "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"
#define DS_USER "<\xef\xbd\x9cUser\xef\xbd\x9c>"
#define DS_ASSISTANT                                                                               \
    "<\xef\xbd\x9c"                                                                                \
    "Assistant\xef\xbd\x9c>"
#define HEADER(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
#define ROLE(role) "<|start_of_role|>" role "<|end_of_role|>"

static const struct form forms[CHAT_FAMILY_COUNT] = {
        [CHAT_FAMILY_NONE] = {.name = "none"},
        [CHAT_FAMILY_CHATML] = {.name = "chatml",
                .system = {"<|im_start|>system\n", "<|im_end|>\n"},
                .user = {"<|im_start|>user\n", "<|im_end|>\n"},
                .assistant = {"<|im_start|>assistant\n", "<|im_end|>\n"},
                .answer = "<|im_start|>assistant\n",
                .answer_direct = "<|im_start|>assistant\n<think>\n\n</think>\n\n"},
        [CHAT_FAMILY_LLAMA3] = {.name = "llama3",
                .flags = FORM_BOS | FORM_TRIM,
                .system = {HEADER("system"), "<|eot_id|>"},
                .user = {HEADER("user"), "<|eot_id|>"},
                .assistant = {HEADER("assistant"), "<|eot_id|>"},
                .answer = HEADER("assistant")},
        [CHAT_FAMILY_GLM4] = {.name = "glm4",
                .start = "[gMASK]<sop>",
                .system = {"<|system|>\n", ""},
                .user = {"<|user|>\n", ""},
                .assistant = {"<|assistant|>\n", ""},
                .answer = "<|assistant|>"},
        [CHAT_FAMILY_GLM45] = {.name = "glm4.5",
                .flags = FORM_DROP_THINKING | FORM_NOTHINK_TEXT,
                .start = "[gMASK]<sop>",
                .system = {"<|system|>\n", ""},
                .user = {"<|user|>\n", ""},
                .assistant = {"<|assistant|>\n<think></think>\n", ""},
                .answer = "<|assistant|>",
                .answer_direct = "<|assistant|>\n<think></think>"},
        [CHAT_FAMILY_GLM47] = {.name = "glm4.7",
                .flags = FORM_DROP_THINKING,
                .start = "[gMASK]<sop>",
                .system = {"<|system|>", ""},
                .user = {"<|user|>", ""},
                .assistant = {"<|assistant|></think>", ""},
                .answer = "<|assistant|><think>",
                .answer_direct = "<|assistant|></think>"},
        [CHAT_FAMILY_DEEPSEEK_V3] = {.name = "deepseek-v3",
                .flags = FORM_BOS,
                .system = {"", ""},
                .user = {DS_USER, ""},
                .assistant = {DS_ASSISTANT, DS_END},
                .answer = DS_ASSISTANT},
        [CHAT_FAMILY_DEEPSEEK_R1] = {.name = "deepseek-r1",
                .flags = FORM_BOS | FORM_DROP_THINKING,
                .system = {"", ""},
                .user = {DS_USER, ""},
                .assistant = {DS_ASSISTANT, DS_END},
                .answer = DS_ASSISTANT "<think>\n"},
        [CHAT_FAMILY_DEEPSEEK_V31] = {.name = "deepseek-v3.1",
                .flags = FORM_BOS | FORM_DROP_THINKING,
                .system = {"", ""},
                .user = {DS_USER, ""},
                .assistant = {DS_ASSISTANT "</think>", DS_END},
                .answer = DS_ASSISTANT "</think>",
                .answer_thinking = DS_ASSISTANT "<think>"},
        [CHAT_FAMILY_GEMMA] = {.name = "gemma",
                .flags = FORM_BOS | FORM_TRIM | FORM_SYSTEM_FIRST,
                .user = {"<start_of_turn>user\n", "<end_of_turn>\n"},
                .assistant = {"<start_of_turn>model\n", "<end_of_turn>\n"},
                .answer = "<start_of_turn>model\n"},
        [CHAT_FAMILY_HARMONY] = {.name = "harmony",
                .system = {"<|start|>developer<|message|># Instructions\n\n", "\n\n<|end|>"},
                .user = {"<|start|>user<|message|>", "<|end|>"},
                .assistant = {"<|start|>assistant<|channel|>final<|message|>", "<|end|>"},
                .answer = "<|start|>assistant"},
        [CHAT_FAMILY_MISTRAL_V1] = {.name = "mistral-v1",
                .flags = FORM_BOS | FORM_SYSTEM_LAST,
                .user = {" [INST] ", " [/INST]"},
                .assistant = {" ", "</s>"},
                .answer = ""},
        [CHAT_FAMILY_MISTRAL_V3] = {.name = "mistral-v3",
                .flags = FORM_BOS | FORM_SYSTEM_LAST,
                .user = {"[INST] ", "[/INST]"},
                .assistant = {" ", "</s>"},
                .answer = ""},
        [CHAT_FAMILY_MISTRAL_V3_TEKKEN] = {.name = "mistral-v3-tekken",
                .flags = FORM_BOS | FORM_SYSTEM_LAST,
                .user = {"[INST]", "[/INST]"},
                .assistant = {"", "</s>"},
                .answer = ""},
        [CHAT_FAMILY_MISTRAL_V7] = {.name = "mistral-v7",
                .flags = FORM_BOS,
                .system = {"[SYSTEM_PROMPT] ", "[/SYSTEM_PROMPT]"},
                .user = {"[INST] ", "[/INST]"},
                .assistant = {" ", "</s>"},
                .answer = ""},
        [CHAT_FAMILY_MISTRAL_V7_TEKKEN] = {.name = "mistral-v7-tekken",
                .flags = FORM_BOS,
                .system = {"[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"},
                .user = {"[INST]", "[/INST]"},
                .assistant = {"", "</s>"},
                .answer = ""},
        [CHAT_FAMILY_KIMI_K2] = {.name = "kimi-k2",
                .system = {"<|im_system|>system<|im_middle|>", "<|im_end|>"},
                .user = {"<|im_user|>user<|im_middle|>", "<|im_end|>"},
                .assistant = {"<|im_assistant|>assistant<|im_middle|>", "<|im_end|>"},
                .answer = "<|im_assistant|>assistant<|im_middle|>"},
        [CHAT_FAMILY_GRANITE] = {.name = "granite",
                .system = {ROLE("system"), "<|end_of_text|>\n"},
                .user = {ROLE("user"), "<|end_of_text|>\n"},
                .assistant = {ROLE("assistant"), "<|end_of_text|>\n"},
                .answer = ROLE("assistant")},
        [CHAT_FAMILY_MINIMAX_M2] = {.name = "minimax-m2",
                .flags = FORM_DROP_THINKING,
                .start = "]~!b[",
                .system = {"]~b]system\n", "[e~[\n"},
                .user = {"]~b]user\n", "[e~[\n"},
                .assistant = {"]~b]ai\n", "[e~[\n"},
                .answer = "]~b]ai\n<think>\n"},
        [CHAT_FAMILY_PHI3] = {.name = "phi3",
                .system = {"<|system|>\n", "<|end|>\n"},
                .user = {"<|user|>\n", "<|end|>\n"},
                .assistant = {"<|assistant|>\n", "<|end|>\n"},
                .answer = "<|assistant|>\n"},
};

const char *chat_family_name(enum chat_family family) {
    return forms[family].name;
}

/* ---- which family ---- */

/* The first row whose marks are all there wins. */
struct mark_row {
    enum chat_family family;
    const char *marks[3]; /* in the template's text, or tokens of the vocabulary */
    const char *without;  /* and this one is not */
};

static const struct mark_row template_marks[] = {
        {CHAT_FAMILY_HARMONY, {"<|channel|>", "<|start|>"}, NULL},
        {CHAT_FAMILY_NONE, {"<|turn>"}, NULL}, /* Gemma 4 */
        {CHAT_FAMILY_MINIMAX_M2, {"]~b]"}, NULL},
        {CHAT_FAMILY_KIMI_K2, {"<|im_middle|>", "<|im_assistant|>"}, NULL},
        {CHAT_FAMILY_NONE, {"<|im_start|>", "<|im_sep|>"}, NULL},         /* Phi-4 */
        {CHAT_FAMILY_NONE, {"<|im_start|>", "<end_of_utterance>"}, NULL}, /* SmolVLM */
        {CHAT_FAMILY_CHATML, {"<|im_start|>"}, NULL},
        {CHAT_FAMILY_MISTRAL_V7, {"[SYSTEM_PROMPT]", "[INST] "}, NULL},
        {CHAT_FAMILY_MISTRAL_V7_TEKKEN, {"[SYSTEM_PROMPT]"}, NULL},
        {CHAT_FAMILY_NONE, {"[INST]", "<<SYS>>"}, NULL}, /* Llama 2 */
        {CHAT_FAMILY_MISTRAL_V1, {" [INST]"}, NULL},
        {CHAT_FAMILY_MISTRAL_V1, {"[INST]", " [/INST]"}, NULL},
        {CHAT_FAMILY_MISTRAL_V3_TEKKEN, {"\"[INST]\""}, NULL},
        {CHAT_FAMILY_MISTRAL_V3, {"[INST] "}, NULL},
        {CHAT_FAMILY_MISTRAL_V3_TEKKEN, {"[INST]"}, NULL},
        {CHAT_FAMILY_GLM45, {"[gMASK]<sop>", "/nothink"}, NULL},
        {CHAT_FAMILY_GLM47, {"[gMASK]<sop>", "<arg_key>"}, NULL},
        {CHAT_FAMILY_GLM4, {"[gMASK]<sop>"}, NULL},
        {CHAT_FAMILY_NONE, {"dsml_token"}, NULL}, /* DeepSeek V3.2 */
        {CHAT_FAMILY_DEEPSEEK_R1, {DS_USER, DS_ASSISTANT "<think>\\n"}, NULL},
        {CHAT_FAMILY_DEEPSEEK_V31, {DS_USER, DS_ASSISTANT, "thinking"}, NULL},
        {CHAT_FAMILY_DEEPSEEK_V3, {DS_USER, DS_ASSISTANT}, NULL},
        {CHAT_FAMILY_GEMMA, {"<start_of_turn>"}, NULL},
        {CHAT_FAMILY_LLAMA3, {"<|start_header_id|>", "<|end_header_id|>"}, NULL},
        {CHAT_FAMILY_GRANITE, {"<|start_of_role|>"}, NULL},
        {CHAT_FAMILY_PHI3, {"<|assistant|>", "<|end|>"}, NULL},
};

static const struct mark_row token_marks[] = {
        {CHAT_FAMILY_HARMONY, {"<|start|>", "<|channel|>", "<|message|>"}, NULL},
        {CHAT_FAMILY_MINIMAX_M2, {"]~b]", "[e~["}, NULL},
        {CHAT_FAMILY_KIMI_K2, {"<|im_middle|>", "<|im_assistant|>"}, NULL},
        {CHAT_FAMILY_CHATML, {"<|im_start|>", "<|im_end|>"}, "<|im_sep|>"},
        {CHAT_FAMILY_LLAMA3, {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}, NULL},
        {CHAT_FAMILY_GLM45, {"[gMASK]", "<sop>", "<arg_key>"}, NULL},
        {CHAT_FAMILY_GLM4, {"[gMASK]", "<sop>", "<|assistant|>"}, NULL},
        {CHAT_FAMILY_DEEPSEEK_V3, {DS_USER, DS_ASSISTANT}, NULL},
        {CHAT_FAMILY_GEMMA, {"<start_of_turn>", "<end_of_turn>"}, NULL},
        {CHAT_FAMILY_MISTRAL_V7_TEKKEN, {"[SYSTEM_PROMPT]", "[INST]"}, NULL},
        {CHAT_FAMILY_MISTRAL_V3, {"[INST]", "[/INST]", "<0x0A>"}, NULL}, /* SentencePiece */
        {CHAT_FAMILY_MISTRAL_V3_TEKKEN, {"[INST]", "[/INST]"}, NULL},
        {CHAT_FAMILY_GRANITE, {"<|start_of_role|>", "<|end_of_role|>"}, NULL},
        {CHAT_FAMILY_PHI3, {"<|assistant|>", "<|user|>", "<|end|>"}, NULL},
};

struct marked {
    const char *source; /* NULL: ask has_token */
    size_t n_source;
    bool (*has_token)(void *opaque, const char *text);
    void *opaque;
};

static bool has_mark(const struct marked *in, const char *mark) {
    if (in->source) return memmem(in->source, in->n_source, mark, strlen(mark)) != NULL;
    return in->has_token(in->opaque, mark);
}

static enum chat_family match(const struct marked *in, const struct mark_row *rows, size_t n_rows) {
    for (size_t i = 0; i < n_rows; i++) {
        bool all = !rows[i].without || !has_mark(in, rows[i].without);
        for (size_t k = 0; all && k < ARRAY_LEN(rows[i].marks) && rows[i].marks[k]; k++)
            all = has_mark(in, rows[i].marks[k]);
        if (all) return rows[i].family;
    }
    return CHAT_FAMILY_NONE;
}

enum chat_family chat_family_detect(const char *source, size_t n_source,
        bool (*has_token)(void *opaque, const char *text), void *opaque) {
    if (source && n_source) {
        struct marked in = {.source = source, .n_source = n_source};
        return match(&in, template_marks, ARRAY_LEN(template_marks));
    }
    if (!has_token) return CHAT_FAMILY_NONE;
    struct marked in = {.has_token = has_token, .opaque = opaque};
    return match(&in, token_marks, ARRAY_LEN(token_marks));
}

/* ---- writing it ---- */

struct writer {
    const struct form *form;
    const struct chat_options *options;
    struct chat_str system; /* still to be put into a user message */
    size_t system_at;       /* number of that message */
    struct buf *out;
    struct err *err;
};

static bool role_is(const struct chat_message *message, const char *role) {
    size_t n = strlen(role);
    return message->role.n == n && memcmp(message->role.bytes, role, n) == 0;
}

static bool is_system(const struct chat_message *message) {
    return role_is(message, "system") || role_is(message, "developer");
}

static bool is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct chat_str trimmed(struct chat_str text) {
    while (text.n && is_blank(text.bytes[0])) {
        text.bytes++;
        text.n--;
    }
    while (text.n && is_blank(text.bytes[text.n - 1]))
        text.n--;
    return text;
}

static struct chat_str without_thinking(struct chat_str text) {
    static const char end[] = "</think>";
    size_t n = sizeof end - 1;
    for (size_t at = text.n; at >= n; at--) {
        if (memcmp(text.bytes + at - n, end, n) != 0) continue;
        return trimmed((struct chat_str){text.bytes + at, text.n - at});
    }
    return text;
}

static int put(struct writer *w, struct chat_str text) {
    return text.n ? buf_append(w->out, text.bytes, text.n, w->err) : 0;
}

static int put_str(struct writer *w, const char *text) {
    return text ? buf_append_str(w->out, text, w->err) : 0;
}

static int put_turn(
        struct writer *w, struct form_turn turn, struct chat_str text, const char *suffix) {
    int rc = put_str(w, turn.open);
    if (rc == 0) rc = put(w, text);
    if (rc == 0) rc = put_str(w, suffix);
    return rc == 0 ? put_str(w, turn.close) : rc;
}

static int put_user(struct writer *w, struct chat_str text, bool with_system) {
    bool nothink = w->form->flags & FORM_NOTHINK_TEXT && w->options->enable_thinking == CHAT_OFF;
    const char *suffix = nothink ? "/nothink" : NULL;
    if (!with_system || !w->system.n) return put_turn(w, w->form->user, text, suffix);
    int rc = put_turn(w, (struct form_turn){w->form->user.open, "\n\n"}, w->system, NULL);
    return rc == 0 ? put_turn(w, (struct form_turn){"", w->form->user.close}, text, suffix) : rc;
}

static int put_message(struct writer *w, const struct chat_message *message, size_t at) {
    unsigned flags = w->form->flags;
    struct chat_str text = message->content;
    if (is_system(message) && flags & (FORM_SYSTEM_FIRST | FORM_SYSTEM_LAST)) return 0;
    bool assistant = role_is(message, "assistant");
    if (assistant && flags & FORM_DROP_THINKING) text = without_thinking(text);
    if (flags & FORM_TRIM) text = trimmed(text);
    if (is_system(message)) return put_turn(w, w->form->system, text, NULL);
    if (role_is(message, "user")) return put_user(w, text, at == w->system_at);
    if (assistant && !message->tool_calls_json.n)
        return put_turn(w, w->form->assistant, text, NULL);
    if (assistant || role_is(message, "tool"))
        return err_set(w->err, ERR_UNSUPPORTED, "a message with tools, in the built-in form '%s'",
                w->form->name);
    return err_set(w->err, ERR_UNSUPPORTED, "the role '%.*s' of message %zu",
            (int)min_u64(message->role.n, 100), message->role.bytes, at + 1);
}

/* The system message that gpt-oss always has; the user's own one is the developer's. */
static int put_harmony_start(struct writer *w) {
    time_t now = (time_t)w->options->now_unix;
    struct tm tm;
    char date[32];
    if (!localtime_r(&now, &tm) || strftime(date, sizeof date, "%Y-%m-%d", &tm) == 0)
        return err_set(w->err, ERR_BAD_INPUT, "the time of day is out of range");
    const char *effort = w->options->enable_thinking == CHAT_OFF ? "low" : "medium";
    return buf_printf(w->out, w->err,
            "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
            "Knowledge cutoff: 2024-06\nCurrent date: %s\n\nReasoning: %s\n\n"
            "# Valid channels: analysis, commentary, final. "
            "Channel must be included for every message.<|end|>",
            date, effort);
}

static int put_start(struct writer *w) {
    int rc = w->form->flags & FORM_BOS ? put(w, w->options->bos) : 0;
    if (rc == 0) rc = put_str(w, w->form->start);
    if (rc == 0 && w->form == &forms[CHAT_FAMILY_HARMONY]) rc = put_harmony_start(w);
    return rc;
}

static int put_answer(struct writer *w, bool can_think) {
    const char *answer = w->form->answer;
    bool off = w->options->enable_thinking == CHAT_OFF && can_think;
    bool on = w->options->enable_thinking == CHAT_ON;
    if (off && w->form->answer_direct) answer = w->form->answer_direct;
    if (on && w->form->answer_thinking) answer = w->form->answer_thinking;
    return put_str(w, answer);
}

/* Which user message gets the system text, where the form has no system turn. */
static void place_system(struct writer *w, const struct chat_message *messages, size_t n) {
    bool found = false;
    for (size_t i = 0; i < n; i++) {
        if (is_system(&messages[i]) && !w->system.n) w->system = messages[i].content;
        if (!role_is(&messages[i], "user")) continue;
        if (!found || w->form->flags & FORM_SYSTEM_LAST) w->system_at = i;
        found = true;
    }
    if (w->form->flags & FORM_TRIM) w->system = trimmed(w->system);
    if (!(w->form->flags & (FORM_SYSTEM_FIRST | FORM_SYSTEM_LAST)))
        w->system = (struct chat_str){NULL, 0};
}

int chat_family_render(enum chat_family family, bool can_think, const struct chat_message *messages,
        size_t n, const struct chat_options *options, struct buf *out, struct err *err) {
    ASSERT(family > CHAT_FAMILY_NONE);
    ASSERT(family < CHAT_FAMILY_COUNT);
    struct writer w = {
            .form = &forms[family], .options = options, .out = out, .err = err, .system_at = n};
    if (options->tools_json.n)
        return err_set(err, ERR_UNSUPPORTED, "tools, in the built-in form '%s'", w.form->name);
    place_system(&w, messages, n);
    int rc = put_start(&w);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = put_message(&w, &messages[i], i);
    if (rc == 0 && options->add_generation_prompt) rc = put_answer(&w, can_think);
    return rc;
}
