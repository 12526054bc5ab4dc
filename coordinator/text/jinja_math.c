/* jinja_math.c - operators: arithmetic, joining of texts and lists, comparisons, "in".
 * Owns: nothing. Does not: evaluate operands. Runs on: the owner thread. */
#include "coordinator/text/jinja_internal.h"

#include <math.h>
#include <string.h>

static struct jinja_value *fail_types(
        struct jinja *j, const char *op, const struct jinja_value *a, const struct jinja_value *b) {
    if (a->type == JINJA_UNDEFINED) return jinja_fail_undefined(j, a);
    if (b->type == JINJA_UNDEFINED) return jinja_fail_undefined(j, b);
    return jinja_fail(j, ERR_BAD_INPUT, "the chat template has no '%s' for a %s and a %s", op,
            jinja_type_name(a), jinja_type_name(b));
}

/* a behind b's bytes: in place when a is the last text made, so that a long sum is linear. */
static struct jinja_value *join_strings(struct jinja *j, struct jinja_str a, struct jinja_str b) {
    if (b.n > j->limits.output_bytes - (a.n < j->limits.output_bytes ? a.n : 0) ||
            a.n > j->limits.output_bytes)
        return jinja_fail(j, ERR_LIMIT, "the chat template makes a text of more than %zu KiB",
                j->limits.output_bytes >> 10);
    if (a.n == 0) return jinja_str_value(j, b);
    if (b.n == 0) return jinja_str_value(j, a);
    bool last = a.bytes + a.n == j->texts.top;
    bool room = (size_t)(j->texts.end - j->texts.top) >= b.n;
    if (!jinja_step(j, (b.n + (last && room ? 0 : a.n)) / 32)) return NULL;
    char *bytes;
    if (last && room) {
        bytes = j->texts.top - a.n;
        j->texts.top += b.n;
    } else {
        bytes = jinja_alloc_text(j, a.n + b.n);
        if (!bytes) return NULL;
        memcpy(bytes, a.bytes, a.n);
    }
    memmove(bytes + a.n, b.bytes, b.n);
    return jinja_str_value(j, (struct jinja_str){bytes, a.n + b.n});
}

static struct jinja_value *join_lists(
        struct jinja *j, const struct jinja_value *a, const struct jinja_value *b) {
    struct jinja_value *out = jinja_sequence(j, a->type, a->list.n + b->list.n);
    if (!out) return NULL;
    if (a->list.n) memcpy(out->list.items, a->list.items, a->list.n * sizeof *a->list.items);
    if (b->list.n)
        memcpy(out->list.items + a->list.n, b->list.items, b->list.n * sizeof *b->list.items);
    return out;
}

static struct jinja_value *repeat(struct jinja *j, const struct jinja_value *v, int64_t times) {
    size_t n = v->type == JINJA_STRING ? v->str.n : v->list.n;
    if (times <= 0 || n == 0)
        return v->type == JINJA_STRING ? jinja_cstr(j, "") : jinja_sequence(j, v->type, 0);
    size_t max = v->type == JINJA_STRING ? j->limits.output_bytes
                                         : j->limits.memory_bytes / sizeof *v->list.items;
    if ((uint64_t)times > max / n)
        return jinja_fail(j, ERR_LIMIT, "the chat template repeats %zu things %lld times", n,
                (long long)times);
    if (v->type == JINJA_STRING) {
        struct jinja_text text = {0};
        for (int64_t i = 0; i < times; i++)
            if (!jinja_text_append(j, &text, v->str.bytes, n) || !jinja_step(j, 1)) return NULL;
        return jinja_text_value(j, &text);
    }
    struct jinja_value *out = jinja_sequence(j, v->type, n * (size_t)times);
    for (int64_t i = 0; out && i < times; i++)
        memcpy(out->list.items + (size_t)i * n, v->list.items, n * sizeof *v->list.items);
    return out;
}

