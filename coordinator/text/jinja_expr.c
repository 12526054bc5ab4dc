/* jinja_expr.c - expressions: tokens to nodes, by recursive descent with the precedence of Jinja:
 *   if-else, or, and, not, comparisons, + -, ~, * / // %, **, sign, postfix, filters and tests
 * Owns: nothing. Does not: look up names, filters or tests; that happens when they are reached, so
 * that a template may mention what we lack in a branch that is not taken.
 * Runs on: the owner thread. */
#include "coordinator/text/jinja_internal.h"

#include "proto/base/checked.h"

#include <string.h>

static struct jinja_node *parse_or(struct jinja_parser *p);
static struct jinja_node *parse_unary(struct jinja_parser *p, bool with_filters);

struct jinja_node *jinja_new_node(struct jinja_parser *p, enum jinja_node_kind kind) {
    struct jinja_node *node = jinja_alloc(p->j, sizeof *node);
    if (!node) return NULL;
    node->kind = kind;
    node->line = p->token.line;
    return node;
}

bool jinja_node_push(struct jinja_parser *p, struct jinja_node *node, struct jinja_node *item) {
    if (!node || !item) return false;
    if (!jinja_grow(
                p->j, (void **)&node->list, sizeof *node->list, node->n_list, &node->list_capacity))
        return false;
    node->list[node->n_list++] = item;
    return true;
}

bool jinja_advance(struct jinja_parser *p) {
    p->token = p->next;
    if (!jinja_lex(&p->lexer, &p->next)) return false;
    p->j->line = p->token.line;
    return jinja_step(p->j, 1);
}

bool jinja_at_op(const struct jinja_parser *p, const char *op) {
    return p->token.kind == JINJA_T_OP && jinja_str_is(p->token.str, op);
}

bool jinja_at_name(const struct jinja_parser *p, const char *name) {
    return p->token.kind == JINJA_T_NAME && jinja_str_is(p->token.str, name);
}

void *jinja_unexpected(struct jinja_parser *p, const char *wanted) {
    const struct jinja_token *t = &p->token;
    struct jinja_str got = t->str;
    if (t->kind == JINJA_T_PRINT_END) got = (struct jinja_str){"}}", 2};
    if (t->kind == JINJA_T_BLOCK_END) got = (struct jinja_str){"%}", 2};
    if (t->kind == JINJA_T_END) got = (struct jinja_str){"the end", 7};
    if (t->kind == JINJA_T_INT || t->kind == JINJA_T_FLOAT) got = (struct jinja_str){"a number", 8};
    p->j->line = t->line;
    return jinja_fail(p->j, ERR_UNSUPPORTED,
            "the chat template cannot be read: %s expected instead of '%.*s'", wanted,
            (int)min_u64(got.n, 60), got.bytes ? got.bytes : "");
}

bool jinja_expect_op(struct jinja_parser *p, const char *op) {
    if (jinja_at_op(p, op)) return jinja_advance(p);
    char wanted[8];
    snprintf(wanted, sizeof wanted, "'%.3s'", op);
    jinja_unexpected(p, wanted);
    return false;
}

static bool skip_name(struct jinja_parser *p, const char *name, bool *out_found) {
    *out_found = jinja_at_name(p, name);
    return !*out_found || jinja_advance(p);
}

static struct jinja_node *two(struct jinja_parser *p, enum jinja_node_kind kind, int line,
        struct jinja_node *a, struct jinja_node *b) {
    if (!a || !b) return NULL;
    struct jinja_node *node = jinja_new_node(p, kind);
    if (!node) return NULL;
    node->line = line;
    node->a = a;
    node->b = b;
    return node;
}

static struct jinja_node *constant(struct jinja_parser *p, struct jinja_value *value) {
    struct jinja_node *node = jinja_new_node(p, JINJA_N_CONST);
    if (!node || !value) return NULL;
    node->value = value;
    return node;
}

static struct jinja_node *parse_strings(struct jinja_parser *p) {
    struct jinja_text text = {0};
    struct jinja_str str = p->token.str;
    if (!jinja_advance(p)) return NULL;
    if (p->token.kind != JINJA_T_STRING) return constant(p, jinja_str_value(p->j, str));
    if (!jinja_text_append(p->j, &text, str.bytes, str.n)) return NULL;
    while (p->token.kind == JINJA_T_STRING) {
        str = p->token.str;
        if (!jinja_text_append(p->j, &text, str.bytes, str.n) || !jinja_advance(p)) return NULL;
    }
    return constant(p, jinja_text_value(p->j, &text));
}

