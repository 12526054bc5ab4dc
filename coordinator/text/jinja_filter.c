/* jinja_filter.c - filters of single values: texts, numbers, defaults, JSON.
 * Owns: nothing. Does not: lists (jinja_filter_list.c). Runs on: the owner thread. */
#include "coordinator/text/jinja_internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct jinja_value *filter_abs(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    int64_t value;
    if (self->type == JINJA_FLOAT) return jinja_float(j, fabs(self->real));
    if (!jinja_is_integer(self, &value))
        return jinja_fail(
                j, ERR_BAD_INPUT, "the chat template takes abs of a %s", jinja_type_name(self));
    if (value == INT64_MIN)
        return jinja_fail(j, ERR_LIMIT, "the chat template makes a number too large");
    return jinja_int(j, value < 0 ? -value : value);
}

static struct jinja_value *recase(struct jinja *j, struct jinja_value *self, enum jinja_case to) {
    struct jinja_value *text = jinja_to_string(j, self);
    return text ? jinja_recase(j, text->str, to) : NULL;
}

static struct jinja_value *filter_capitalize(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    return recase(j, self, JINJA_CAPITALIZE);
}

static struct jinja_value *filter_lower(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    return recase(j, self, JINJA_LOWER);
}

static struct jinja_value *filter_upper(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    return recase(j, self, JINJA_UPPER);
}

static struct jinja_value *filter_title(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    return recase(j, self, JINJA_TITLE);
}

static struct jinja_value *filter_default(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    bool falsy_too = args->arg[1] && jinja_truth(args->arg[1]);
    if (self->type != JINJA_UNDEFINED && !(falsy_too && !jinja_truth(self))) return self;
    return args->arg[0] ? args->arg[0] : jinja_cstr(j, "");
}

