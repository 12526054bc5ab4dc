/* jinja_str_method.c - the methods of strings that templates call.
 * Owns: nothing. Does not: bind arguments (jinja_call.c). Runs on: the owner thread. */
#include "coordinator/text/jinja_internal.h"

#include <string.h>

static bool in_set(struct jinja_str set, struct jinja_str one) {
    for (size_t at = 0; at < set.n;) {
        size_t n = jinja_char(set, at, NULL);
        if (n == one.n && memcmp(set.bytes + at, one.bytes, n) == 0) return true;
        at += n;
    }
    return false;
}

/* Without the characters of set at the chosen ends. */
static struct jinja_str strip_set(
        struct jinja_str str, struct jinja_str set, bool left, bool right) {
    size_t first = str.n, last = 0;
    for (size_t at = 0; at < str.n;) {
        size_t n = jinja_char(str, at, NULL);
        if (!in_set(set, (struct jinja_str){str.bytes + at, n})) {
            if (first == str.n) first = at;
            last = at + n;
        }
        at += n;
    }
    size_t start = left ? first : 0;
    size_t end = right ? last : str.n;
    return (struct jinja_str){str.bytes + start, end > start ? end - start : 0};
}

static struct jinja_value *strip_ends(struct jinja *j, struct jinja_value *self,
        const struct jinja_args *args, bool left, bool right) {
    const struct jinja_value *chars = args->arg[0];
    if (!chars || chars->type == JINJA_NONE)
        return jinja_str_value(j, jinja_strip(self->str, left, right));
    struct jinja_str set = {"", 0};
    if (!jinja_arg_str(j, chars, &set)) return NULL;
    if (!jinja_step(j, (self->str.n / 16 + 1) * (set.n + 1))) return NULL;
    return jinja_str_value(j, strip_set(self->str, set, left, right));
}

static struct jinja_value *method_strip(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    return strip_ends(j, self, args, true, true);
}

static struct jinja_value *method_lstrip(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    return strip_ends(j, self, args, true, false);
}

static struct jinja_value *method_rstrip(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    return strip_ends(j, self, args, false, true);
}

static bool push_part(
        struct jinja *j, struct jinja_value *list, struct jinja_str str, size_t from, size_t to) {
    struct jinja_str part = {str.bytes + from, to - from};
    jinja_push(j, list, jinja_str_value(j, part));
    return jinja_step(j, 1);
}

/* At white space: no empty parts. */
static struct jinja_value *split_words(struct jinja *j, struct jinja_str str, int64_t max) {
    struct jinja_value *list = jinja_list(j);
    struct jinja_str rest = jinja_strip(str, true, false);
    if (!list || !jinja_step(j, str.n / 8)) return NULL;
    while (rest.n) {
        size_t end = 0;
        uint32_t cp = 0;
        while (end < rest.n) {
            size_t n = jinja_char(rest, end, &cp);
            if (jinja_is_space(cp)) break;
            end += n;
        }
        if (max-- == 0) end = rest.n;
        if (!push_part(j, list, rest, 0, end)) return NULL;
        rest.bytes += end;
        rest.n -= end;
        rest = jinja_strip(rest, true, false);
    }
    return list;
}

static bool split_args(struct jinja *j, const struct jinja_args *args, struct jinja_str *out_sep,
        int64_t *out_max) {
    *out_sep = (struct jinja_str){NULL, 0};
    *out_max = -1;
    if (args->arg[0] && args->arg[0]->type != JINJA_NONE) {
        if (!jinja_arg_str(j, args->arg[0], out_sep)) return false;
        if (out_sep->n == 0) {
            jinja_fail(j, ERR_BAD_INPUT, "the chat template splits at an empty separator");
            return false;
        }
    }
    return jinja_arg_int(j, args->arg[1], out_max);
}

static struct jinja_value *method_split(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_str sep;
    int64_t max;
    if (!split_args(j, args, &sep, &max)) return NULL;
    if (!sep.bytes) return split_words(j, self->str, max);
    struct jinja_value *list = jinja_list(j);
    if (!list || !jinja_step(j, self->str.n / 32)) return NULL;
    size_t from = 0;
    for (; max != 0; max--) {
        const char *found = jinja_find(self->str, from, sep);
        if (!found) break;
        size_t place = (size_t)(found - self->str.bytes);
        if (!push_part(j, list, self->str, from, place)) return NULL;
        from = place + sep.n;
    }
    return push_part(j, list, self->str, from, self->str.n) ? list : NULL;
}