static struct jinja_node *parse_number(struct jinja_parser *p) {
    struct jinja_value *value = p->token.kind == JINJA_T_INT ? jinja_int(p->j, p->token.integer)
                                                             : jinja_float(p->j, p->token.real);
    struct jinja_node *node = constant(p, value);
    return node && jinja_advance(p) ? node : NULL;
}

static struct jinja_node *parse_name(struct jinja_parser *p) {
    struct jinja_str name = p->token.str;
    struct jinja_value *value = NULL;
    if (jinja_str_is(name, "true") || jinja_str_is(name, "True")) value = jinja_bool(p->j, true);
    if (jinja_str_is(name, "false") || jinja_str_is(name, "False")) value = jinja_bool(p->j, false);
    if (jinja_str_is(name, "none") || jinja_str_is(name, "None")) value = jinja_none(p->j);
    struct jinja_node *node = value ? constant(p, value) : jinja_new_node(p, JINJA_N_NAME);
    if (!node || !jinja_advance(p)) return NULL;
    node->name = name;
    return node;
}

/* [a, b] and {a: b}: everything up to `end`, with an optional comma at the end. */
static struct jinja_node *parse_display(
        struct jinja_parser *p, enum jinja_node_kind kind, const char *end) {
    struct jinja_node *node = jinja_new_node(p, kind);
    if (!node || !jinja_advance(p)) return NULL;
    while (!jinja_at_op(p, end)) {
        if (node->n_list && !jinja_expect_op(p, ",")) return NULL;
        if (jinja_at_op(p, end)) break;
        if (!jinja_node_push(p, node, jinja_parse_expr(p, true))) return NULL;
        if (kind != JINJA_N_DICT) continue;
        if (!jinja_expect_op(p, ":")) return NULL;
        if (!jinja_node_push(p, node, jinja_parse_expr(p, true))) return NULL;
    }
    return jinja_advance(p) ? node : NULL;
}

static struct jinja_node *parse_primary(struct jinja_parser *p) {
    switch (p->token.kind) {
    case JINJA_T_NAME:
        return parse_name(p);
    case JINJA_T_STRING:
        return parse_strings(p);
    case JINJA_T_INT:
    case JINJA_T_FLOAT:
        return parse_number(p);
    default:
        break;
    }
    if (jinja_at_op(p, "[")) return parse_display(p, JINJA_N_LIST, "]");
    if (jinja_at_op(p, "{")) return parse_display(p, JINJA_N_DICT, "}");
    if (!jinja_at_op(p, "(")) return jinja_unexpected(p, "an expression");
    if (!jinja_advance(p)) return NULL;
    struct jinja_node *node =
            jinja_at_op(p, ")") ? jinja_new_node(p, JINJA_N_TUPLE) : jinja_parse_tuple(p, true);
    return node && jinja_expect_op(p, ")") ? node : NULL;
}

/* The arguments of a call, filter or test, into node->list. */
static bool parse_args(struct jinja_parser *p, struct jinja_node *node) {
    bool keywords = false;
    if (!jinja_advance(p)) return false;
    for (size_t n = 0; !jinja_at_op(p, ")"); n++) {
        if (n && !jinja_expect_op(p, ",")) return false;
        if (jinja_at_op(p, ")")) break;
        if (jinja_at_op(p, "*") || jinja_at_op(p, "**")) {
            jinja_lacks(p->j, "the argument form", p->token.str.bytes, p->token.str.n);
            return false;
        }
        bool named = p->token.kind == JINJA_T_NAME && p->next.kind == JINJA_T_OP &&
                     jinja_str_is(p->next.str, "=");
        if (!named && keywords) {
            jinja_unexpected(p, "a named argument");
            return false;
        }
        struct jinja_node *item;
        if (named) {
            item = jinja_new_node(p, JINJA_N_KEYWORD);
            if (!item) return false;
            item->name = p->token.str;
            if (!jinja_advance(p) || !jinja_advance(p)) return false;
            item->a = jinja_parse_expr(p, true);
            if (!item->a) return false;
            keywords = true;
        } else {
            item = jinja_parse_expr(p, true);
        }
        if (!jinja_node_push(p, node, item)) return false;
    }
    return jinja_advance(p);
}

