/* jinja_value.c - what template values are: making, comparing and iterating over them.
 * Owns: nothing beyond the struct jinja. Does not: print (jinja_print.c).
 * Runs on: the owner thread. */
#include "coordinator/text/jinja_internal.h"

#include <string.h>

struct jinja_value *jinja_new_value(struct jinja *j, enum jinja_type type) {
    struct jinja_value *v = jinja_alloc(j, sizeof *v);
    if (v) v->type = type;
    return v;
}

struct jinja_value *jinja_none(struct jinja *jinja) {
    return &jinja->none;
}

struct jinja_value *jinja_bool(struct jinja *jinja, bool value) {
    return value ? &jinja->yes : &jinja->no;
}

struct jinja_value *jinja_int(struct jinja *jinja, int64_t value) {
    struct jinja_value *v = jinja_new_value(jinja, JINJA_INT);
    if (v) v->integer = value;
    return v;
}

struct jinja_value *jinja_float(struct jinja *j, double value) {
    struct jinja_value *v = jinja_new_value(j, JINJA_FLOAT);
    if (v) v->real = value;
    return v;
}

struct jinja_value *jinja_undefined(struct jinja *j, const char *bytes, size_t n) {
    struct jinja_value *v = jinja_new_value(j, JINJA_UNDEFINED);
    if (v) v->str = (struct jinja_str){bytes, n};
    return v;
}

struct jinja_value *jinja_str_value(struct jinja *j, struct jinja_str str) {
    struct jinja_value *v = jinja_new_value(j, JINJA_STRING);
    if (v) v->str = str;
    return v;
}

struct jinja_value *jinja_text_value(struct jinja *j, const struct jinja_text *text) {
    return jinja_str_value(j, (struct jinja_str){text->n ? text->bytes : "", text->n});
}

struct jinja_value *jinja_cstr(struct jinja *j, const char *text) {
    return jinja_str_value(j, (struct jinja_str){text, strlen(text)});
}

struct jinja_value *jinja_string(struct jinja *jinja, const char *bytes, size_t n) {
    if (n == 0) return jinja_cstr(jinja, "");
    char *copy = jinja_alloc_text(jinja, n);
    if (!copy) return NULL;
    memcpy(copy, bytes, n);
    return jinja_str_value(jinja, (struct jinja_str){copy, n});
}

struct jinja_value *jinja_sequence(struct jinja *j, enum jinja_type type, size_t n) {
    struct jinja_value *v = jinja_new_value(j, type);
    if (!v || n == 0) return v;
    if (!jinja_step(j, n / 8)) return NULL;
    if (n > SIZE_MAX / sizeof *v->list.items) n = SIZE_MAX / sizeof *v->list.items; /* fails */
    v->list.items = jinja_alloc(j, n * sizeof *v->list.items);
    if (!v->list.items) return NULL;
    v->list.n = v->list.capacity = n;
    return v;
}

struct jinja_value *jinja_list(struct jinja *jinja) {
    return jinja_sequence(jinja, JINJA_LIST, 0);
}

void jinja_push(struct jinja *jinja, struct jinja_value *list, struct jinja_value *item) {
    if (!list || !item) return;
    if (!jinja_grow(jinja, (void **)&list->list.items, sizeof *list->list.items, list->list.n,
                &list->list.capacity))
        return;
    list->list.items[list->list.n++] = item;
}

struct jinja_value *jinja_pair_tuple(
        struct jinja *j, struct jinja_value *a, struct jinja_value *b) {
    struct jinja_value *tuple = jinja_sequence(j, JINJA_TUPLE, 2);
    if (!tuple || !a || !b) return NULL;
    tuple->list.items[0] = a;
    tuple->list.items[1] = b;
    return tuple;
}

struct jinja_value *jinja_dict(struct jinja *jinja) {
    return jinja_new_value(jinja, JINJA_DICT);
}

void jinja_put(
        struct jinja *jinja, struct jinja_value *dict, const char *key, struct jinja_value *value) {
    if (!dict || !value) return;
    struct jinja_value *name = jinja_string(jinja, key, strlen(key));
    if (name) (void)jinja_put_key(jinja, dict, name, value); /* the error is sticky */
}

bool jinja_str_is(struct jinja_str str, const char *text) {
    size_t n = strlen(text);
    return str.n == n && memcmp(str.bytes, text, n) == 0;
}

bool jinja_str_equal(struct jinja_str a, struct jinja_str b) {
    return a.n == b.n && (a.n == 0 || memcmp(a.bytes, b.bytes, a.n) == 0);
}

