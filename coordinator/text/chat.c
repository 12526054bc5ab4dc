/* chat.c - a conversation through the model's template, or through a known family.
 * Owns: nothing between calls. Does not: know template syntax or forms. Runs on: any thread. */
#include "coordinator/text/chat.h"

#include "coordinator/text/chat_family.h"
#include "coordinator/text/jinja_internal.h"
#include "proto/base/checked.h"
#include "proto/base/log.h"

#include <string.h>
#include <time.h>

/* How one attempt presents the messages. */
struct attempt {
    bool system_in_user; /* the template takes no system message */
    bool text_arguments; /* ... no objects as the arguments of tool calls */
    bool unset_tools;    /* ... no "none" for no tools */
};

struct request {
    const char *source;
    size_t n_source;
    const struct chat_message *messages;
    size_t n;
    const struct chat_options *options;
    enum chat_family family;
};

static bool mentions(const struct request *rq, const char *word) {
    return rq->source && memmem(rq->source, rq->n_source, word, strlen(word)) != NULL;
}

static bool is_role(const struct chat_message *message, const char *role) {
    size_t n = strlen(role);
    return message->role.n == n && memcmp(message->role.bytes, role, n) == 0;
}

static bool is_system(const struct chat_message *message) {
    return is_role(message, "system") || is_role(message, "developer");
}

static struct jinja_value *text_value(struct jinja *j, struct chat_str text) {
    return jinja_string(j, text.n ? text.bytes : "", text.n);
}

/* ---- messages as template values ---- */

/* [{function: {arguments: JSON text}}]: the texts become what they say. */
static void parse_arguments(struct jinja *j, struct jinja_value *calls) {
    for (size_t i = 0; jinja_is_sequence(calls) && i < calls->list.n; i++) {
        struct jinja_value *function = calls->list.items[i];
        if (function->type == JINJA_DICT)
            function = jinja_get(j, function, (struct jinja_str){"function", 8});
        if (!function || function->type != JINJA_DICT) continue;
        struct jinja_value *arguments = jinja_get(j, function, (struct jinja_str){"arguments", 9});
        if (!arguments || arguments->type != JINJA_STRING) continue;
        struct jinja_value *value;
        if (jinja_from_json(j, arguments->str.bytes, arguments->str.n, &value, NULL) == 0)
            jinja_put(j, function, "arguments", value);
    }
}

/* Arguments of tool calls come as JSON texts, most templates want objects. */
static int put_tool_calls(struct jinja *j, struct jinja_value *dict, struct chat_str json,
        const struct attempt *attempt, struct err *err) {
    struct jinja_value *calls;
    int rc = jinja_from_json(j, json.bytes, json.n, &calls, err);
    if (rc < 0) return err_note(err, "the tool calls of a message");
    if (!attempt->text_arguments) parse_arguments(j, calls);
    jinja_put(j, dict, "tool_calls", calls);
    return 0;
}

static struct jinja_value *role_value(
        struct jinja *j, const struct request *rq, const struct chat_message *message) {
    bool unknown = is_role(message, "developer") && !mentions(rq, "developer");
    return text_value(j, unknown ? CHAT_STR("system") : message->role);
}

/* prefix: a text to put in front of the content, with an empty line between. */
static struct jinja_value *content_value(
        struct jinja *j, struct chat_str content, struct chat_str prefix, struct err *err) {
    if (!prefix.n) return text_value(j, content);
    struct buf joined = {0};
    struct jinja_value *value = NULL;
    int rc = buf_append(&joined, prefix.bytes, prefix.n, err);
    if (rc == 0) rc = buf_append_str(&joined, "\n\n", err);
    if (rc == 0 && content.n) rc = buf_append(&joined, content.bytes, content.n, err);
    if (rc == 0) value = jinja_string(j, joined.bytes, joined.n_bytes);
    buf_fini(&joined);
    return value;
}