/* [a], [a:b], [a:b:c] behind a "[". */
static struct jinja_node *parse_index(struct jinja_parser *p, struct jinja_node *of) {
    struct jinja_node *node = two(p, JINJA_N_INDEX, p->token.line, of, of);
    if (!node || !jinja_advance(p)) return NULL;
    struct jinja_node *part[3] = {NULL};
    size_t n = 0;
    while (!jinja_at_op(p, "]")) {
        if (jinja_at_op(p, ":") && n < 2) {
            n++;
            if (!jinja_advance(p)) return NULL;
        } else if (part[n]) {
            return jinja_unexpected(p, "']'");
        } else {
            part[n] = jinja_parse_expr(p, true);
            if (!part[n]) return NULL;
        }
    }
    if (n == 0) {
        if (!part[0]) return jinja_unexpected(p, "an index");
        node->b = part[0];
        return jinja_advance(p) ? node : NULL;
    }
    node->kind = JINJA_N_SLICE;
    node->b = NULL;
    node->list = jinja_alloc(p->j, sizeof part);
    if (!node->list) return NULL;
    memcpy(node->list, part, sizeof part);
    node->n_list = 3;
    return jinja_advance(p) ? node : NULL;
}

static struct jinja_node *parse_attr(struct jinja_parser *p, struct jinja_node *of) {
    if (!jinja_advance(p)) return NULL;
    if (p->token.kind == JINJA_T_INT) {
        int line = p->token.line;
        return two(p, JINJA_N_INDEX, line, of, parse_number(p));
    }
    if (p->token.kind != JINJA_T_NAME) return jinja_unexpected(p, "an attribute's name");
    struct jinja_node *node = two(p, JINJA_N_ATTR, p->token.line, of, of);
    if (!node) return NULL;
    node->b = NULL;
    node->name = p->token.str;
    return jinja_advance(p) ? node : NULL;
}

static struct jinja_node *parse_call(struct jinja_parser *p, struct jinja_node *of) {
    struct jinja_node *node = two(p, JINJA_N_CALL, p->token.line, of, of);
    if (!node) return NULL;
    node->b = NULL;
    return parse_args(p, node) ? node : NULL;
}

static struct jinja_node *parse_postfix(struct jinja_parser *p, struct jinja_node *node) {
    while (node) {
        if (jinja_at_op(p, "."))
            node = parse_attr(p, node);
        else if (jinja_at_op(p, "["))
            node = parse_index(p, node);
        else if (jinja_at_op(p, "("))
            node = parse_call(p, node);
        else
            break;
    }
    return node;
}

static struct jinja_node *parse_filter(struct jinja_parser *p, struct jinja_node *subject) {
    if (p->token.kind != JINJA_T_NAME) return jinja_unexpected(p, "a filter's name");
    struct jinja_node *node = jinja_new_node(p, JINJA_N_FILTER);
    if (!node) return NULL;
    node->a = subject;
    node->name = p->token.str;
    if (!jinja_advance(p)) return NULL;
    if (jinja_at_op(p, "(") && !parse_args(p, node)) return NULL;
    return node;
}

struct jinja_node *jinja_parse_filters(struct jinja_parser *p, struct jinja_node *subject) {
    struct jinja_node *node = subject;
    while (jinja_at_op(p, "|")) {
        if (!jinja_advance(p)) return NULL;
        node = parse_filter(p, node);
        if (!node) return NULL;
    }
    return node;
}

/* Whether the argument of a test follows without parentheses ("is divisibleby 3"). */
static bool at_test_argument(const struct jinja_parser *p) {
    static const char *const words[] = {"else", "or", "and", "if", "in", "not", "is", NULL};
    for (size_t i = 0; words[i]; i++)
        if (jinja_at_name(p, words[i])) return false;
    enum jinja_token_kind kind = p->token.kind;
    return kind == JINJA_T_NAME || kind == JINJA_T_STRING || kind == JINJA_T_INT ||
           kind == JINJA_T_FLOAT || jinja_at_op(p, "[") || jinja_at_op(p, "{");
}

