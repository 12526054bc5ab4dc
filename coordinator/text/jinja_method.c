/* jinja_method.c - the methods of dicts, lists and the loop variable, and how methods are found.
 * Owns: nothing. Does not: strings (jinja_str_method.c). Runs on: the owner thread. */
#include "coordinator/text/jinja_internal.h"

#include <string.h>

static struct jinja_value *method_items(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    struct jinja_value *list = jinja_sequence(j, JINJA_LIST, self->dict.n);
    if (!list) return NULL;
    for (size_t i = 0; i < self->dict.n; i++) {
        struct jinja_pair pair = self->dict.pairs[i];
        struct jinja_value *tuple = jinja_pair_tuple(j, pair.key, pair.value);
        if (!tuple || !jinja_step(j, 1)) return NULL;
        list->list.items[i] = tuple;
    }
    return list;
}

static struct jinja_value *method_keys(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    return jinja_iterate(j, self);
}

static struct jinja_value *method_values(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    struct jinja_value *list = jinja_sequence(j, JINJA_LIST, self->dict.n);
    if (!list) return NULL;
    for (size_t i = 0; i < self->dict.n; i++)
        list->list.items[i] = self->dict.pairs[i].value;
    return list;
}

static struct jinja_value *method_get(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    if (!args->arg[0])
        return jinja_fail(j, ERR_BAD_INPUT, "the chat template calls get() without a key");
    struct jinja_value *found = jinja_get_key(j, self, args->arg[0]);
    if (found || j->failed) return found;
    return args->arg[1] ? args->arg[1] : jinja_none(j);
}

static struct jinja_value *method_copy(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    struct jinja_value *copy = jinja_dict(j);
    for (size_t i = 0; copy && i < self->dict.n; i++) {
        struct jinja_pair pair = self->dict.pairs[i];
        if (!jinja_put_key(j, copy, pair.key, pair.value)) return NULL;
    }
    return copy;
}

static struct jinja_value *method_update(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_value *other = args->arg[0];
    if (!other || other->type != JINJA_DICT)
        return jinja_fail(j, ERR_BAD_INPUT, "the chat template updates a dict with no dict");
    for (size_t i = 0, n = other->dict.n; i < n; i++)
        if (!jinja_put_key(j, self, other->dict.pairs[i].key, other->dict.pairs[i].value))
            return NULL;
    return jinja_none(j);
}

static struct jinja_value *method_dict_pop(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    struct jinja_value *key = args->arg[0];
    if (!key) return jinja_fail(j, ERR_BAD_INPUT, "the chat template calls pop() without a key");
    struct jinja_pair *pair = jinja_find_pair(j, self, key);
    if (j->failed) return NULL;
    if (!pair && args->arg[1]) return args->arg[1];
    if (!pair) return jinja_fail(j, ERR_BAD_INPUT, "the chat template pops a key that is missing");
    struct jinja_value *value = pair->value;
    self->dict.n--;
    size_t n_behind = self->dict.n - (size_t)(pair - self->dict.pairs);
    memmove(pair, pair + 1, n_behind * sizeof *pair);
    return value;
}

static struct jinja_value *method_append(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    if (!args->arg[0]) return jinja_fail(j, ERR_BAD_INPUT, "the chat template appends nothing");
    jinja_push(j, self, args->arg[0]);
    return j->failed ? NULL : jinja_none(j);
}

static struct jinja_value *method_extend(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    if (!args->arg[0]) return jinja_fail(j, ERR_BAD_INPUT, "the chat template appends nothing");
    struct jinja_value *more = jinja_iterate(j, args->arg[0]);
    if (!more) return NULL;
    for (size_t i = 0, n = more->list.n; i < n; i++) {
        jinja_push(j, self, more->list.items[i]);
        if (!jinja_step(j, 1)) return NULL;
    }
    return j->failed ? NULL : jinja_none(j);
}

static struct jinja_value *method_list_pop(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    int64_t at = -1;
    if (!jinja_arg_int(j, args->arg[0], &at)) return NULL;
    if (at < 0) at += (int64_t)self->list.n;
    if (at < 0 || at >= (int64_t)self->list.n)
        return jinja_fail(j, ERR_BAD_INPUT, "the chat template pops from behind a list's end");
    struct jinja_value *item = self->list.items[at];
    size_t n_behind = self->list.n - (size_t)at - 1;
    if (!jinja_step(j, n_behind / 32)) return NULL;
    memmove(self->list.items + at, self->list.items + at + 1, n_behind * sizeof item);
    self->list.n--;
    return item;
}

