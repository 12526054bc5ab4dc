/* jinja_is.c - the tests: what may stand behind "is".
 * Owns: nothing. Does not: negate (the parser makes a "not" of it). Runs on: the owner thread. */
#include "coordinator/text/jinja_internal.h"

#include <string.h>

#define TEST(name, expression)                                                                     \
    static struct jinja_value *test_##name(                                                        \
            struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {            \
        (void)args;                                                                                \
        return jinja_bool(j, (expression));                                                        \
    }

TEST(defined, self->type != JINJA_UNDEFINED)
TEST(undefined, self->type == JINJA_UNDEFINED)
TEST(none, self->type == JINJA_NONE)
TEST(boolean, self->type == JINJA_BOOL)
TEST(true, self->type == JINJA_BOOL && self->boolean)
TEST(false, self->type == JINJA_BOOL && !self->boolean)
TEST(integer, self->type == JINJA_INT)
TEST(float, self->type == JINJA_FLOAT)
TEST(number, jinja_is_number(self))
TEST(string, self->type == JINJA_STRING)
TEST(mapping, self->type == JINJA_DICT)
TEST(callable, self->type == JINJA_FUNCTION || self->type == JINJA_MACRO)
/* As in Jinja, an undefined value counts as an empty sequence, and a dict has a length too. */
TEST(sequence, jinja_is_sequence(self) || self->type == JINJA_STRING || self->type == JINJA_DICT ||
                       self->type == JINJA_UNDEFINED)

static struct jinja_value *remainder_is(
        struct jinja *j, const struct jinja_value *self, int64_t divisor, int64_t wanted) {
    int64_t value;
    if (!jinja_is_integer(self, &value))
        return jinja_fail(
                j, ERR_BAD_INPUT, "the chat template divides a %s", jinja_type_name(self));
    if (divisor == 0) return jinja_fail(j, ERR_BAD_INPUT, "the chat template divides by zero");
    int64_t rest = divisor == -1 ? 0 : value % divisor;
    return jinja_bool(j, (rest < 0 ? -rest : rest) == wanted);
}

static struct jinja_value *test_even(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    return remainder_is(j, self, 2, 0);
}

static struct jinja_value *test_odd(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    return remainder_is(j, self, 2, 1);
}

static struct jinja_value *test_divisibleby(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    int64_t divisor = 0;
    return jinja_arg_int(j, args->arg[0], &divisor) ? remainder_is(j, self, divisor, 0) : NULL;
}

static struct jinja_value *relate(struct jinja *j, struct jinja_value *self,
        const struct jinja_args *args, enum jinja_op op) {
    if (!args->arg[0])
        return jinja_fail(j, ERR_BAD_INPUT, "the chat template compares with nothing");
    int holds = jinja_relation(j, op, self, args->arg[0]);
    return holds < 0 ? NULL : jinja_bool(j, holds);
}

#define RELATION(name, op)                                                                         \
    static struct jinja_value *test_##name(                                                        \
            struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {            \
        return relate(j, self, args, (op));                                                        \
    }

RELATION(eq, JINJA_OP_EQ)
RELATION(ne, JINJA_OP_NE)
RELATION(lt, JINJA_OP_LT)
RELATION(le, JINJA_OP_LE)
RELATION(gt, JINJA_OP_GT)
RELATION(ge, JINJA_OP_GE)
RELATION(in, JINJA_OP_IN)

static struct jinja_value *test_sameas(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    const struct jinja_value *other = args->arg[0];
    bool scalar = self->type <= JINJA_FLOAT && other && other->type == self->type;
    if (!scalar) return jinja_bool(j, self == other);
    int same = jinja_equal(j, self, other);
    return same < 0 ? NULL : jinja_bool(j, same);
}

static struct jinja_value *test_case(
        struct jinja *j, const struct jinja_value *self, enum jinja_case to) {
    if (self->type != JINJA_STRING) return jinja_bool(j, false);
    struct jinja_value *changed = jinja_recase(j, self->str, to);
    struct jinja_value *other =
            jinja_recase(j, self->str, to == JINJA_LOWER ? JINJA_UPPER : JINJA_LOWER);
    if (!changed || !other) return NULL;
    return jinja_bool(
            j, jinja_str_equal(self->str, changed->str) && !jinja_str_equal(self->str, other->str));
}

static struct jinja_value *test_lower(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    return test_case(j, self, JINJA_LOWER);
}

static struct jinja_value *test_upper(
        struct jinja *j, struct jinja_value *self, const struct jinja_args *args) {
    (void)args;
    return test_case(j, self, JINJA_UPPER);
}

const struct jinja_builtin jinja_tests[] = {
        {"!=", "other", test_ne},
        {"<", "other", test_lt},
        {"<=", "other", test_le},
        {"==", "other", test_eq},
        {">", "other", test_gt},
        {">=", "other", test_ge},
        {"boolean", "", test_boolean},
        {"callable", "", test_callable},
        {"defined", "", test_defined},
        {"divisibleby", "num", test_divisibleby},
        {"eq", "other", test_eq},
        {"equalto", "other", test_eq},
        {"even", "", test_even},
        {"false", "", test_false},
        {"float", "", test_float},
        {"ge", "other", test_ge},
        {"greaterthan", "other", test_gt},
        {"gt", "other", test_gt},
        {"in", "seq", test_in},
        {"integer", "", test_integer},
        {"iterable", "", test_sequence},
        {"le", "other", test_le},
        {"lessthan", "other", test_lt},
        {"lower", "", test_lower},
        {"lt", "other", test_lt},
        {"mapping", "", test_mapping},
        {"ne", "other", test_ne},
        {"none", "", test_none},
        {"number", "", test_number},
        {"odd", "", test_odd},
        {"sameas", "other", test_sameas},
        {"sequence", "", test_sequence},
        {"string", "", test_string},
        {"true", "", test_true},
        {"undefined", "", test_undefined},
        {"upper", "", test_upper},
        {NULL, NULL, NULL},
};