static struct jinja_node *parse_test(struct jinja_parser *p, struct jinja_node *subject) {
    int line = p->token.line;
    bool negated;
    if (!jinja_advance(p) || !skip_name(p, "not", &negated)) return NULL;
    if (p->token.kind != JINJA_T_NAME) return jinja_unexpected(p, "a test's name");
    struct jinja_node *node = two(p, JINJA_N_TEST, line, subject, subject);
    if (!node) return NULL;
    node->b = NULL;
    node->name = p->token.str;
    if (!jinja_advance(p)) return NULL;
    if (jinja_at_op(p, "(")) {
        if (!parse_args(p, node)) return NULL;
    } else if (at_test_argument(p)) {
        if (!jinja_node_push(p, node, parse_postfix(p, parse_primary(p)))) return NULL;
    }
    if (!negated) return node;
    struct jinja_node *not = two(p, JINJA_N_NOT, line, node, node);
    if (not ) not ->b = NULL;
    return not ;
}

static struct jinja_node *parse_unary_inner(struct jinja_parser *p, bool with_filters) {
    struct jinja_node *node;
    if (jinja_at_op(p, "-") || jinja_at_op(p, "+")) {
        node = jinja_new_node(p, JINJA_N_SIGN);
        if (!node) return NULL;
        node->op = jinja_at_op(p, "-") ? JINJA_OP_SUB : JINJA_OP_ADD;
        if (!jinja_advance(p)) return NULL;
        node->a = parse_unary(p, false);
        if (!node->a) return NULL;
    } else {
        node = parse_primary(p);
    }
    node = parse_postfix(p, node);
    while (node && with_filters) {
        if (jinja_at_op(p, "|"))
            node = jinja_parse_filters(p, node);
        else if (jinja_at_name(p, "is"))
            node = parse_test(p, node);
        else if (jinja_at_op(p, "("))
            node = parse_call(p, node);
        else
            break;
    }
    return node;
}

static struct jinja_node *parse_unary(struct jinja_parser *p, bool with_filters) {
    if (!jinja_enter(p->j)) return NULL;
    struct jinja_node *node = parse_unary_inner(p, with_filters);
    jinja_leave(p->j);
    return node;
}

/* The binary operators of arithmetic, by level: 0 is + and -, 3 is **. */
static const struct {
    const char *text;
    int level;
    enum jinja_op op;
} binary_ops[] = {
        {"+", 0, JINJA_OP_ADD},
        {"-", 0, JINJA_OP_SUB},
        {"~", 1, JINJA_OP_CONCAT},
        {"*", 2, JINJA_OP_MUL},
        {"//", 2, JINJA_OP_FLOORDIV},
        {"/", 2, JINJA_OP_DIV},
        {"%", 2, JINJA_OP_MOD},
        {"**", 3, JINJA_OP_POW},
};

static bool at_binary(const struct jinja_parser *p, int level, enum jinja_op *out_op) {
    if (p->token.kind != JINJA_T_OP) return false;
    for (size_t i = 0; i < ARRAY_LEN(binary_ops); i++) {
        if (binary_ops[i].level != level || !jinja_str_is(p->token.str, binary_ops[i].text))
            continue;
        *out_op = binary_ops[i].op;
        return true;
    }
    return false;
}

static struct jinja_node *parse_arithmetic(struct jinja_parser *p, int level) {
    if (level > 3) return parse_unary(p, true);
    struct jinja_node *node = parse_arithmetic(p, level + 1);
    enum jinja_op op;
    while (node && at_binary(p, level, &op)) {
        int line = p->token.line;
        if (!jinja_advance(p)) return NULL;
        node = two(p, JINJA_N_BINARY, line, node, parse_arithmetic(p, level + 1));
        if (node) node->op = op;
    }
    return node;
}

