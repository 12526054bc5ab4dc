/* jinja_call.c - calls: arguments, and finding the function, method, filter or test by its name.
 * Owns: nothing. Does not: macros (jinja_exec.c). Runs on: the owner thread. */
#include "coordinator/text/jinja_internal.h"

#include "proto/base/checked.h"

#include <string.h>
#include <time.h>

/* ---- arguments ---- */

static bool eval_args(struct jinja *j, const struct jinja_node *node, struct jinja_args *args) {
    *args = (struct jinja_args){0};
    if (node->n_list == 0) return true;
    args->pos = jinja_alloc(j, node->n_list * sizeof *args->pos);
    args->keywords = jinja_alloc(j, node->n_list * sizeof *args->keywords);
    if (!args->pos || !args->keywords) return false;
    for (size_t i = 0; i < node->n_list; i++) {
        const struct jinja_node *item = node->list[i];
        bool named = item->kind == JINJA_N_KEYWORD;
        struct jinja_value *value = jinja_eval(j, named ? item->a : item);
        if (!value) return false;
        if (named)
            args->keywords[args->n_keywords++] = (struct jinja_keyword){item->name, value};
        else
            args->pos[args->n_pos++] = value;
    }
    j->line = node->line;
    return true;
}

/* The number of the parameter with this name, -1 for none; *out_n is how many there are. */
static int find_param(const char *params, struct jinja_str name, size_t *out_n) {
    int found = -1;
    *out_n = 0;
    while (*params) {
        size_t n = strcspn(params, " ");
        if (jinja_str_equal(name, (struct jinja_str){params, n})) found = (int)*out_n;
        ++*out_n;
        params += n + (params[n] == ' ');
    }
    return found;
}

/* Sorts the arguments into args->arg by the builtin's parameter names. */
static bool bind_args(
        struct jinja *j, const struct jinja_builtin *builtin, struct jinja_args *args) {
    if (jinja_str_is((struct jinja_str){builtin->params, strlen(builtin->params)}, "*"))
        return true;
    size_t n_params;
    (void)find_param(builtin->params, (struct jinja_str){"", 0}, &n_params);
    ASSERT(n_params <= JINJA_ARGS_MAX);
    if (args->n_pos > n_params) {
        char form[48];
        snprintf(form, sizeof form, "more than %zu arguments in", n_params);
        jinja_lacks(j, form, builtin->name, strlen(builtin->name));
        return false;
    }
    if (args->n_pos) memcpy(args->arg, args->pos, args->n_pos * sizeof *args->pos);
    for (size_t i = 0; i < args->n_keywords; i++) {
        struct jinja_str name = args->keywords[i].name;
        int at = find_param(builtin->params, name, &n_params);
        if (at < 0) {
            char form[48];
            snprintf(form, sizeof form, "in '%s' the argument", builtin->name);
            jinja_lacks(j, form, name.bytes, name.n);
            return false;
        }
        args->arg[at] = args->keywords[i].value;
    }
    return true;
}

bool jinja_arg_int(struct jinja *j, const struct jinja_value *arg, int64_t *io_value) {
    if (!arg || jinja_is_integer(arg, io_value)) return true;
    jinja_fail(j, ERR_BAD_INPUT, "the chat template gives a %s where a number belongs",
            jinja_type_name(arg));
    return false;
}

bool jinja_arg_str(struct jinja *j, const struct jinja_value *arg, struct jinja_str *io_value) {
    if (!arg) return true;
    if (arg->type == JINJA_STRING) {
        *io_value = arg->str;
        return true;
    }
    if (arg->type == JINJA_UNDEFINED)
        jinja_fail_undefined(j, arg);
    else
        jinja_fail(j, ERR_BAD_INPUT, "the chat template gives a %s where a text belongs",
                jinja_type_name(arg));
    return false;
}

/* ---- our functions ---- */

static struct jinja_value *function_raise(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)self;
    struct jinja_value *text = args->arg[0] ? jinja_to_string(j, args->arg[0]) : jinja_cstr(j, "");
    if (!text) return NULL;
    j->raised = !j->failed;
    return jinja_fail(j, ERR_BAD_INPUT, "the chat template refuses these messages: %.*s",
            (int)min_u64(text->str.n, 250), text->str.bytes);
}