static const char *find_last(struct jinja_str hay, struct jinja_str needle) {
    for (size_t at = hay.n; needle.n <= hay.n && at >= needle.n; at--) {
        const char *start = hay.bytes + at - needle.n;
        if (memcmp(start, needle.bytes, needle.n) == 0) return start;
        if (at == needle.n) break;
    }
    return NULL;
}

static void reverse(struct jinja_value *list) {
    for (size_t i = 0; i < list->list.n / 2; i++) {
        struct jinja_value *item = list->list.items[i];
        list->list.items[i] = list->list.items[list->list.n - 1 - i];
        list->list.items[list->list.n - 1 - i] = item;
    }
}

static struct jinja_value *method_rsplit(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_str sep, rest = self->str;
    int64_t max;
    if (!split_args(j, args, &sep, &max)) return NULL;
    if (!sep.bytes && max < 0) return split_words(j, rest, max);
    if (!sep.bytes) return jinja_lacks(j, "at white space the method", "rsplit", 6);
    struct jinja_value *list = jinja_list(j);
    if (!list || !jinja_step(j, rest.n / 8)) return NULL;
    for (; max != 0; max--) {
        const char *found = find_last(rest, sep);
        if (!found) break;
        size_t place = (size_t)(found - rest.bytes);
        if (!push_part(j, list, rest, place + sep.n, rest.n)) return NULL;
        rest.n = place;
    }
    if (!push_part(j, list, rest, 0, rest.n)) return NULL;
    reverse(list);
    return list;
}

static struct jinja_value *method_splitlines(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    bool keep_ends = args->arg[0] && jinja_truth(args->arg[0]);
    struct jinja_str str = self->str;
    struct jinja_value *list = jinja_list(j);
    if (!list || !jinja_step(j, str.n / 32)) return NULL;
    for (size_t from = 0; from < str.n;) {
        size_t end = from;
        while (end < str.n && str.bytes[end] != '\n' && str.bytes[end] != '\r')
            end++;
        bool pair = str.n - end > 1 && memcmp(str.bytes + end, "\r\n", 2) == 0;
        size_t next = end + (end == str.n ? 0 : pair ? 2 : 1);
        if (!push_part(j, list, str, from, keep_ends ? next : end)) return NULL;
        from = next;
    }
    return list;
}

static bool has_affix(struct jinja_str str, struct jinja_str affix, bool at_end) {
    if (affix.n > str.n) return false;
    const char *place = at_end ? str.bytes + str.n - affix.n : str.bytes;
    return affix.n == 0 || memcmp(place, affix.bytes, affix.n) == 0;
}

/* One affix, or a tuple of them. */
static struct jinja_value *test_affix(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args, bool at_end) {
    struct jinja_value *affix = args->arg[0];
    if (!affix || !jinja_step(j, 1))
        return jinja_fail(
                j, ERR_BAD_INPUT, "the chat template calls startswith or endswith without a text");
    struct jinja_value *const *items = &affix;
    size_t n = 1;
    if (affix->type == JINJA_TUPLE) {
        items = affix->list.items;
        n = affix->list.n;
    }
    for (size_t i = 0; i < n; i++) {
        struct jinja_str str = {"", 0};
        if (!jinja_arg_str(j, items[i], &str)) return NULL;
        if (has_affix(self->str, str, at_end)) return jinja_bool(j, true);
    }
    return jinja_bool(j, false);
}

static struct jinja_value *method_startswith(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    return test_affix(j, self, args, false);
}

static struct jinja_value *method_endswith(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    return test_affix(j, self, args, true);
}

static struct jinja_value *method_removeprefix(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_str affix = {"", 0}, str = self->str;
    if (!jinja_arg_str(j, args->arg[0], &affix)) return NULL;
    if (!has_affix(str, affix, false)) return self;
    return jinja_str_value(j, (struct jinja_str){str.bytes + affix.n, str.n - affix.n});
}

static struct jinja_value *method_removesuffix(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_str affix = {"", 0}, str = self->str;
    if (!jinja_arg_str(j, args->arg[0], &affix)) return NULL;
    if (!has_affix(str, affix, true)) return self;
    return jinja_str_value(j, (struct jinja_str){str.bytes, str.n - affix.n});
}