/* A comparison's operator, skipped. */
static bool skip_comparison(struct jinja_parser *p, enum jinja_op *out_op, bool *out_found) {
    static const struct {
        const char *text;
        enum jinja_op op;
    } ops[] = {{"==", JINJA_OP_EQ}, {"!=", JINJA_OP_NE}, {"<", JINJA_OP_LT}, {"<=", JINJA_OP_LE},
            {">", JINJA_OP_GT}, {">=", JINJA_OP_GE}};
    *out_found = true;
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        *out_op = ops[i].op;
        if (jinja_at_op(p, ops[i].text)) return jinja_advance(p);
    }
    *out_op = JINJA_OP_IN;
    if (jinja_at_name(p, "in")) return jinja_advance(p);
    *out_op = JINJA_OP_NOT_IN;
    bool not_in = jinja_at_name(p, "not") && p->next.kind == JINJA_T_NAME &&
                  jinja_str_is(p->next.str, "in");
    if (not_in) return jinja_advance(p) && jinja_advance(p);
    *out_found = false;
    return true;
}

static struct jinja_node *parse_compare(struct jinja_parser *p) {
    struct jinja_node *first = parse_arithmetic(p, 0), *node = NULL;
    while (first) {
        enum jinja_op op;
        bool found;
        int line = p->token.line;
        if (!skip_comparison(p, &op, &found)) return NULL;
        if (!found) return node ? node : first;
        struct jinja_node *part = two(p, JINJA_N_COMPARE, line, first, parse_arithmetic(p, 0));
        if (!part) return NULL;
        part->op = op;
        part->a = part->b;
        if (!node) node = two(p, JINJA_N_COMPARE, line, first, first);
        if (!jinja_node_push(p, node, part)) return NULL;
    }
    return NULL;
}

static struct jinja_node *parse_not(struct jinja_parser *p) {
    if (!jinja_at_name(p, "not")) return parse_compare(p);
    struct jinja_node *node = jinja_new_node(p, JINJA_N_NOT);
    if (!node || !jinja_advance(p) || !jinja_enter(p->j)) return NULL;
    node->a = parse_not(p);
    jinja_leave(p->j);
    return node->a ? node : NULL;
}

static struct jinja_node *parse_and(struct jinja_parser *p) {
    struct jinja_node *node = parse_not(p);
    while (node && jinja_at_name(p, "and")) {
        int line = p->token.line;
        node = jinja_advance(p) ? two(p, JINJA_N_AND, line, node, parse_not(p)) : NULL;
    }
    return node;
}

static struct jinja_node *parse_or(struct jinja_parser *p) {
    struct jinja_node *node = parse_and(p);
    while (node && jinja_at_name(p, "or")) {
        int line = p->token.line;
        node = jinja_advance(p) ? two(p, JINJA_N_OR, line, node, parse_and(p)) : NULL;
    }
    return node;
}

static struct jinja_node *parse_cond(struct jinja_parser *p) {
    struct jinja_node *node = parse_or(p);
    while (node && jinja_at_name(p, "if")) {
        int line = p->token.line;
        if (!jinja_advance(p)) return NULL;
        node = two(p, JINJA_N_COND, line, node, parse_or(p));
        if (!node) return NULL;
        struct jinja_node *then = node->a;
        node->a = node->b;
        node->b = then;
        bool has_else;
        if (!skip_name(p, "else", &has_else)) return NULL;
        if (!has_else) continue;
        node->c = jinja_parse_expr(p, true);
        if (!node->c) return NULL;
    }
    return node;
}

struct jinja_node *jinja_parse_expr(struct jinja_parser *p, bool with_cond) {
    if (!jinja_enter(p->j)) return NULL;
    struct jinja_node *node = with_cond ? parse_cond(p) : parse_or(p);
    jinja_leave(p->j);
    return node;
}

static bool at_tuple_end(const struct jinja_parser *p) {
    return p->token.kind == JINJA_T_PRINT_END || p->token.kind == JINJA_T_BLOCK_END ||
           jinja_at_op(p, ")");
}

struct jinja_node *jinja_parse_tuple(struct jinja_parser *p, bool with_cond) {
    struct jinja_node *first = jinja_parse_expr(p, with_cond);
    if (!first || !jinja_at_op(p, ",")) return first;
    struct jinja_node *node = jinja_new_node(p, JINJA_N_TUPLE);
    if (!jinja_node_push(p, node, first)) return NULL;
    while (jinja_at_op(p, ",")) {
        if (!jinja_advance(p)) return NULL;
        if (at_tuple_end(p)) break;
        if (!jinja_node_push(p, node, jinja_parse_expr(p, with_cond))) return NULL;
    }
    return node;
}