static struct jinja_value *method_insert(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    int64_t at = 0, n = (int64_t)self->list.n;
    if (!args->arg[1] || !jinja_arg_int(j, args->arg[0], &at))
        return jinja_fail(j, ERR_BAD_INPUT, "the chat template inserts nothing");
    if (at < 0) at = at + n < 0 ? 0 : at + n;
    if (at > n) at = n;
    jinja_push(j, self, args->arg[1]);
    if (j->failed || !jinja_step(j, (uint64_t)(n - at) / 32)) return NULL;
    memmove(self->list.items + at + 1, self->list.items + at,
            (size_t)(n - at) * sizeof *self->list.items);
    self->list.items[at] = args->arg[1];
    return jinja_none(j);
}

static struct jinja_value *method_list_index(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    for (size_t i = 0; args->arg[0] && i < self->list.n; i++) {
        int same = jinja_equal(j, self->list.items[i], args->arg[0]);
        if (same < 0) return NULL;
        if (same) return jinja_int(j, (int64_t)i);
    }
    return jinja_fail(j, ERR_BAD_INPUT, "the chat template seeks what is not in a list");
}

static struct jinja_value *method_list_count(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    int64_t n = 0;
    for (size_t i = 0; args->arg[0] && i < self->list.n; i++) {
        int same = jinja_equal(j, self->list.items[i], args->arg[0]);
        if (same < 0) return NULL;
        n += same;
    }
    return jinja_int(j, n);
}

static struct jinja_value *method_cycle(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    if (args->n_pos == 0)
        return jinja_fail(j, ERR_BAD_INPUT, "the chat template cycles through nothing");
    return args->pos[self->loop.index % args->n_pos];
}

static const struct jinja_builtin dict_methods[] = {
        {"copy", "", method_copy},
        {"get", "key default", method_get},
        {"items", "", method_items},
        {"keys", "", method_keys},
        {"pop", "key default", method_dict_pop},
        {"update", "other", method_update},
        {"values", "", method_values},
        {NULL, NULL, NULL},
};

static const struct jinja_builtin list_methods[] = {
        {"append", "item", method_append},
        {"count", "item", method_list_count},
        {"extend", "items", method_extend},
        {"index", "item", method_list_index},
        {"insert", "index item", method_insert},
        {"pop", "index", method_list_pop},
        {NULL, NULL, NULL},
};

static const struct jinja_builtin loop_methods[] = {
        {"cycle", "*", method_cycle},
        {NULL, NULL, NULL},
};

const struct jinja_builtin *jinja_find_method(const struct jinja_value *of, struct jinja_str name) {
    const struct jinja_builtin *table = NULL;
    if (of->type == JINJA_STRING) table = jinja_str_methods;
    if (of->type == JINJA_DICT) table = dict_methods;
    if (of->type == JINJA_LIST) table = list_methods;
    if (of->type == JINJA_LOOP) table = loop_methods;
    for (; table && table->name; table++)
        if (jinja_str_is(name, table->name)) return table;
    return NULL;
}

bool jinja_lacks_method(const struct jinja_value *of, struct jinja_str name) {
    static const char *const of_str[] = {"casefold", "center", "encode", "expandtabs", "format",
            "format_map", "index", "isalnum", "isascii", "isdecimal", "islower", "isnumeric",
            "istitle", "isupper", "ljust", "partition", "rindex", "rjust", "rpartition", "swapcase",
            "title", "translate", "zfill", NULL};
    static const char *const of_dict[] = {"clear", "fromkeys", "popitem", "setdefault", NULL};
    static const char *const of_list[] = {"clear", "copy", "remove", "reverse", "sort", NULL};
    static const char *const of_tuple[] = {"count", "index", NULL};
    static const char *const of_loop[] = {"changed", NULL};
    const char *const *names = NULL;
    if (of->type == JINJA_STRING) names = of_str;
    if (of->type == JINJA_DICT) names = of_dict;
    if (of->type == JINJA_LIST) names = of_list;
    if (of->type == JINJA_TUPLE) names = of_tuple;
    if (of->type == JINJA_LOOP) names = of_loop;
    for (; names && *names; names++)
        if (jinja_str_is(name, *names)) return true;
    return false;
}
