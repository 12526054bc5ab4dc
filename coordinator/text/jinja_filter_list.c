/* jinja_filter_list.c - filters of lists and dicts: choosing, mapping, sorting, joining.
 * Owns: nothing. Does not: single values (jinja_filter.c). Runs on: the owner thread. */
#include "coordinator/text/jinja_internal.h"

#include <string.h>

/* The value behind an attribute path: "function.name", "0.role", or an index. */
static struct jinja_value *follow(
        struct jinja *j, struct jinja_value *item, struct jinja_value *path) {
    if (path->type != JINJA_STRING) return jinja_index(j, item, path);
    struct jinja_str rest = path->str;
    while (item) {
        const char *dot = rest.n ? memchr(rest.bytes, '.', rest.n) : NULL;
        struct jinja_str name = {rest.bytes, dot ? (size_t)(dot - rest.bytes) : rest.n};
        struct jinja_value number = {.type = JINJA_INT};
        bool digits = name.n > 0 && name.n < 10;
        for (size_t i = 0; i < name.n; i++) {
            digits = digits && name.bytes[i] >= '0' && name.bytes[i] <= '9';
            if (digits) number.integer = number.integer * 10 + name.bytes[i] - '0';
        }
        item = digits ? jinja_index(j, item, &number) : jinja_attr(j, item, name);
        if (!dot) break;
        rest.n -= name.n + 1;
        rest.bytes += name.n + 1;
    }
    return item;
}

static struct jinja_value *maybe_follow(
        struct jinja *j, struct jinja_value *item, struct jinja_value *path) {
    return path && path->type != JINJA_NONE ? follow(j, item, path) : item;
}

static struct jinja_value *keyword(const struct jinja_args *args, const char *name) {
    for (size_t i = 0; i < args->n_keywords; i++)
        if (jinja_str_is(args->keywords[i].name, name)) return args->keywords[i].value;
    return NULL;
}

/* ---- size and ends ---- */

static struct jinja_value *filter_length(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    if (self->type == JINJA_DICT) return jinja_int(j, (int64_t)self->dict.n);
    if (self->type == JINJA_STRING) {
        if (!jinja_step(j, self->str.n / 32)) return NULL;
        return jinja_int(j, (int64_t)jinja_n_chars(self->str));
    }
    if (!jinja_is_sequence(self) && self->type != JINJA_UNDEFINED)
        return jinja_fail(j, ERR_BAD_INPUT, "the chat template takes the length of a %s",
                jinja_type_name(self));
    return jinja_int(j, self->type == JINJA_UNDEFINED ? 0 : (int64_t)self->list.n);
}

static struct jinja_value *filter_first(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    struct jinja_value *items = jinja_iterate(j, self);
    if (!items) return NULL;
    return items->list.n ? items->list.items[0] : jinja_undefined(j, "first", 5);
}

static struct jinja_value *filter_last(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    struct jinja_value *items = jinja_iterate(j, self);
    if (!items) return NULL;
    return items->list.n ? items->list.items[items->list.n - 1] : jinja_undefined(j, "last", 4);
}

static struct jinja_value *filter_list(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    struct jinja_value *items = jinja_iterate(j, self);
    struct jinja_value *list = items ? jinja_sequence(j, JINJA_LIST, items->list.n) : NULL;
    if (list && list->list.n)
        memcpy(list->list.items, items->list.items, list->list.n * sizeof *list->list.items);
    return list;
}

static struct jinja_value *filter_reverse(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    struct jinja_value *back[3] = {NULL, NULL, jinja_int(j, -1)};
    if (!back[2]) return NULL;
    if (self->type == JINJA_STRING) return jinja_slice(j, self, back);
    struct jinja_value *list = filter_list(j, self, args);
    return list ? jinja_slice(j, list, back) : NULL;
}

static struct jinja_value *filter_items(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    if (self->type == JINJA_UNDEFINED) return jinja_list(j);
    if (self->type != JINJA_DICT)
        return jinja_fail(j, ERR_BAD_INPUT, "the chat template takes the items of a %s",
                jinja_type_name(self));
    return jinja_find_method(self, (struct jinja_str){"items", 5})->call(j, self, args);
}

static struct jinja_value *filter_attr(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_str name = {"", 0};
    return jinja_arg_str(j, args->arg[0], &name) ? jinja_attr(j, self, name) : NULL;
}

static struct jinja_value *filter_join(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_value *items = jinja_iterate(j, self);
    struct jinja_value *between = args->arg[0] ? jinja_to_string(j, args->arg[0]) : NULL;
    struct jinja_text text = {0};
    if (!items || j->failed) return NULL;
    for (size_t i = 0; i < items->list.n; i++) {
        struct jinja_value *item = maybe_follow(j, items->list.items[i], args->arg[1]);
        if (!item || !jinja_step(j, 1)) return NULL;
        if (i && between && !jinja_text_append(j, &text, between->str.bytes, between->str.n))
            return NULL;
        if (!jinja_print(j, &text, item)) return NULL;
    }
    return jinja_text_value(j, &text);
}

