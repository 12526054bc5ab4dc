/* jinja_parse.c - statements: tokens to nodes.
 * Owns: nothing. Does not: read expressions (jinja_expr.c) or run anything.
 * Runs on: the owner thread. */
#include "coordinator/text/jinja_internal.h"

#include <string.h>

static struct jinja_node *parse_body(struct jinja_parser *p, const char *const *ends);

static bool expect_block_end(struct jinja_parser *p) {
    if (p->token.kind == JINJA_T_BLOCK_END) return jinja_advance(p);
    jinja_unexpected(p, "'%}'");
    return false;
}

static bool expect_name(struct jinja_parser *p, const char *name) {
    if (jinja_at_name(p, name)) return jinja_advance(p);
    jinja_unexpected(p, name);
    return false;
}

/* The rest of an opening tag, the body, and the name of the tag that ends it (one of ends), which
 * stays the current token. */
static struct jinja_node *parse_block(struct jinja_parser *p, const char *const *ends) {
    if (jinja_at_op(p, ":") && !jinja_advance(p)) return NULL;
    if (!expect_block_end(p)) return NULL;
    return parse_body(p, ends);
}

/* The same for a block with one possible end, up to the end of that tag. */
static struct jinja_node *parse_whole_block(struct jinja_parser *p, const char *end) {
    const char *const ends[] = {end, NULL};
    struct jinja_node *body = parse_block(p, ends);
    return body && jinja_advance(p) && expect_block_end(p) ? body : NULL;
}

static struct jinja_node *parse_if(struct jinja_parser *p) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    struct jinja_node *node = jinja_new_node(p, JINJA_N_IF);
    if (!node) return NULL;
    bool has_else = false;
    do {
        struct jinja_node *branch = jinja_new_node(p, JINJA_N_BRANCH);
        has_else = jinja_at_name(p, "else");
        if (!branch || !jinja_advance(p)) return NULL;
        if (!has_else) {
            branch->a = jinja_parse_tuple(p, true);
            if (!branch->a) return NULL;
        }
        branch->b = parse_block(p, has_else ? ends + 2 : ends);
        if (!branch->b || !jinja_node_push(p, node, branch)) return NULL;
    } while (!jinja_at_name(p, "endif"));
    return jinja_advance(p) && expect_block_end(p) ? node : NULL;
}

static struct jinja_node *parse_target_item(struct jinja_parser *p) {
    if (jinja_at_op(p, "(")) {
        if (!jinja_advance(p)) return NULL;
        struct jinja_node *inner = jinja_parse_target(p);
        return inner && jinja_expect_op(p, ")") ? inner : NULL;
    }
    if (p->token.kind != JINJA_T_NAME) return jinja_unexpected(p, "a variable's name");
    struct jinja_node *node = jinja_new_node(p, JINJA_N_NAME);
    if (!node) return NULL;
    node->name = p->token.str;
    if (!jinja_advance(p) || !jinja_at_op(p, ".")) return p->j->failed ? NULL : node;
    if (!jinja_advance(p)) return NULL;
    if (p->token.kind != JINJA_T_NAME) return jinja_unexpected(p, "an attribute's name");
    struct jinja_node *attr = jinja_new_node(p, JINJA_N_ATTR);
    if (!attr) return NULL;
    attr->a = node;
    attr->name = p->token.str;
    return jinja_advance(p) ? attr : NULL;
}

struct jinja_node *jinja_parse_target(struct jinja_parser *p) {
    if (!jinja_enter(p->j)) return NULL;
    struct jinja_node *node = parse_target_item(p);
    if (node && jinja_at_op(p, ",")) {
        struct jinja_node *tuple = jinja_new_node(p, JINJA_N_TUPLE);
        if (!jinja_node_push(p, tuple, node)) return NULL;
        while (jinja_at_op(p, ",")) {
            if (!jinja_advance(p)) return NULL;
            if (p->token.kind != JINJA_T_NAME && !jinja_at_op(p, "(")) break;
            if (jinja_at_name(p, "in")) break;
            if (!jinja_node_push(p, tuple, parse_target_item(p))) return NULL;
        }
        node = tuple;
    }
    jinja_leave(p->j);
    return node;
}

