/* jinja_eval.c - what expressions are worth.
 * Owns: nothing. Does not: arithmetic (jinja_math.c), calls (jinja_call.c), statements.
 * Runs on: the owner thread. */
#include "coordinator/text/jinja_internal.h"

#include "proto/base/checked.h"

#include <string.h>

struct jinja_value *jinja_lookup(struct jinja *j, struct jinja_str name) {
    for (const struct jinja_scope *scope = j->scope; scope; scope = scope->parent) {
        if (!jinja_step(j, scope->n / 16)) return NULL;
        for (size_t i = scope->n; i-- > 0;)
            if (jinja_str_equal(scope->vars[i].name, name)) return scope->vars[i].value;
    }
    for (const struct jinja_builtin *f = jinja_functions; f->name; f++) {
        if (!jinja_str_is(name, f->name)) continue;
        struct jinja_value *v = jinja_new_value(j, JINJA_FUNCTION);
        if (v) v->function.builtin = f;
        return v;
    }
    return NULL;
}

void *jinja_fail_undefined(struct jinja *j, const struct jinja_value *v) {
    return jinja_fail(j, ERR_BAD_INPUT, "the chat template needs '%.*s', which is undefined",
            (int)min_u64(v->str.n, 100), v->str.bytes);
}

static struct jinja_value *loop_attr(
        struct jinja *j, const struct jinja_loop *loop, struct jinja_str name) {
    int64_t at = (int64_t)loop->index, n = (int64_t)loop->n;
    if (jinja_str_is(name, "index0")) return jinja_int(j, at);
    if (jinja_str_is(name, "index")) return jinja_int(j, at + 1);
    if (jinja_str_is(name, "first")) return jinja_bool(j, at == 0);
    if (jinja_str_is(name, "last")) return jinja_bool(j, at + 1 == n);
    if (jinja_str_is(name, "length")) return jinja_int(j, n);
    if (jinja_str_is(name, "revindex")) return jinja_int(j, n - at);
    if (jinja_str_is(name, "revindex0")) return jinja_int(j, n - at - 1);
    if (jinja_str_is(name, "depth")) return jinja_int(j, loop->depth);
    if (jinja_str_is(name, "depth0")) return jinja_int(j, (int64_t)loop->depth - 1);
    if (jinja_str_is(name, "previtem") && at > 0) return loop->items[at - 1];
    if (jinja_str_is(name, "nextitem") && at + 1 < n) return loop->items[at + 1];
    return jinja_undefined(j, name.bytes, name.n);
}

struct jinja_value *jinja_attr(struct jinja *j, struct jinja_value *of, struct jinja_str name) {
    struct jinja_value *found = NULL;
    if (of->type == JINJA_UNDEFINED) return jinja_fail_undefined(j, of);
    if (of->type == JINJA_LOOP) return loop_attr(j, &of->loop, name);
    if (of->type == JINJA_DICT || of->type == JINJA_NAMESPACE) found = jinja_get(j, of, name);
    if (found || j->failed) return found;
    return jinja_undefined(j, name.bytes, name.n);
}

static struct jinja_value *no_element(struct jinja *j, int64_t at) {
    char name[40];
    int n = snprintf(name, sizeof name, "element %lld", (long long)at);
    struct jinja_value *str = jinja_string(j, name, (size_t)n);
    return str ? jinja_undefined(j, str->str.bytes, str->str.n) : NULL;
}

static struct jinja_value *character(struct jinja *j, struct jinja_str str, int64_t at) {
    if (!jinja_step(j, str.n / 4)) return NULL;
    int64_t left = at < 0 ? at + (int64_t)jinja_n_chars(str) : at;
    for (size_t i = 0; left >= 0 && i < str.n; left--) {
        size_t n = jinja_char(str, i, NULL);
        if (left == 0) return jinja_str_value(j, (struct jinja_str){str.bytes + i, n});
        i += n;
    }
    return no_element(j, at);
}

struct jinja_value *jinja_index(struct jinja *j, struct jinja_value *of, struct jinja_value *key) {
    int64_t at;
    if (of->type == JINJA_UNDEFINED) return jinja_fail_undefined(j, of);
    if (of->type == JINJA_DICT || of->type == JINJA_NAMESPACE) {
        struct jinja_value *found = jinja_get_key(j, of, key);
        if (found || j->failed) return found;
    } else if (of->type == JINJA_LOOP && key->type == JINJA_STRING) {
        return loop_attr(j, &of->loop, key->str);
    } else if (jinja_is_integer(key, &at)) {
        if (of->type == JINJA_STRING) return character(j, of->str, at);
        if (jinja_is_sequence(of)) {
            int64_t place = at < 0 ? at + (int64_t)of->list.n : at;
            if (place >= 0 && place < (int64_t)of->list.n) return of->list.items[place];
        }
    }
    if (jinja_is_integer(key, &at)) return no_element(j, at);
    if (key->type == JINJA_STRING) return jinja_undefined(j, key->str.bytes, key->str.n);
    return jinja_undefined(j, "an element", 10);
}