/* ---- choosing and mapping ----
 * As in Jinja, these take whatever counts as false (none, for one) for an empty list. */

static struct jinja_value *items_or_none(struct jinja *j, struct jinja_value *v) {
    return jinja_truth(v) ? jinja_iterate(j, v) : jinja_list(j);
}

/* Keeps the items for which the test holds (or does not). The test's name is pos[at], its
 * arguments follow; without a name an item's truth decides. */
static struct jinja_value *choose(struct jinja *j, struct jinja_value *self,
        const struct jinja_args *args, size_t at, struct jinja_value *path, bool wanted) {
    struct jinja_value *items = items_or_none(j, self);
    struct jinja_value *kept = jinja_list(j);
    struct jinja_str name = {"", 0};
    bool tests = args->n_pos > at;
    if (!items || !kept || (tests && !jinja_arg_str(j, args->pos[at], &name))) return NULL;
    for (size_t i = 0; i < items->list.n; i++) {
        struct jinja_value *value = maybe_follow(j, items->list.items[i], path);
        if (!value || !jinja_step(j, 1)) return NULL;
        int holds = jinja_truth(value);
        if (tests) {
            struct jinja_args rest = {.pos = args->pos + at + 1, .n_pos = args->n_pos - at - 1};
            holds = jinja_apply_test(j, name, value, &rest);
        }
        if (holds < 0) return NULL;
        if ((holds != 0) == wanted) jinja_push(j, kept, items->list.items[i]);
    }
    return j->failed ? NULL : kept;
}

static struct jinja_value *filter_select(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    return choose(j, self, args, 0, NULL, true);
}

static struct jinja_value *filter_reject(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    return choose(j, self, args, 0, NULL, false);
}

static struct jinja_value *choose_attr(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args, bool wanted) {
    if (args->n_pos == 0)
        return jinja_fail(j, ERR_BAD_INPUT, "the chat template selects by no attribute");
    return choose(j, self, args, 1, args->pos[0], wanted);
}

static struct jinja_value *filter_selectattr(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    return choose_attr(j, self, args, true);
}

static struct jinja_value *filter_rejectattr(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    return choose_attr(j, self, args, false);
}

static struct jinja_value *map_one(
        struct jinja *j, struct jinja_value *item, const struct jinja_args *args) {
    struct jinja_value *path = keyword(args, "attribute");
    if (path) {
        struct jinja_value *found = follow(j, item, path), *other = keyword(args, "default");
        return found && found->type == JINJA_UNDEFINED && other ? other : found;
    }
    struct jinja_str name = {"", 0};
    if (args->n_pos == 0 || !jinja_arg_str(j, args->pos[0], &name))
        return jinja_fail(j, ERR_BAD_INPUT, "the chat template maps with no filter");
    struct jinja_args rest = {.pos = args->pos + 1,
            .n_pos = args->n_pos - 1,
            .keywords = args->keywords,
            .n_keywords = args->n_keywords};
    return jinja_apply_filter(j, name, item, &rest);
}

static struct jinja_value *filter_map(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_value *items = items_or_none(j, self);
    struct jinja_value *list = items ? jinja_sequence(j, JINJA_LIST, items->list.n) : NULL;
    for (size_t i = 0; list && i < list->list.n; i++) {
        list->list.items[i] = map_one(j, items->list.items[i], args);
        if (!list->list.items[i] || !jinja_step(j, 1)) return NULL;
    }
    return list;
}

/* ---- order ---- */

struct sortable {
    struct jinja_value *key, *item;
};

/* Strings compare without case unless asked. */
static struct jinja_value *sort_key(struct jinja *j, struct jinja_value *value, bool with_case) {
    if (!value || with_case || value->type != JINJA_STRING) return value;
    return jinja_recase(j, value->str, JINJA_LOWER);
}

/* Stable merge sort of a[n] with b as work space. False: failed. */
static bool merge_sort(
        struct jinja *j, struct sortable *a, struct sortable *b, size_t n, bool descending) {
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t low = 0; low < n; low += 2 * width) {
            size_t mid = low + width < n ? low + width : n;
            size_t high = low + 2 * width < n ? low + 2 * width : n;
            size_t x = low, y = mid;
            for (size_t k = low; k < high; k++) {
                int order = x == mid ? 1 : -1;
                if (x < mid && y < high) {
                    if (!jinja_compare(j, a[x].key, a[y].key, &order) || !jinja_step(j, 1))
                        return false;
                    if (descending) order = -order;
                }
                b[k] = order <= 0 ? a[x++] : a[y++];
            }
        }
        memcpy(a, b, n * sizeof *a);
    }
    return true;
}