static struct jinja_node *parse_for(struct jinja_parser *p) {
    static const char *const ends[] = {"else", "endfor", NULL};
    struct jinja_node *node = jinja_new_node(p, JINJA_N_FOR);
    if (!node || !jinja_advance(p)) return NULL;
    node->a = jinja_parse_target(p);
    if (!node->a || !expect_name(p, "in")) return NULL;
    node->b = jinja_parse_tuple(p, false);
    if (!node->b) return NULL;
    if (jinja_at_name(p, "if")) {
        if (!jinja_advance(p)) return NULL;
        node->c = jinja_parse_expr(p, true);
        if (!node->c) return NULL;
    }
    if (jinja_at_name(p, "recursive"))
        return jinja_lacks(p->j, "the loop form", "recursive", strlen("recursive"));
    if (!jinja_node_push(p, node, parse_block(p, ends))) return NULL;
    if (jinja_at_name(p, "else")) {
        if (!jinja_advance(p)) return NULL;
        return jinja_node_push(p, node, parse_whole_block(p, "endfor")) ? node : NULL;
    }
    return jinja_advance(p) && expect_block_end(p) ? node : NULL;
}

static struct jinja_node *parse_set(struct jinja_parser *p) {
    struct jinja_node *node = jinja_new_node(p, JINJA_N_SET);
    if (!node || !jinja_advance(p)) return NULL;
    node->a = jinja_parse_target(p);
    if (!node->a) return NULL;
    if (jinja_at_op(p, "=")) {
        if (!jinja_advance(p)) return NULL;
        node->b = jinja_parse_tuple(p, true);
        return node->b && expect_block_end(p) ? node : NULL;
    }
    /* {% set x | filter %}: the filters' subject, NULL, is the text of the block. */
    node->list = jinja_alloc(p->j, sizeof *node->list);
    if (!node->list) return NULL;
    node->list[0] = jinja_parse_filters(p, NULL);
    if (p->j->failed) return NULL;
    node->c = parse_whole_block(p, "endset");
    return node->c ? node : NULL;
}

static struct jinja_node *parse_with(struct jinja_parser *p) {
    struct jinja_node *node = jinja_new_node(p, JINJA_N_WITH);
    if (!node || !jinja_advance(p)) return NULL;
    while (p->token.kind != JINJA_T_BLOCK_END) {
        if (node->n_list && !jinja_expect_op(p, ",")) return NULL;
        if (!jinja_node_push(p, node, parse_target_item(p))) return NULL;
        if (!jinja_expect_op(p, "=")) return NULL;
        if (!jinja_node_push(p, node, jinja_parse_expr(p, true))) return NULL;
    }
    node->a = parse_whole_block(p, "endwith");
    return node->a ? node : NULL;
}

/* {% macro name(a, b=1) %} */
static struct jinja_node *parse_macro(struct jinja_parser *p) {
    static const char *const ends[] = {"endmacro", NULL};
    struct jinja_node *node = jinja_new_node(p, JINJA_N_MACRO);
    if (!node || !jinja_advance(p)) return NULL;
    if (p->token.kind != JINJA_T_NAME) return jinja_unexpected(p, "a macro's name");
    node->name = p->token.str;
    if (!jinja_advance(p) || !jinja_expect_op(p, "(")) return NULL;
    while (!jinja_at_op(p, ")")) {
        if (node->n_list && !jinja_expect_op(p, ",")) return NULL;
        if (p->token.kind != JINJA_T_NAME) return jinja_unexpected(p, "a parameter's name");
        struct jinja_node *param = jinja_new_node(p, JINJA_N_KEYWORD);
        if (!jinja_node_push(p, node, param)) return NULL;
        param->name = p->token.str;
        if (!jinja_advance(p)) return NULL;
        if (!jinja_at_op(p, "=")) continue;
        if (!jinja_advance(p)) return NULL;
        param->a = jinja_parse_expr(p, true);
        if (!param->a) return NULL;
    }
    if (!jinja_advance(p)) return NULL;
    node->b = parse_block(p, ends);
    if (!node->b || !jinja_advance(p)) return NULL;
    if (p->token.kind == JINJA_T_NAME && !jinja_advance(p)) return NULL;
    return expect_block_end(p) ? node : NULL;
}

static struct jinja_node *parse_filter_block(struct jinja_parser *p) {
    struct jinja_node *node = jinja_new_node(p, JINJA_N_FILTER_BLOCK);
    if (!node) return NULL;
    /* "filter" stands where a "|" would, so the list of filters starts behind it. */
    p->token.kind = JINJA_T_OP;
    p->token.str = (struct jinja_str){"|", 1};
    node->a = jinja_parse_filters(p, NULL);
    if (!node->a) return NULL;
    node->c = parse_whole_block(p, "endfilter");
    return node->c ? node : NULL;
}