/* Only directives whose output is short and does not depend on the platform. */
static bool time_format_fits(struct jinja_str format) {
    if (format.n > 100 || memchr(format.bytes, 0, format.n)) return false;
    for (size_t i = 0; i < format.n; i++) {
        if (format.bytes[i] != '%') continue;
        i++;
        if (i < format.n && format.bytes[i] == '-') i++;
        if (i == format.n || !strchr("aAbBdHIjmMpSUwWyYcxXzZFTeD%", format.bytes[i])) return false;
    }
    return true;
}

static struct jinja_value *function_strftime_now(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)self;
    struct jinja_str str = {"", 0};
    if (!jinja_arg_str(j, args->arg[0], &str)) return NULL;
    if (!time_format_fits(str)) return jinja_lacks(j, "the time format", str.bytes, str.n);
    char format[128], text[4096];
    snprintf(format, sizeof format, "%.*s", (int)str.n, str.bytes);
    time_t now = (time_t)j->now_unix;
    struct tm tm;
    if (!localtime_r(&now, &tm))
        return jinja_fail(j, ERR_BAD_INPUT, "the time of day is out of range");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* time_format_fits() checked it */
    size_t n = strftime(text, sizeof text, format, &tm);
#pragma GCC diagnostic pop
    return jinja_string(j, text, n);
}

static struct jinja_value *named_values(
        struct jinja *j, const struct jinja_args *args, enum jinja_type type) {
    struct jinja_value *v = jinja_new_value(j, type);
    if (!v) return NULL;
    for (size_t i = 0; i < args->n_pos; i++) {
        const struct jinja_value *from = args->pos[i];
        if (from->type != JINJA_DICT)
            return jinja_fail(j, ERR_BAD_INPUT, "the chat template makes a dict of a %s",
                    jinja_type_name(from));
        for (size_t k = 0; k < from->dict.n; k++)
            if (!jinja_put_key(j, v, from->dict.pairs[k].key, from->dict.pairs[k].value))
                return NULL;
    }
    for (size_t i = 0; i < args->n_keywords; i++) {
        struct jinja_keyword keyword = args->keywords[i];
        if (!jinja_put_key(j, v, jinja_str_value(j, keyword.name), keyword.value)) return NULL;
    }
    return v;
}

static struct jinja_value *function_namespace(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)self;
    return named_values(j, args, JINJA_NAMESPACE);
}

static struct jinja_value *function_dict(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)self;
    return named_values(j, args, JINJA_DICT);
}

#define RANGE_MAX 100000 /* the limit of Jinja's sandbox, in which templates are made */

static struct jinja_value *function_range(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)self;
    int64_t start = 0, stop = 0, step = 1;
    if (args->arg[1]) {
        if (!jinja_arg_int(j, args->arg[0], &start) || !jinja_arg_int(j, args->arg[1], &stop) ||
                !jinja_arg_int(j, args->arg[2], &step))
            return NULL;
    } else if (!args->arg[0] || !jinja_arg_int(j, args->arg[0], &stop)) {
        return jinja_fail(j, ERR_BAD_INPUT, "the chat template calls range() without an end");
    }
    if (step == 0) return jinja_fail(j, ERR_BAD_INPUT, "the chat template steps by 0 in range()");
    uint64_t span = 0, stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    if (step > 0 && stop > start) span = (uint64_t)stop - (uint64_t)start;
    if (step < 0 && stop < start) span = (uint64_t)start - (uint64_t)stop;
    uint64_t n = span ? (span - 1) / stride + 1 : 0;
    if (n > RANGE_MAX)
        return jinja_fail(
                j, ERR_LIMIT, "the chat template makes a range of more than %d numbers", RANGE_MAX);
    struct jinja_value *list = jinja_sequence(j, JINJA_LIST, (size_t)n);
    for (uint64_t i = 0; list && i < n; i++) {
        list->list.items[i] = jinja_int(j, start + (int64_t)i * step);
        if (!list->list.items[i]) return NULL;
    }
    return list;
}

const struct jinja_builtin jinja_functions[] = {
        {"dict", "*", function_dict},
        {"namespace", "*", function_namespace},
        {"raise_exception", "message", function_raise},
        {"range", "start stop step", function_range},
        {"strftime_now", "format", function_strftime_now},
        {NULL, NULL, NULL},
};