bool jinja_is_number(const struct jinja_value *v) {
    return v->type == JINJA_INT || v->type == JINJA_FLOAT || v->type == JINJA_BOOL;
}

bool jinja_is_integer(const struct jinja_value *v, int64_t *out) {
    if (v->type == JINJA_BOOL) *out = v->boolean;
    if (v->type == JINJA_INT) *out = v->integer;
    return v->type == JINJA_BOOL || v->type == JINJA_INT;
}

double jinja_as_real(const struct jinja_value *v) {
    if (v->type == JINJA_FLOAT) return v->real;
    return v->type == JINJA_BOOL ? v->boolean : (double)v->integer;
}

bool jinja_is_sequence(const struct jinja_value *v) {
    return v->type == JINJA_LIST || v->type == JINJA_TUPLE;
}

/* Keys: what can be one never nests, so that a look-up is cheap. */
static bool same_key(const struct jinja_value *a, const struct jinja_value *b) {
    if (a->type == JINJA_STRING || b->type == JINJA_STRING)
        return a->type == b->type && jinja_str_equal(a->str, b->str);
    int64_t x, y;
    if (jinja_is_integer(a, &x) && jinja_is_integer(b, &y)) return x == y;
    if (jinja_is_number(a) && jinja_is_number(b)) return jinja_as_real(a) == jinja_as_real(b);
    return a->type == b->type && a->type == JINJA_NONE;
}

struct jinja_pair *jinja_find_pair(
        struct jinja *j, const struct jinja_value *dict, const struct jinja_value *key) {
    if (!jinja_step(j, dict->dict.n / 4)) return NULL;
    for (size_t i = 0; i < dict->dict.n; i++)
        if (same_key(dict->dict.pairs[i].key, key)) return &dict->dict.pairs[i];
    return NULL;
}

struct jinja_value *jinja_get_key(
        struct jinja *j, const struct jinja_value *dict, const struct jinja_value *key) {
    struct jinja_pair *pair = jinja_find_pair(j, dict, key);
    return pair ? pair->value : NULL;
}

struct jinja_value *jinja_get(
        struct jinja *j, const struct jinja_value *dict, struct jinja_str key) {
    struct jinja_value name = {.type = JINJA_STRING, .str = key};
    return jinja_get_key(j, dict, &name);
}

bool jinja_put_key(struct jinja *j, struct jinja_value *dict, struct jinja_value *key,
        struct jinja_value *value) {
    if (!key || !value) return false;
    if (key->type != JINJA_STRING && key->type != JINJA_NONE && !jinja_is_number(key)) {
        jinja_fail(j, ERR_BAD_INPUT, "the chat template uses a %s as the key of a dict",
                jinja_type_name(key));
        return false;
    }
    struct jinja_pair *pair = jinja_find_pair(j, dict, key);
    if (j->failed) return false;
    if (!pair) {
        if (!jinja_grow(j, (void **)&dict->dict.pairs, sizeof *dict->dict.pairs, dict->dict.n,
                    &dict->dict.capacity))
            return false;
        pair = &dict->dict.pairs[dict->dict.n++];
        pair->key = key;
    }
    pair->value = value;
    return true;
}

bool jinja_truth(const struct jinja_value *v) {
    switch (v->type) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
        return v->boolean;
    case JINJA_INT:
        return v->integer != 0;
    case JINJA_FLOAT:
        return v->real != 0;
    case JINJA_STRING:
        return v->str.n > 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
        return v->list.n > 0;
    case JINJA_DICT:
        return v->dict.n > 0;
    default:
        return true;
    }
}

const char *jinja_type_name(const struct jinja_value *v) {
    static const char *const names[] = {"missing value", "none value", "boolean", "number",
            "number", "text", "list", "tuple", "dict", "namespace", "loop variable", "function",
            "macro"};
    return names[v->type];
}

static int sequences_equal(
        struct jinja *j, const struct jinja_value *a, const struct jinja_value *b) {
    if (a->list.n != b->list.n) return 0;
    for (size_t i = 0; i < a->list.n; i++) {
        int same = jinja_equal(j, a->list.items[i], b->list.items[i]);
        if (same != 1) return same;
    }
    return 1;
}