static int push_message(struct jinja *j, const struct request *rq, const struct attempt *attempt,
        const struct chat_message *message, struct chat_str prefix, struct jinja_value *list,
        struct err *err) {
    struct jinja_value *dict = jinja_dict(j);
    jinja_put(j, dict, "role", role_value(j, rq, message));
    jinja_put(j, dict, "content", content_value(j, message->content, prefix, err));
    if (message->reasoning.n) {
        bool harmony = rq->family == CHAT_FAMILY_HARMONY;
        jinja_put(j, dict, harmony ? "thinking" : "reasoning_content",
                text_value(j, message->reasoning));
    }
    if (message->tool_call_id.n)
        jinja_put(j, dict, "tool_call_id", text_value(j, message->tool_call_id));
    if (message->name.n) jinja_put(j, dict, "name", text_value(j, message->name));
    if (message->tool_calls_json.n) {
        int rc = put_tool_calls(j, dict, message->tool_calls_json, attempt, err);
        if (rc < 0) return rc;
    }
    jinja_push(j, list, dict);
    return 0;
}

static int set_messages(
        struct jinja *j, const struct request *rq, const struct attempt *attempt, struct err *err) {
    struct jinja_value *list = jinja_list(j);
    struct chat_str prefix = {NULL, 0};
    for (size_t i = 0; i < rq->n; i++) {
        const struct chat_message *message = &rq->messages[i];
        if (attempt->system_in_user && i == 0 && is_system(message)) {
            prefix = message->content;
            continue;
        }
        bool user = is_role(message, "user");
        struct chat_str none = {NULL, 0};
        int rc = push_message(j, rq, attempt, message, user ? prefix : none, list, err);
        if (rc < 0) return rc;
        if (user) prefix = none;
    }
    jinja_set(j, "messages", list);
    return 0;
}

/* ---- the other variables ---- */

static void set_time(struct jinja *j, const char *name, const char *format, int64_t now_unix) {
    time_t now = (time_t)now_unix;
    struct tm tm;
    char text[64];
    if (!localtime_r(&now, &tm)) return;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the two callers are below */
    size_t n = strftime(text, sizeof text, format, &tm);
#pragma GCC diagnostic pop
    jinja_set(j, name, jinja_string(j, text, n));
}

static int set_json(struct jinja *j, const char *name, struct chat_str json, struct err *err) {
    struct jinja_value *value = jinja_none(j);
    int rc = json.n ? jinja_from_json(j, json.bytes, json.n, &value, err) : 0;
    if (rc < 0) return err_note(err, "%s", name);
    jinja_set(j, name, value);
    return 0;
}

/* Templates are made for a library that always gives tools and documents, none for "no"; some
 * were only tried where these are unset. */
static int set_variables(struct jinja *j, const struct chat_options *options,
        const struct attempt *attempt, struct err *err) {
    jinja_set(j, "bos_token", text_value(j, options->bos));
    jinja_set(j, "eos_token", text_value(j, options->eos));
    if (!attempt->unset_tools) jinja_set(j, "documents", jinja_none(j));
    jinja_set(j, "add_generation_prompt", jinja_bool(j, options->add_generation_prompt));
    if (options->enable_thinking != CHAT_UNSET)
        jinja_set(j, "enable_thinking", jinja_bool(j, options->enable_thinking == CHAT_ON));
    set_time(j, "date_string", "%d %b %Y", options->now_unix);
    set_time(j, "datetime", "%b %d %Y", options->now_unix);
    int rc = attempt->unset_tools ? 0 : set_json(j, "tools", options->tools_json, err);
    if (rc < 0 || !options->more_json.n) return rc;
    struct jinja_value *more = NULL;
    rc = jinja_from_json(j, options->more_json.bytes, options->more_json.n, &more, err);
    if (rc == 0) rc = jinja_set_all(j, more, err);
    return rc < 0 ? err_note(err, "variables of the chat template") : 0;
}

/* ---- attempts ---- */

static int try_template(const struct request *rq, const struct attempt *attempt, struct buf *out,
        bool *out_raised, struct err *err) {
    struct jinja *j;
    *out_raised = false;
    int rc = jinja_new(NULL, rq->options->now_unix, &j, err);
    if (rc < 0) return rc;
    rc = set_variables(j, rq->options, attempt, err);
    if (rc == 0) rc = set_messages(j, rq, attempt, err);
    if (rc == 0) rc = jinja_render(j, rq->source, rq->n_source, out, err);
    *out_raised = jinja_raised(j);
    jinja_free(j);
    return rc;
}

static bool has_tool_calls(const struct request *rq) {
    for (size_t i = 0; i < rq->n; i++)
        if (rq->messages[i].tool_calls_json.n) return true;
    return false;
}

/* As the messages are; if the template does not like that, in the other ways that templates want
 * them. The first error is the one to tell. */