static struct jinja_node *parse_jump(struct jinja_parser *p, enum jinja_node_kind kind) {
    struct jinja_node *node = jinja_new_node(p, kind);
    return node && jinja_advance(p) && expect_block_end(p) ? node : NULL;
}

/* {% generation %} only marks what a model is trained on. */
static struct jinja_node *parse_generation(struct jinja_parser *p) {
    return jinja_advance(p) ? parse_whole_block(p, "endgeneration") : NULL;
}

static struct jinja_node *parse_statement(struct jinja_parser *p) {
    if (p->token.kind != JINJA_T_NAME) return jinja_unexpected(p, "a statement");
    if (jinja_at_name(p, "if")) return parse_if(p);
    if (jinja_at_name(p, "for")) return parse_for(p);
    if (jinja_at_name(p, "set")) return parse_set(p);
    if (jinja_at_name(p, "macro")) return parse_macro(p);
    if (jinja_at_name(p, "with")) return parse_with(p);
    if (jinja_at_name(p, "filter")) return parse_filter_block(p);
    if (jinja_at_name(p, "break")) return parse_jump(p, JINJA_N_BREAK);
    if (jinja_at_name(p, "continue")) return parse_jump(p, JINJA_N_CONTINUE);
    if (jinja_at_name(p, "generation")) return parse_generation(p);
    bool closes = p->token.str.n > 3 && memcmp(p->token.str.bytes, "end", 3) == 0;
    if (closes || jinja_at_name(p, "else") || jinja_at_name(p, "elif"))
        return jinja_unexpected(p, "a statement");
    return jinja_lacks(p->j, "the statement", p->token.str.bytes, p->token.str.n);
}

static struct jinja_node *parse_print(struct jinja_parser *p) {
    struct jinja_node *node = jinja_new_node(p, JINJA_N_PRINT);
    if (!node || !jinja_advance(p)) return NULL;
    node->a = jinja_parse_tuple(p, true);
    if (!node->a) return NULL;
    if (p->token.kind != JINJA_T_PRINT_END) return jinja_unexpected(p, "'}}'");
    return jinja_advance(p) ? node : NULL;
}

static struct jinja_node *parse_text(struct jinja_parser *p) {
    struct jinja_node *node = jinja_new_node(p, JINJA_N_TEXT);
    if (!node) return NULL;
    node->value = jinja_str_value(p->j, p->token.str);
    return node->value && jinja_advance(p) ? node : NULL;
}

static bool at_one_of(const struct jinja_parser *p, const char *const *names) {
    for (; names && *names; names++)
        if (jinja_at_name(p, *names)) return true;
    return false;
}

static const char *last_of(const char *const *names) {
    while (names[1])
        names++;
    return *names;
}

static struct jinja_node *parse_body_inner(struct jinja_parser *p, const char *const *ends) {
    struct jinja_node *body = jinja_new_node(p, JINJA_N_BODY);
    while (body) {
        struct jinja_node *item;
        switch (p->token.kind) {
        case JINJA_T_TEXT:
            item = parse_text(p);
            break;
        case JINJA_T_PRINT:
            item = parse_print(p);
            break;
        case JINJA_T_BLOCK:
            if (!jinja_advance(p)) return NULL;
            if (at_one_of(p, ends)) return body;
            item = parse_statement(p);
            break;
        case JINJA_T_END:
            return ends ? jinja_unexpected(p, last_of(ends)) : body;
        default:
            return jinja_unexpected(p, "a text or a tag");
        }
        if (!jinja_node_push(p, body, item)) return NULL;
    }
    return NULL;
}

/* Statements up to a tag named in ends (NULL: the end of the source). */
static struct jinja_node *parse_body(struct jinja_parser *p, const char *const *ends) {
    if (!jinja_enter(p->j)) return NULL;
    struct jinja_node *body = parse_body_inner(p, ends);
    jinja_leave(p->j);
    return body;
}

struct jinja_node *jinja_parse(struct jinja *j, const char *source, size_t n) {
    struct jinja_parser parser = {.j = j};
    if (!jinja_lex_init(&parser.lexer, j, source, n)) return NULL;
    if (!jinja_lex(&parser.lexer, &parser.next) || !jinja_advance(&parser)) return NULL;
    struct jinja_node *body = parse_body(&parser, NULL);
    j->line = 0;
    return body;
}