static struct jinja_value *method_replace(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_str from = {"", 0}, to = {"", 0};
    int64_t max = -1;
    if (!jinja_arg_str(j, args->arg[0], &from) || !jinja_arg_str(j, args->arg[1], &to)) return NULL;
    if (!jinja_arg_int(j, args->arg[2], &max)) return NULL;
    return jinja_replace(j, self->str, from, to, max);
}

static struct jinja_value *find_text(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args, bool last) {
    struct jinja_str needle = {"", 0};
    if (!jinja_arg_str(j, args->arg[0], &needle)) return NULL;
    if (!jinja_step(j, self->str.n / 8)) return NULL;
    const char *found = last ? find_last(self->str, needle) : jinja_find(self->str, 0, needle);
    if (!found) return jinja_int(j, -1);
    struct jinja_str before = {self->str.bytes, (size_t)(found - self->str.bytes)};
    return jinja_int(j, (int64_t)jinja_n_chars(before));
}

static struct jinja_value *method_find(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    return find_text(j, self, args, false);
}

static struct jinja_value *method_rfind(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    return find_text(j, self, args, true);
}

static struct jinja_value *method_count(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_str needle = {"", 0};
    if (!jinja_arg_str(j, args->arg[0], &needle) || !jinja_step(j, self->str.n / 16)) return NULL;
    if (needle.n == 0) return jinja_int(j, (int64_t)jinja_n_chars(self->str) + 1);
    int64_t n = 0;
    for (size_t at = 0;; n++) {
        const char *found = jinja_find(self->str, at, needle);
        if (!found) return jinja_int(j, n);
        at = (size_t)(found - self->str.bytes) + needle.n;
    }
}

static struct jinja_value *method_upper(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    return jinja_recase(j, self->str, JINJA_UPPER);
}

static struct jinja_value *method_lower(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    return jinja_recase(j, self->str, JINJA_LOWER);
}

static struct jinja_value *method_capitalize(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    return jinja_recase(j, self->str, JINJA_CAPITALIZE);
}

static struct jinja_value *method_join(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_args join = {.arg = {self}};
    if (!args->arg[0]) return jinja_fail(j, ERR_BAD_INPUT, "the chat template joins nothing");
    return jinja_apply_filter(j, (struct jinja_str){"join", 4}, args->arg[0],
            &(struct jinja_args){.pos = join.arg, .n_pos = 1});
}

static struct jinja_value *only_of(
        struct jinja *j, struct jinja_str str, char low, char high, char low2, char high2) {
    if (!jinja_step(j, str.n / 16)) return NULL;
    bool all = str.n > 0;
    for (size_t i = 0; i < str.n; i++) {
        char c = str.bytes[i];
        all &= (c >= low && c <= high) || (c >= low2 && c <= high2);
    }
    return jinja_bool(j, all);
}

static struct jinja_value *method_isdigit(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    return only_of(j, self->str, '0', '9', '0', '9');
}

static struct jinja_value *method_isalpha(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    return only_of(j, self->str, 'a', 'z', 'A', 'Z');
}

static struct jinja_value *method_isspace(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    return jinja_bool(j, self->str.n && jinja_strip(self->str, true, false).n == 0);
}

const struct jinja_builtin jinja_str_methods[] = {
        {"capitalize", "", method_capitalize},
        {"count", "sub", method_count},
        {"endswith", "suffix", method_endswith},
        {"find", "sub", method_find},
        {"isalpha", "", method_isalpha},
        {"isdigit", "", method_isdigit},
        {"isspace", "", method_isspace},
        {"join", "iterable", method_join},
        {"lower", "", method_lower},
        {"lstrip", "chars", method_lstrip},
        {"removeprefix", "prefix", method_removeprefix},
        {"removesuffix", "suffix", method_removesuffix},
        {"replace", "old new count", method_replace},
        {"rfind", "sub", method_rfind},
        {"rsplit", "sep maxsplit", method_rsplit},
        {"rstrip", "chars", method_rstrip},
        {"split", "sep maxsplit", method_split},
        {"splitlines", "keepends", method_splitlines},
        {"startswith", "prefix", method_startswith},
        {"strip", "chars", method_strip},
        {"upper", "", method_upper},
        {NULL, NULL, NULL},
};