static int dicts_equal(struct jinja *j, const struct jinja_value *a, const struct jinja_value *b) {
    if (a->dict.n != b->dict.n) return 0;
    for (size_t i = 0; i < a->dict.n; i++) {
        const struct jinja_value *other = jinja_get_key(j, b, a->dict.pairs[i].key);
        if (!other) return j->failed ? -1 : 0;
        int same = jinja_equal(j, a->dict.pairs[i].value, other);
        if (same != 1) return same;
    }
    return 1;
}

int jinja_equal(struct jinja *j, const struct jinja_value *a, const struct jinja_value *b) {
    if (a == b) return a->type != JINJA_FLOAT || a->real == b->real;
    if (jinja_is_number(a) && jinja_is_number(b)) return same_key(a, b);
    if (a->type != b->type) return 0;
    if (!jinja_enter(j)) return -1;
    int same = 0;
    switch (a->type) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        same = 1;
        break;
    case JINJA_STRING:
        same = jinja_step(j, a->str.n / 64) ? jinja_str_equal(a->str, b->str) : -1;
        break;
    case JINJA_LIST:
    case JINJA_TUPLE:
        same = sequences_equal(j, a, b);
        break;
    case JINJA_DICT:
        same = dicts_equal(j, a, b);
        break;
    default:
        break;
    }
    jinja_leave(j);
    return same;
}

static int order_of(double a, double b) {
    return a < b ? -1 : a > b;
}

static int order_of_strings(struct jinja_str a, struct jinja_str b) {
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n ? memcmp(a.bytes, b.bytes, n) : 0; /* the order of UTF-8 is that of characters */
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

static bool compare_sequences(
        struct jinja *j, const struct jinja_value *a, const struct jinja_value *b, int *out_order) {
    size_t n = a->list.n < b->list.n ? a->list.n : b->list.n;
    for (size_t i = 0; i < n; i++) {
        int same = jinja_equal(j, a->list.items[i], b->list.items[i]);
        if (same < 0) return false;
        if (!same) return jinja_compare(j, a->list.items[i], b->list.items[i], out_order);
    }
    *out_order = (a->list.n > b->list.n) - (a->list.n < b->list.n);
    return true;
}

bool jinja_compare(
        struct jinja *j, const struct jinja_value *a, const struct jinja_value *b, int *out_order) {
    int64_t x, y;
    if (jinja_is_integer(a, &x) && jinja_is_integer(b, &y)) {
        *out_order = (x > y) - (x < y);
        return true;
    }
    if (jinja_is_number(a) && jinja_is_number(b)) {
        *out_order = order_of(jinja_as_real(a), jinja_as_real(b));
        return true;
    }
    if (a->type == JINJA_STRING && b->type == JINJA_STRING) {
        *out_order = order_of_strings(a->str, b->str);
        return jinja_step(j, a->str.n / 64);
    }
    if (jinja_is_sequence(a) && a->type == b->type) {
        if (!jinja_enter(j)) return false;
        bool ok = compare_sequences(j, a, b, out_order);
        jinja_leave(j);
        return ok;
    }
    jinja_fail(j, ERR_BAD_INPUT, "the chat template compares a %s with a %s", jinja_type_name(a),
            jinja_type_name(b));
    return false;
}

static struct jinja_value *characters(struct jinja *j, struct jinja_str str) {
    struct jinja_value *list = jinja_sequence(j, JINJA_LIST, jinja_n_chars(str));
    if (!list) return NULL;
    size_t at = 0;
    for (size_t i = 0; i < list->list.n; i++) {
        size_t n = jinja_char(str, at, NULL);
        struct jinja_value *item = jinja_str_value(j, (struct jinja_str){str.bytes + at, n});
        if (!item) return NULL;
        list->list.items[i] = item;
        at += n;
    }
    return list;
}

static struct jinja_value *keys(struct jinja *j, const struct jinja_value *dict) {
    struct jinja_value *list = jinja_sequence(j, JINJA_LIST, dict->dict.n);
    if (!list) return NULL;
    for (size_t i = 0; i < dict->dict.n; i++)
        list->list.items[i] = dict->dict.pairs[i].key;
    return list;
}

struct jinja_value *jinja_iterate(struct jinja *j, struct jinja_value *v) {
    switch (v->type) {
    case JINJA_LIST:
    case JINJA_TUPLE:
        return v;
    case JINJA_UNDEFINED:
        return jinja_list(j);
    case JINJA_STRING:
        return characters(j, v->str);
    case JINJA_DICT:
        return keys(j, v);
    default:
        return jinja_fail(
                j, ERR_BAD_INPUT, "the chat template walks through a %s", jinja_type_name(v));
    }
}