/* A slice's bounds as Python clips them: first, step and how many. */
static bool slice_bounds(struct jinja *j, struct jinja_value **part, int64_t n, int64_t *out_start,
        int64_t *out_step, size_t *out_n) {
    int64_t bound[3] = {0, 0, 1};
    bool given[3];
    for (size_t i = 0; i < 3; i++) {
        given[i] = part[i] && part[i]->type != JINJA_NONE;
        if (given[i] && !jinja_arg_int(j, part[i], &bound[i])) return false;
    }
    int64_t step = bound[2];
    if (step == 0) {
        jinja_fail(j, ERR_BAD_INPUT, "the chat template slices with step 0");
        return false;
    }
    int64_t low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1;
    for (size_t i = 0; i < 2; i++) {
        if (!given[i]) {
            bound[i] = (i == 0) == (step > 0) ? low : high;
            continue;
        }
        if (bound[i] < 0) bound[i] += n;
        if (bound[i] < low) bound[i] = low;
        if (bound[i] > high) bound[i] = high;
    }
    *out_start = bound[0];
    *out_step = step;
    uint64_t span = step > 0 ? (uint64_t)(bound[1] - bound[0]) : (uint64_t)(bound[0] - bound[1]);
    uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    bool empty = step > 0 ? bound[1] <= bound[0] : bound[0] <= bound[1];
    *out_n = empty ? 0 : (size_t)((span - 1) / stride + 1);
    return true;
}

static struct jinja_value *slice_string(
        struct jinja *j, struct jinja_str str, struct jinja_value **part) {
    int64_t start, step;
    size_t n;
    if (!jinja_step(j, str.n / 4)) return NULL;
    if (!slice_bounds(j, part, (int64_t)jinja_n_chars(str), &start, &step, &n)) return NULL;
    if (n == 0) return jinja_cstr(j, "");
    if (step == 1) {
        size_t from = 0;
        for (int64_t i = 0; i < start; i++)
            from += jinja_char(str, from, NULL);
        size_t to = from;
        for (size_t i = 0; i < n; i++)
            to += jinja_char(str, to, NULL);
        return jinja_str_value(j, (struct jinja_str){str.bytes + from, to - from});
    }
    struct jinja_value v = {.type = JINJA_STRING, .str = str};
    struct jinja_value *list = jinja_iterate(j, &v);
    if (!list || !jinja_step(j, n)) return NULL;
    struct jinja_text text = {0};
    for (size_t i = 0; i < n; i++) {
        struct jinja_str one = list->list.items[start + (int64_t)i * step]->str;
        if (!jinja_text_append(j, &text, one.bytes, one.n)) return NULL;
    }
    return jinja_text_value(j, &text);
}

struct jinja_value *jinja_slice(
        struct jinja *j, struct jinja_value *of, struct jinja_value **part) {
    if (of->type == JINJA_UNDEFINED) return jinja_fail_undefined(j, of);
    if (of->type == JINJA_STRING) return slice_string(j, of->str, part);
    if (!jinja_is_sequence(of)) return jinja_undefined(j, "a slice", 7);
    int64_t start, step;
    size_t n;
    if (!slice_bounds(j, part, (int64_t)of->list.n, &start, &step, &n)) return NULL;
    struct jinja_value *out = jinja_sequence(j, of->type, n);
    for (size_t i = 0; out && i < n; i++)
        out->list.items[i] = of->list.items[start + (int64_t)i * step];
    return out;
}

static struct jinja_value *eval_slice(struct jinja *j, const struct jinja_node *node) {
    struct jinja_value *of = jinja_eval(j, node->a);
    struct jinja_value *part[3] = {NULL};
    for (size_t i = 0; of && i < 3; i++) {
        if (!node->list[i]) continue;
        part[i] = jinja_eval(j, node->list[i]);
        if (!part[i]) return NULL;
    }
    return of ? jinja_slice(j, of, part) : NULL;
}

static struct jinja_value *eval_sequence(struct jinja *j, const struct jinja_node *node) {
    enum jinja_type type = node->kind == JINJA_N_LIST ? JINJA_LIST : JINJA_TUPLE;
    struct jinja_value *list = jinja_sequence(j, type, node->n_list);
    for (size_t i = 0; list && i < node->n_list; i++) {
        list->list.items[i] = jinja_eval(j, node->list[i]);
        if (!list->list.items[i]) return NULL;
    }
    return list;
}