static struct jinja_value *filter_escape(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    static const char special[] = "&<>'\"";
    static const char *const codes[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    struct jinja_value *value = jinja_to_string(j, self);
    struct jinja_text text = {0};
    if (!value || !jinja_step(j, value->str.n / 8)) return NULL;
    for (size_t i = 0; i < value->str.n; i++) {
        char c = value->str.bytes[i];
        const char *found = c ? strchr(special, c) : NULL;
        bool ok = found ? jinja_text_str(j, &text, codes[found - special])
                        : jinja_text_append(j, &text, &c, 1);
        if (!ok) return NULL;
    }
    return jinja_text_value(j, &text);
}

/* A trimmed copy that strtod() can read; false when it is too long to be a number. */
static bool number_text(struct jinja_str str, char out[64]) {
    str = jinja_strip(str, true, true);
    if (str.n == 0 || str.n > 63 || memchr(str.bytes, 0, str.n)) return false;
    memcpy(out, str.bytes, str.n);
    out[str.n] = 0;
    return true;
}

static bool read_real(struct jinja_str str, double *out) {
    char text[64], *end;
    if (!number_text(str, text) || strpbrk(text, "xXpP(")) return false;
    *out = strtod(text, &end);
    return *end == 0;
}

static bool read_integer(struct jinja_str str, int base, int64_t *out) {
    char text[64], *end;
    if (!number_text(str, text)) return false;
    errno = 0;
    long long value = strtoll(text, &end, base);
    *out = value;
    return *end == 0 && errno == 0;
}

static bool real_to_integer(double value, int64_t *out) {
    if (!(value > -9.2e18 && value < 9.2e18)) return false;
    *out = (int64_t)value;
    return true;
}

static struct jinja_value *filter_int(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    int64_t value, base = 10;
    double real;
    if (!jinja_arg_int(j, args->arg[1], &base)) return NULL;
    if (base != 0 && (base < 2 || base > 36))
        return jinja_fail(j, ERR_BAD_INPUT, "the chat template reads numbers of an unknown base");
    bool ok = jinja_is_integer(self, &value);
    if (!ok && self->type == JINJA_FLOAT) ok = real_to_integer(self->real, &value);
    if (!ok && self->type == JINJA_STRING)
        ok = read_integer(self->str, (int)base, &value) ||
             (read_real(self->str, &real) && real_to_integer(real, &value));
    if (ok) return jinja_int(j, value);
    return args->arg[0] ? args->arg[0] : jinja_int(j, 0);
}

static struct jinja_value *filter_float(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    double value;
    if (jinja_is_number(self)) return jinja_float(j, jinja_as_real(self));
    if (self->type == JINJA_STRING && read_real(self->str, &value)) return jinja_float(j, value);
    return args->arg[0] ? args->arg[0] : jinja_float(j, 0);
}

/* Rounds half to even, as Python's round() does, or up or down. */
static struct jinja_value *filter_round(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    int64_t precision = 0;
    struct jinja_str method = {"common", 6};
    if (!jinja_arg_int(j, args->arg[0], &precision) || !jinja_arg_str(j, args->arg[1], &method))
        return NULL;
    if (!jinja_is_number(self) || precision < 0 || precision > 15)
        return jinja_fail(j, ERR_BAD_INPUT, "the chat template rounds a %s to %lld places",
                jinja_type_name(self), (long long)precision);
    if (self->type != JINJA_FLOAT && jinja_str_is(method, "common")) return self;
    double value = jinja_as_real(self), scale = pow(10, (double)precision);
    if (jinja_str_is(method, "ceil")) return jinja_float(j, ceil(value * scale) / scale);
    if (jinja_str_is(method, "floor")) return jinja_float(j, floor(value * scale) / scale);
    char text[400];
    snprintf(text, sizeof text, "%.*f", (int)precision, value); /* exact, halves to even */
    return jinja_float(j, strtod(text, NULL));
}

static struct jinja_value *filter_indent(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_str blanks = {NULL, 0};
    int64_t width = 4;
    bool first = args->arg[1] && jinja_truth(args->arg[1]);
    bool blank = args->arg[2] && jinja_truth(args->arg[2]);
    if (args->arg[0] && args->arg[0]->type == JINJA_STRING)
        blanks = args->arg[0]->str;
    else if (!jinja_arg_int(j, args->arg[0], &width))
        return NULL;
    if (!blanks.bytes) {
        if (width > 1000)
            return jinja_fail(
                    j, ERR_LIMIT, "the chat template indents by %lld blanks", (long long)width);
        blanks.n = width > 0 ? (size_t)width : 0;
        char *made = jinja_alloc_text(j, blanks.n + 1);
        if (!made) return NULL;
        memset(made, ' ', blanks.n);
        blanks.bytes = made;
    }
    struct jinja_value *value = jinja_to_string(j, self);
    struct jinja_text text = {0};
    if (!value || !jinja_step(j, value->str.n / 16)) return NULL;
    bool at_start = first;
    if (first && value->str.n == 0) return jinja_str_value(j, blanks);
    for (size_t i = 0; i < value->str.n;) {
        const char *start = value->str.bytes + i;
        const char *feed = memchr(start, '\n', value->str.n - i);
        size_t n = feed ? (size_t)(feed - start) + 1 : value->str.n - i;
        bool empty = *start == '\n' && i > 0 && !blank;
        if (at_start && !empty && !jinja_text_append(j, &text, blanks.bytes, blanks.n)) return NULL;
        if (!jinja_text_append(j, &text, start, n) || !jinja_step(j, 1)) return NULL;
        at_start = true;
        i += n;
    }
    if (blank && value->str.n && value->str.bytes[value->str.n - 1] == '\n' &&
            !jinja_text_append(j, &text, blanks.bytes, blanks.n))
        return NULL;
    return jinja_text_value(j, &text);
}

static struct jinja_value *filter_replace(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_value *subject = jinja_to_string(j, self);
    struct jinja_value *from = subject && args->arg[0] ? jinja_to_string(j, args->arg[0]) : NULL;
    struct jinja_value *to = from && args->arg[1] ? jinja_to_string(j, args->arg[1]) : NULL;
    int64_t max = -1;
    if (!to) return jinja_fail(j, ERR_BAD_INPUT, "the chat template replaces without two texts");
    if (args->arg[2] && args->arg[2]->type != JINJA_NONE && !jinja_arg_int(j, args->arg[2], &max))
        return NULL;
    return jinja_replace(j, subject->str, from->str, to->str, max);
}

static struct jinja_value *filter_safe(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    return jinja_to_string(j, self);
}

static struct jinja_value *filter_trim(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_value *text = jinja_to_string(j, self);
    if (!text) return NULL;
    const struct jinja_builtin *strip = jinja_find_method(text, (struct jinja_str){"strip", 5});
    return strip->call(j, text, args);
}

static struct jinja_value *filter_wordcount(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    struct jinja_value *text = jinja_to_string(j, self);
    if (!text) return NULL;
    const struct jinja_builtin *split = jinja_find_method(text, (struct jinja_str){"split", 5});
    struct jinja_value *words = split->call(j, text, &(struct jinja_args){0});
    return words ? jinja_int(j, (int64_t)words->list.n) : NULL;
}

/* separators: a pair of texts. */
static bool json_separators(
        struct jinja *j, const struct jinja_value *arg, struct jinja_json_style *style) {
    if (!arg || arg->type == JINJA_NONE) return true;
    if (!jinja_is_sequence(arg) || arg->list.n != 2) {
        jinja_fail(j, ERR_BAD_INPUT, "the chat template gives tojson separators that are no pair");
        return false;
    }
    return jinja_arg_str(j, arg->list.items[0], &style->item_separator) &&
           jinja_arg_str(j, arg->list.items[1], &style->key_separator);
}

/* indent: how many blanks, or the text itself. */
static bool json_indent(
        struct jinja *j, const struct jinja_value *arg, struct jinja_json_style *style) {
    static const char blanks[] = "                                ";
    if (!arg || arg->type == JINJA_NONE) return true;
    style->spread = true;
    style->item_separator = (struct jinja_str){",", 1};
    if (arg->type == JINJA_STRING) {
        style->indent = arg->str;
        return true;
    }
    int64_t width = 0;
    if (!jinja_arg_int(j, arg, &width)) return false;
    if (width > (int64_t)sizeof blanks - 1) {
        jinja_fail(j, ERR_LIMIT, "the chat template indents JSON by %lld", (long long)width);
        return false;
    }
    style->indent = (struct jinja_str){blanks, width > 0 ? (size_t)width : 0};
    return true;
}

static struct jinja_value *filter_tojson(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_json_style style = {
            .ascii = args->arg[0] && jinja_truth(args->arg[0]),
            .sort_keys = args->arg[3] && jinja_truth(args->arg[3]),
            .item_separator = {", ", 2},
            .key_separator = {": ", 2},
    };
    if (!json_indent(j, args->arg[1], &style) || !json_separators(j, args->arg[2], &style))
        return NULL;
    struct jinja_text text = {0};
    return jinja_dump_json(j, &text, self, &style) ? jinja_text_value(j, &text) : NULL;
}

static struct jinja_value *filter_from_json(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    struct jinja_str str = {"", 0};
    size_t at;
    return jinja_arg_str(j, self, &str) ? jinja_parse_json(j, str, &at) : NULL;
}

const struct jinja_builtin jinja_filters[] = {
        {"abs", "", filter_abs},
        {"capitalize", "", filter_capitalize},
        {"d", "default_value boolean", filter_default},
        {"default", "default_value boolean", filter_default},
        {"e", "", filter_escape},
        {"escape", "", filter_escape},
        {"float", "default", filter_float},
        {"from_json", "", filter_from_json},
        {"fromjson", "", filter_from_json},
        {"indent", "width first blank", filter_indent},
        {"int", "default base", filter_int},
        {"lower", "", filter_lower},
        {"replace", "old new count", filter_replace},
        {"round", "precision method", filter_round},
        {"safe", "", filter_safe},
        {"string", "", filter_safe},
        {"title", "", filter_title},
        {"tojson", "ensure_ascii indent separators sort_keys", filter_tojson},
        {"trim", "chars", filter_trim},
        {"upper", "", filter_upper},
        {"wordcount", "", filter_wordcount},
        {NULL, NULL, NULL},
};