static int render_template(const struct request *rq, struct buf *out, struct err *err) {
    bool raised, raised_again;
    struct attempt attempt = {0};
    int rc = try_template(rq, &attempt, out, &raised, err);
    if (rc != ERR_BAD_INPUT) return rc;
    if (raised)
        attempt.system_in_user = rq->n > 1 && is_system(&rq->messages[0]);
    else if (has_tool_calls(rq))
        attempt.text_arguments = true;
    else
        attempt.unset_tools = rq->options->tools_json.n == 0;
    bool other = attempt.system_in_user || attempt.text_arguments || attempt.unset_tools;
    if (other && try_template(rq, &attempt, out, &raised_again, NULL) == 0) return 0;
    return rc;
}

static bool can_think(const struct request *rq) {
    if (rq->source) return mentions(rq, "enable_thinking") || mentions(rq, "<think>");
    return rq->options->has_token && rq->options->has_token(rq->options->opaque, "<think>");
}

/* reason: why the template could not be used; its error stays when no family fits. */
static int render_family(
        const struct request *rq, const struct err *reason, struct buf *out, struct err *err) {
    if (rq->family == CHAT_FAMILY_NONE) {
        if (reason)
            err_set_at(err, reason->code, reason->file, reason->line, "%s", reason->what);
        else
            err_set(err, ERR_UNSUPPORTED,
                    "the model file has no chat template, and its special "
                    "tokens belong to no family of models that is known here");
        err_hint(err, "use the prompt as it is (--raw), in the form that the model expects");
        return ERR_UNSUPPORTED;
    }
    if (!rq->options->quiet)
        LOG_WARN("chat.fallback", "form=%s reason=\"%s\"", chat_family_name(rq->family),
                reason ? reason->what : "the model file has no chat template");
    int rc = chat_family_render(
            rq->family, can_think(rq), rq->messages, rq->n, rq->options, out, err);
    if (rc < 0 && reason) err_note(err, "%s", reason->what);
    return rc;
}

static int render(const struct request *rq, struct buf *out, struct err *err) {
    if (!rq->source) return render_family(rq, NULL, out, err);
    struct err reason = ERR_INIT;
    int rc = render_template(rq, out, &reason);
    if (rc == ERR_UNSUPPORTED) return render_family(rq, &reason, out, err);
    if (rc < 0) {
        err_set_at(err, rc, reason.file, reason.line, "%s", reason.what);
        if (reason.where[0]) err_note(err, "%s", reason.where);
    }
    return rc;
}

/* What the tokenizer will add by itself must not be there twice. */
static struct chat_str without_ends(const struct buf *text, const struct chat_options *options) {
    struct chat_str rest = {text->bytes, text->n_bytes};
    struct chat_str bos = options->bos, eos = options->eos;
    bool doubled = options->adds_bos && bos.n && rest.n >= bos.n;
    if (doubled && memcmp(rest.bytes, bos.bytes, bos.n) == 0) {
        rest.bytes += bos.n;
        rest.n -= bos.n;
    }
    if (options->adds_eos && eos.n && rest.n >= eos.n &&
            memcmp(rest.bytes + rest.n - eos.n, eos.bytes, eos.n) == 0)
        rest.n -= eos.n;
    return rest;
}

int chat_render(const char *source, size_t n_source, const struct chat_message *messages, size_t n,
        const struct chat_options *options, struct buf *out, struct err *err) {
    struct chat_options filled = *options;
    if (!filled.now_unix) filled.now_unix = (int64_t)time(NULL);
    struct request rq = {n_source ? source : NULL, n_source, messages, n, &filled,
            chat_family_detect(source, n_source, filled.has_token, filled.opaque)};
    struct buf text = {0};
    int rc = render(&rq, &text, err);
    if (rc == 0) {
        struct chat_str rest = without_ends(&text, options);
        rc = buf_append(out, rest.n ? rest.bytes : "", rest.n, err);
    }
    buf_fini(&text);
    return rc;
}

bool chat_opens_reasoning(const char *prompt, size_t n) {
    static const char *const tags[] = {"<think>", "[THINK]", "<|channel>thought"};
    while (n && (prompt[n - 1] == '\n' || prompt[n - 1] == ' '))
        n--;
    for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
        size_t n_tag = strlen(tags[i]);
        if (n >= n_tag && memcmp(prompt + n - n_tag, tags[i], n_tag) == 0) return true;
    }
    return false;
}