/* items in the order of their keys; path and value_of_pair say what the key is. */
static struct jinja_value *sorted(struct jinja *j, const struct jinja_value *items,
        struct jinja_value *path, bool with_case, bool descending) {
    size_t n = items->list.n;
    struct jinja_value *list = jinja_sequence(j, JINJA_LIST, n);
    if (!list || n == 0) return list;
    struct sortable *a = jinja_alloc(j, n * sizeof *a), *b = jinja_alloc(j, n * sizeof *b);
    if (!a || !b) return NULL;
    for (size_t i = 0; i < n; i++) {
        a[i].item = items->list.items[i];
        a[i].key = sort_key(j, maybe_follow(j, a[i].item, path), with_case);
        if (!a[i].key) return NULL;
    }
    if (!merge_sort(j, a, b, n, descending)) return NULL;
    for (size_t i = 0; i < n; i++)
        list->list.items[i] = a[i].item;
    return list;
}

static bool flag(const struct jinja_value *arg) {
    return arg && jinja_truth(arg);
}

static struct jinja_value *filter_sort(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_value *items = jinja_iterate(j, self);
    if (!items) return NULL;
    return sorted(j, items, args->arg[2], flag(args->arg[1]), flag(args->arg[0]));
}

static struct jinja_value *filter_dictsort(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_str by = {"key", 3};
    struct jinja_value *items = filter_items(j, self, args);
    if (!items || !jinja_arg_str(j, args->arg[1], &by)) return NULL;
    struct jinja_value *path = jinja_int(j, jinja_str_is(by, "value"));
    if (!path) return NULL;
    return sorted(j, items, path, flag(args->arg[0]), flag(args->arg[2]));
}

static struct jinja_value *filter_unique(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_value *items = jinja_iterate(j, self);
    struct jinja_value *seen = jinja_list(j), *kept = jinja_list(j);
    if (!items || !seen || !kept) return NULL;
    for (size_t i = 0; i < items->list.n; i++) {
        struct jinja_value *item = items->list.items[i];
        struct jinja_value *key =
                sort_key(j, maybe_follow(j, item, args->arg[1]), flag(args->arg[0]));
        if (!key) return NULL;
        int known = jinja_relation(j, JINJA_OP_IN, key, seen);
        if (known < 0) return NULL;
        if (known) continue;
        jinja_push(j, seen, key);
        jinja_push(j, kept, item);
    }
    return j->failed ? NULL : kept;
}

static struct jinja_value *extreme(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args, bool descending) {
    struct jinja_value *items = jinja_iterate(j, self);
    if (!items) return NULL;
    items = sorted(j, items, args->arg[1], flag(args->arg[0]), descending);
    if (!items) return NULL;
    return items->list.n ? items->list.items[0] : jinja_undefined(j, "min or max", 10);
}

static struct jinja_value *filter_min(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    return extreme(j, self, args, false);
}

static struct jinja_value *filter_max(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    return extreme(j, self, args, true);
}

static struct jinja_value *filter_sum(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_value *items = jinja_iterate(j, self);
    struct jinja_value *sum = args->arg[1] ? args->arg[1] : jinja_int(j, 0);
    for (size_t i = 0; items && sum && i < items->list.n; i++) {
        struct jinja_value *item = maybe_follow(j, items->list.items[i], args->arg[0]);
        if (!item || !jinja_step(j, 1)) return NULL;
        sum = jinja_binary(j, JINJA_OP_ADD, sum, item);
    }
    return items ? sum : NULL;
}

const struct jinja_builtin jinja_list_filters[] = {
        {"attr", "name", filter_attr},
        {"count", "", filter_length},
        {"dictsort", "case_sensitive by reverse", filter_dictsort},
        {"first", "", filter_first},
        {"items", "", filter_items},
        {"join", "d attribute", filter_join},
        {"last", "", filter_last},
        {"length", "", filter_length},
        {"list", "", filter_list},
        {"map", "*", filter_map},
        {"max", "case_sensitive attribute", filter_max},
        {"min", "case_sensitive attribute", filter_min},
        {"reject", "*", filter_reject},
        {"rejectattr", "*", filter_rejectattr},
        {"reverse", "", filter_reverse},
        {"select", "*", filter_select},
        {"selectattr", "*", filter_selectattr},
        {"sort", "reverse case_sensitive attribute", filter_sort},
        {"sum", "attribute start", filter_sum},
        {"unique", "case_sensitive attribute", filter_unique},
        {NULL, NULL, NULL},
};