static struct jinja_value *eval_dict(struct jinja *j, const struct jinja_node *node) {
    struct jinja_value *dict = jinja_dict(j);
    for (size_t i = 0; dict && i < node->n_list; i += 2) {
        struct jinja_value *key = jinja_eval(j, node->list[i]);
        struct jinja_value *value = key ? jinja_eval(j, node->list[i + 1]) : NULL;
        if (!value || !jinja_put_key(j, dict, key, value)) return NULL;
    }
    return dict;
}

static struct jinja_value *eval_compare(struct jinja *j, const struct jinja_node *node) {
    struct jinja_value *left = jinja_eval(j, node->a);
    for (size_t i = 0; left && i < node->n_list; i++) {
        const struct jinja_node *part = node->list[i];
        struct jinja_value *right = jinja_eval(j, part->a);
        if (!right) return NULL;
        j->line = part->line;
        int holds = jinja_relation(j, part->op, left, right);
        if (holds < 0) return NULL;
        if (!holds) return jinja_bool(j, false);
        left = right;
    }
    return left ? jinja_bool(j, true) : NULL;
}

static struct jinja_value *eval_cond(struct jinja *j, const struct jinja_node *node) {
    struct jinja_value *condition = jinja_eval(j, node->a);
    if (!condition) return NULL;
    if (jinja_truth(condition)) return jinja_eval(j, node->b);
    return node->c ? jinja_eval(j, node->c) : &j->undefined;
}

static struct jinja_value *eval_logic(struct jinja *j, const struct jinja_node *node) {
    struct jinja_value *left = jinja_eval(j, node->a);
    if (!left) return NULL;
    if (node->kind == JINJA_N_NOT) return jinja_bool(j, !jinja_truth(left));
    bool decided = jinja_truth(left) == (node->kind == JINJA_N_OR);
    return decided ? left : jinja_eval(j, node->b);
}

static struct jinja_value *eval_name(struct jinja *j, const struct jinja_node *node) {
    struct jinja_value *found = jinja_lookup(j, node->name);
    if (found || j->failed) return found;
    return jinja_undefined(j, node->name.bytes, node->name.n);
}

/* Expressions with one or two operands that are always evaluated. */
static struct jinja_value *eval_operands(struct jinja *j, const struct jinja_node *node) {
    struct jinja_value *a = jinja_eval(j, node->a);
    struct jinja_value *b = a && node->b ? jinja_eval(j, node->b) : a;
    if (!b) return NULL;
    j->line = node->line;
    switch (node->kind) {
    case JINJA_N_ATTR:
        return jinja_attr(j, a, node->name);
    case JINJA_N_INDEX:
        return jinja_index(j, a, b);
    case JINJA_N_BINARY:
        return jinja_binary(j, node->op, a, b);
    case JINJA_N_FILTER:
        return jinja_eval_filter(j, node, a);
    case JINJA_N_TEST:
        return jinja_eval_test(j, node, a);
    default: /* JINJA_N_SIGN: 0 + a, 0 - a */
        if (a->type == JINJA_FLOAT)
            return jinja_float(j, node->op == JINJA_OP_SUB ? -a->real : a->real);
        return jinja_binary(j, node->op, &(struct jinja_value){.type = JINJA_INT}, a);
    }
}

static struct jinja_value *eval_inner(struct jinja *j, const struct jinja_node *node) {
    switch (node->kind) {
    case JINJA_N_CONST:
        return node->value;
    case JINJA_N_NAME:
        return eval_name(j, node);
    case JINJA_N_LIST:
    case JINJA_N_TUPLE:
        return eval_sequence(j, node);
    case JINJA_N_DICT:
        return eval_dict(j, node);
    case JINJA_N_SLICE:
        return eval_slice(j, node);
    case JINJA_N_CALL:
        return jinja_eval_call(j, node);
    case JINJA_N_NOT:
    case JINJA_N_AND:
    case JINJA_N_OR:
        return eval_logic(j, node);
    case JINJA_N_COMPARE:
        return eval_compare(j, node);
    case JINJA_N_COND:
        return eval_cond(j, node);
    default:
        return eval_operands(j, node);
    }
}

struct jinja_value *jinja_eval(struct jinja *j, const struct jinja_node *node) {
    if (!jinja_enter(j)) return NULL;
    j->line = node->line;
    struct jinja_value *v = eval_inner(j, node);
    jinja_leave(j);
    return v;
}