static int64_t floor_div(int64_t a, int64_t b) {
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

static bool int_power(int64_t base, int64_t exponent, int64_t *out) {
    *out = 1;
    if (base == 0 || base == 1) {
        *out = exponent == 0 ? 1 : base;
        return true;
    }
    if (base == -1) {
        *out = exponent & 1 ? -1 : 1;
        return true;
    }
    for (; exponent > 0; exponent--)
        if (__builtin_mul_overflow(*out, base, out)) return false;
    return true;
}

static struct jinja_value *int_math(struct jinja *j, enum jinja_op op, int64_t a, int64_t b) {
    int64_t value = 0;
    bool fits = true;
    bool divides = op == JINJA_OP_FLOORDIV || op == JINJA_OP_MOD;
    if (divides && b == 0) return jinja_fail(j, ERR_BAD_INPUT, "the chat template divides by zero");
    if (op == JINJA_OP_ADD) fits = !__builtin_add_overflow(a, b, &value);
    if (op == JINJA_OP_SUB) fits = !__builtin_sub_overflow(a, b, &value);
    if (op == JINJA_OP_MUL) fits = !__builtin_mul_overflow(a, b, &value);
    if (op == JINJA_OP_POW) fits = int_power(a, b, &value);
    if (divides && b == -1) { /* INT64_MIN / -1 does not fit */
        fits = a != INT64_MIN || op == JINJA_OP_MOD;
        value = op == JINJA_OP_MOD || !fits ? 0 : -a;
    } else if (divides) {
        value = op == JINJA_OP_MOD ? a - floor_div(a, b) * b : floor_div(a, b);
    }
    if (!fits) return jinja_fail(j, ERR_LIMIT, "the chat template makes a number too large");
    return jinja_int(j, value);
}

static struct jinja_value *real_math(struct jinja *j, enum jinja_op op, double a, double b) {
    if ((op == JINJA_OP_DIV || op == JINJA_OP_FLOORDIV || op == JINJA_OP_MOD) && b == 0)
        return jinja_fail(j, ERR_BAD_INPUT, "the chat template divides by zero");
    switch (op) {
    case JINJA_OP_ADD:
        return jinja_float(j, a + b);
    case JINJA_OP_SUB:
        return jinja_float(j, a - b);
    case JINJA_OP_MUL:
        return jinja_float(j, a * b);
    case JINJA_OP_DIV:
        return jinja_float(j, a / b);
    case JINJA_OP_FLOORDIV:
        return jinja_float(j, floor(a / b));
    case JINJA_OP_MOD:
        return jinja_float(j, a - floor(a / b) * b);
    default:
        return jinja_float(j, pow(a, b));
    }
}

static struct jinja_value *number_math(struct jinja *j, enum jinja_op op,
        const struct jinja_value *a, const struct jinja_value *b) {
    int64_t x, y;
    bool integers = jinja_is_integer(a, &x) && jinja_is_integer(b, &y);
    if (integers && op != JINJA_OP_DIV && !(op == JINJA_OP_POW && y < 0))
        return int_math(j, op, x, y);
    return real_math(j, op, jinja_as_real(a), jinja_as_real(b));
}

struct jinja_value *jinja_binary(
        struct jinja *j, enum jinja_op op, struct jinja_value *a, struct jinja_value *b) {
    static const char *const names[] = {"+", "-", "*", "/", "//", "%", "**", "~"};
    if (op == JINJA_OP_CONCAT) {
        a = jinja_to_string(j, a);
        b = a ? jinja_to_string(j, b) : NULL;
        return b ? join_strings(j, a->str, b->str) : NULL;
    }
    if (jinja_is_number(a) && jinja_is_number(b)) return number_math(j, op, a, b);
    if (op == JINJA_OP_ADD && a->type == b->type) {
        if (a->type == JINJA_STRING) return join_strings(j, a->str, b->str);
        if (jinja_is_sequence(a)) return join_lists(j, a, b);
    }
    if (op == JINJA_OP_MUL) {
        int64_t times;
        if ((a->type == JINJA_STRING || jinja_is_sequence(a)) && jinja_is_integer(b, &times))
            return repeat(j, a, times);
        if ((b->type == JINJA_STRING || jinja_is_sequence(b)) && jinja_is_integer(a, &times))
            return repeat(j, b, times);
    }
    if (op == JINJA_OP_MOD && a->type == JINJA_STRING)
        return jinja_lacks(j, "on a string the operator", "%", 1);
    return fail_types(j, names[op], a, b);
}

static int is_in(struct jinja *j, struct jinja_value *item, struct jinja_value *of) {
    if (of->type == JINJA_UNDEFINED) return 0;
    if (of->type == JINJA_DICT) {
        struct jinja_value *found = jinja_get_key(j, of, item);
        return j->failed ? -1 : found != NULL;
    }
    if (of->type == JINJA_STRING && item->type == JINJA_STRING) {
        if (!jinja_step(j, of->str.n / 32)) return -1;
        return jinja_find(of->str, 0, item->str) != NULL;
    }
    if (!jinja_is_sequence(of)) {
        fail_types(j, "in", item, of);
        return -1;
    }
    for (size_t i = 0; i < of->list.n; i++) {
        int same = jinja_equal(j, of->list.items[i], item);
        if (same || !jinja_step(j, 1)) return same ? same : -1;
    }
    return 0;
}

int jinja_relation(
        struct jinja *j, enum jinja_op op, struct jinja_value *a, struct jinja_value *b) {
    static const char *const names[] = {"<", "<=", ">", ">="};
    int holds, order;
    switch (op) {
    case JINJA_OP_IN:
        return is_in(j, a, b);
    case JINJA_OP_NOT_IN:
        holds = is_in(j, a, b);
        return holds < 0 ? holds : !holds;
    case JINJA_OP_EQ:
        return jinja_equal(j, a, b);
    case JINJA_OP_NE:
        holds = jinja_equal(j, a, b);
        return holds < 0 ? holds : !holds;
    default:
        break;
    }
    if (a->type == JINJA_UNDEFINED || b->type == JINJA_UNDEFINED) {
        fail_types(j, names[op - JINJA_OP_LT], a, b);
        return -1;
    }
    if (jinja_is_number(a) && jinja_is_number(b) &&
            (isnan(jinja_as_real(a)) || isnan(jinja_as_real(b))))
        return 0;
    if (!jinja_compare(j, a, b, &order)) return -1;
    if (op == JINJA_OP_LT) return order < 0;
    if (op == JINJA_OP_LE) return order <= 0;
    return op == JINJA_OP_GT ? order > 0 : order >= 0;
}