/* ---- calls ---- */

static struct jinja_value *call_builtin(struct jinja *j, const struct jinja_builtin *builtin,
        struct jinja_value *self, struct jinja_args *args) {
    if (!bind_args(j, builtin, args)) return NULL;
    return builtin->call(j, self, args);
}

static struct jinja_value *call_value(struct jinja *j, struct jinja_value *callee,
        struct jinja_str name, struct jinja_args *args) {
    switch (callee->type) {
    case JINJA_FUNCTION:
        return call_builtin(j, callee->function.builtin, callee->function.self, args);
    case JINJA_MACRO:
        return jinja_call_macro(j, callee, args);
    case JINJA_UNDEFINED:
        return jinja_lacks(j, "the function", name.bytes, name.n);
    default:
        return jinja_fail(j, ERR_BAD_INPUT, "the chat template calls '%.*s', which is a %s",
                (int)min_u64(name.n, 100), name.n ? name.bytes : "", jinja_type_name(callee));
    }
}

/* of.name(...): a method if there is one, else the attribute's value. */
static struct jinja_value *call_method(struct jinja *j, const struct jinja_node *node) {
    struct jinja_str name = node->a->name;
    struct jinja_args args;
    struct jinja_value *of = jinja_eval(j, node->a->a);
    if (!of || !eval_args(j, node, &args)) return NULL;
    const struct jinja_builtin *method = jinja_find_method(of, name);
    if (method) return call_builtin(j, method, of, &args);
    struct jinja_value *callee = jinja_attr(j, of, name);
    if (!callee) return NULL;
    if (callee->type != JINJA_UNDEFINED) return call_value(j, callee, name, &args);
    if (jinja_lacks_method(of, name)) return jinja_lacks(j, "the method", name.bytes, name.n);
    return jinja_fail(j, ERR_BAD_INPUT, "the chat template calls '%.*s' of a %s",
            (int)min_u64(name.n, 100), name.bytes, jinja_type_name(of));
}

struct jinja_value *jinja_eval_call(struct jinja *j, const struct jinja_node *node) {
    if (node->a->kind == JINJA_N_ATTR) return call_method(j, node);
    struct jinja_args args;
    struct jinja_value *callee = jinja_eval(j, node->a);
    if (!callee || !eval_args(j, node, &args)) return NULL;
    return call_value(j, callee, node->a->name, &args);
}

static const struct jinja_builtin *find_builtin(
        const struct jinja_builtin *table, struct jinja_str name) {
    for (; table->name; table++)
        if (jinja_str_is(name, table->name)) return table;
    return NULL;
}

struct jinja_value *jinja_apply_filter(struct jinja *j, struct jinja_str name,
        struct jinja_value *subject, struct jinja_args *args) {
    const struct jinja_builtin *filter = find_builtin(jinja_filters, name);
    if (!filter) filter = find_builtin(jinja_list_filters, name);
    if (!filter) return jinja_lacks(j, "the filter", name.bytes, name.n);
    return call_builtin(j, filter, subject, args);
}

static struct jinja_value *apply_test(struct jinja *j, struct jinja_str name,
        struct jinja_value *subject, struct jinja_args *args) {
    const struct jinja_builtin *test = find_builtin(jinja_tests, name);
    if (!test) return jinja_lacks(j, "the test", name.bytes, name.n);
    return call_builtin(j, test, subject, args);
}

int jinja_apply_test(struct jinja *j, struct jinja_str name, struct jinja_value *subject,
        struct jinja_args *args) {
    struct jinja_value *v = apply_test(j, name, subject, args);
    return v ? jinja_truth(v) : -1;
}

struct jinja_value *jinja_eval_filter(
        struct jinja *j, const struct jinja_node *node, struct jinja_value *subject) {
    struct jinja_args args;
    if (!eval_args(j, node, &args)) return NULL;
    return jinja_apply_filter(j, node->name, subject, &args);
}

struct jinja_value *jinja_eval_test(
        struct jinja *j, const struct jinja_node *node, struct jinja_value *subject) {
    struct jinja_args args;
    if (!eval_args(j, node, &args)) return NULL;
    return apply_test(j, node->name, subject, &args);
}
