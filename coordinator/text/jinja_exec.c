/* jinja_exec.c - statements, scopes and macros; and a rendering from its start to its end.
 * Owns: the struct jinja. Does not: evaluate expressions. Runs on: the owner thread.
 *
 * Scopes: the template has one, each pass of a loop has one, each call of a macro has one whose
 * parent is the scope that the macro was defined in. {% set %} writes to the innermost. */
#include "coordinator/text/jinja_internal.h"

#include "proto/base/checked.h"

#include <stdlib.h>
#include <string.h>

#define TEMPLATE_BYTES ((size_t)1 << 20)
#define MEMORY_BYTES ((size_t)256 << 20)
#define OUTPUT_BYTES ((size_t)16 << 20)
#define STEPS 20000000
#define DEPTH 400

static enum jinja_flow exec(struct jinja *j, const struct jinja_node *node);

/* ---- scopes ---- */

static struct jinja_scope *new_scope(struct jinja *j, struct jinja_scope *parent) {
    struct jinja_scope *scope = jinja_alloc(j, sizeof *scope);
    if (!scope) return NULL;
    scope->parent = parent;
    scope->loop_depth = parent->loop_depth;
    return scope;
}

bool jinja_assign(struct jinja *j, struct jinja_scope *scope, struct jinja_str name,
        struct jinja_value *value) {
    if (!scope || !value || !jinja_step(j, scope->n / 16)) return false;
    for (size_t i = 0; i < scope->n; i++) {
        if (!jinja_str_equal(scope->vars[i].name, name)) continue;
        scope->vars[i].value = value;
        return true;
    }
    if (!jinja_grow(j, (void **)&scope->vars, sizeof *scope->vars, scope->n, &scope->capacity))
        return false;
    scope->vars[scope->n++] = (struct jinja_var){name, value};
    return true;
}

static bool assign_attr(
        struct jinja *j, const struct jinja_node *target, struct jinja_value *value) {
    struct jinja_value *of = jinja_lookup(j, target->a->name);
    if (j->failed) return false;
    if (!of || of->type != JINJA_NAMESPACE) {
        jinja_fail(j, ERR_BAD_INPUT,
                "the chat template sets an attribute of '%.*s', which is no "
                "namespace",
                (int)min_u64(target->a->name.n, 100), target->a->name.bytes);
        return false;
    }
    return jinja_put_key(j, of, jinja_str_value(j, target->name), value);
}

static bool assign_target(struct jinja *j, struct jinja_scope *scope,
        const struct jinja_node *target, struct jinja_value *value) {
    if (!value) return false;
    if (target->kind == JINJA_N_NAME) return jinja_assign(j, scope, target->name, value);
    if (target->kind == JINJA_N_ATTR) return assign_attr(j, target, value);
    struct jinja_value *items = jinja_iterate(j, value);
    if (!items) return false;
    if (items->list.n != target->n_list) {
        jinja_fail(j, ERR_BAD_INPUT, "the chat template unpacks %zu values into %zu names",
                items->list.n, target->n_list);
        return false;
    }
    for (size_t i = 0; i < target->n_list; i++)
        if (!assign_target(j, scope, target->list[i], items->list.items[i])) return false;
    return true;
}

/* ---- statements ---- */

bool jinja_capture(struct jinja *j, const struct jinja_node *body, struct jinja_text *out) {
    struct jinja_text *outer = j->out;
    *out = (struct jinja_text){0};
    j->out = out;
    enum jinja_flow flow = exec(j, body);
    j->out = outer;
    if (flow == JINJA_BROKE || flow == JINJA_CONTINUED)
        jinja_fail(j, ERR_BAD_INPUT, "the chat template leaves a loop outside of loops");
    return flow == JINJA_GO_ON;
}

static enum jinja_flow flow_of(bool ok) {
    return ok ? JINJA_GO_ON : JINJA_FAILED;
}

static enum jinja_flow exec_body(struct jinja *j, const struct jinja_node *node) {
    enum jinja_flow flow = JINJA_GO_ON;
    for (size_t i = 0; flow == JINJA_GO_ON && i < node->n_list; i++)
        flow = exec(j, node->list[i]);
    return flow;
}

static enum jinja_flow exec_if(struct jinja *j, const struct jinja_node *node) {
    for (size_t i = 0; i < node->n_list; i++) {
        const struct jinja_node *branch = node->list[i];
        if (!branch->a) return exec(j, branch->b);
        struct jinja_value *condition = jinja_eval(j, branch->a);
        if (!condition) return JINJA_FAILED;
        if (jinja_truth(condition)) return exec(j, branch->b);
    }
    return JINJA_GO_ON;
}

/* The items of the loop for which the condition holds. */
static struct jinja_value *filter_items(
        struct jinja *j, const struct jinja_node *node, const struct jinja_value *items) {
    struct jinja_scope *outer = j->scope;
    struct jinja_scope *scope = new_scope(j, outer);
    struct jinja_value *kept = jinja_list(j);
    if (!scope || !kept) return NULL;
    for (size_t i = 0; i < items->list.n; i++) {
        scope->n = 0;
        if (!assign_target(j, scope, node->a, items->list.items[i])) return NULL;
        j->scope = scope;
        struct jinja_value *condition = jinja_eval(j, node->c);
        j->scope = outer;
        if (!condition) return NULL;
        if (jinja_truth(condition)) jinja_push(j, kept, items->list.items[i]);
    }
    return j->failed ? NULL : kept;
}

static enum jinja_flow loop_over(
        struct jinja *j, const struct jinja_node *node, const struct jinja_value *items) {
    struct jinja_scope *outer = j->scope, *scope = NULL;
    struct jinja_value *loop = jinja_new_value(j, JINJA_LOOP);
    if (!loop) return JINJA_FAILED;
    loop->loop = (struct jinja_loop){items->list.items, items->list.n, 0, outer->loop_depth + 1};
    for (size_t i = 0; i < loop->loop.n; i++) {
        if (!scope || scope->captured) scope = new_scope(j, outer);
        if (!scope) return JINJA_FAILED;
        scope->n = 0;
        scope->loop_depth = outer->loop_depth + 1;
        loop->loop.index = i;
        if (!jinja_assign(j, scope, (struct jinja_str){"loop", 4}, loop)) return JINJA_FAILED;
        if (!assign_target(j, scope, node->a, loop->loop.items[i])) return JINJA_FAILED;
        j->scope = scope;
        enum jinja_flow flow = exec(j, node->list[0]);
        j->scope = outer;
        if (flow == JINJA_FAILED) return flow;
        if (flow == JINJA_BROKE) break;
    }
    return JINJA_GO_ON;
}

static enum jinja_flow exec_for(struct jinja *j, const struct jinja_node *node) {
    struct jinja_value *items = jinja_eval(j, node->b);
    if (!items) return JINJA_FAILED;
    j->line = node->line;
    items = jinja_iterate(j, items);
    if (items && node->c) items = filter_items(j, node, items);
    if (!items) return JINJA_FAILED;
    if (items->list.n == 0) return node->n_list > 1 ? exec(j, node->list[1]) : JINJA_GO_ON;
    return loop_over(j, node, items);
}

/* The text of a block, through the filters in node (their innermost subject is that text). */
static struct jinja_value *filtered_text(
        struct jinja *j, const struct jinja_node *filters, struct jinja_value *text) {
    if (!filters || !text) return text;
    struct jinja_value *subject = filtered_text(j, filters->a, text);
    if (!subject) return NULL;
    j->line = filters->line;
    return jinja_eval_filter(j, filters, subject);
}

static struct jinja_value *block_text(
        struct jinja *j, const struct jinja_node *body, const struct jinja_node *filters) {
    struct jinja_text text;
    struct jinja_scope *outer = j->scope;
    j->scope = new_scope(j, outer);
    bool ok = j->scope && jinja_capture(j, body, &text);
    j->scope = outer;
    return ok ? filtered_text(j, filters, jinja_text_value(j, &text)) : NULL;
}

static enum jinja_flow exec_set(struct jinja *j, const struct jinja_node *node) {
    struct jinja_value *value =
            node->b ? jinja_eval(j, node->b) : block_text(j, node->c, node->list[0]);
    if (!value) return JINJA_FAILED;
    j->line = node->line;
    return flow_of(assign_target(j, j->scope, node->a, value));
}

static enum jinja_flow exec_with(struct jinja *j, const struct jinja_node *node) {
    struct jinja_scope *outer = j->scope;
    struct jinja_scope *scope = new_scope(j, outer);
    for (size_t i = 0; scope && i < node->n_list; i += 2)
        if (!assign_target(j, scope, node->list[i], jinja_eval(j, node->list[i + 1])))
            return JINJA_FAILED;
    if (!scope) return JINJA_FAILED;
    j->scope = scope;
    enum jinja_flow flow = exec(j, node->a);
    j->scope = outer;
    return flow;
}

static enum jinja_flow exec_macro(struct jinja *j, const struct jinja_node *node) {
    struct jinja_value *macro = jinja_new_value(j, JINJA_MACRO);
    if (!macro) return JINJA_FAILED;
    macro->macro.node = node;
    macro->macro.scope = j->scope;
    for (struct jinja_scope *scope = j->scope; scope; scope = scope->parent)
        scope->captured = true;
    return flow_of(jinja_assign(j, j->scope, node->name, macro));
}

static enum jinja_flow exec_print(struct jinja *j, const struct jinja_node *node) {
    struct jinja_value *value = jinja_eval(j, node->a);
    if (value) j->line = node->line;
    return flow_of(value && jinja_print(j, j->out, value));
}

static enum jinja_flow exec_filter_block(struct jinja *j, const struct jinja_node *node) {
    struct jinja_value *value = block_text(j, node->c, node->a);
    return flow_of(value && jinja_print(j, j->out, value));
}

static enum jinja_flow exec_inner(struct jinja *j, const struct jinja_node *node) {
    switch (node->kind) {
    case JINJA_N_TEXT:
        return flow_of(jinja_print(j, j->out, node->value));
    case JINJA_N_PRINT:
        return exec_print(j, node);
    case JINJA_N_BODY:
        return exec_body(j, node);
    case JINJA_N_IF:
        return exec_if(j, node);
    case JINJA_N_FOR:
        return exec_for(j, node);
    case JINJA_N_SET:
        return exec_set(j, node);
    case JINJA_N_WITH:
        return exec_with(j, node);
    case JINJA_N_MACRO:
        return exec_macro(j, node);
    case JINJA_N_FILTER_BLOCK:
        return exec_filter_block(j, node);
    case JINJA_N_BREAK:
        return JINJA_BROKE;
    default:
        return JINJA_CONTINUED;
    }
}

static enum jinja_flow exec(struct jinja *j, const struct jinja_node *node) {
    if (!jinja_enter(j)) return JINJA_FAILED;
    j->line = node->line;
    enum jinja_flow flow = exec_inner(j, node);
    jinja_leave(j);
    return flow;
}

/* ---- macros ---- */

static struct jinja_value *find_keyword(const struct jinja_args *args, struct jinja_str name) {
    for (size_t i = 0; i < args->n_keywords; i++)
        if (jinja_str_equal(args->keywords[i].name, name)) return args->keywords[i].value;
    return NULL;
}

static bool is_param(const struct jinja_node *node, struct jinja_str name) {
    for (size_t i = 0; i < node->n_list; i++)
        if (jinja_str_equal(node->list[i]->name, name)) return true;
    return false;
}

static bool bind_params(
        struct jinja *j, const struct jinja_node *node, const struct jinja_args *args) {
    for (size_t i = 0; i < node->n_list; i++) {
        const struct jinja_node *param = node->list[i];
        struct jinja_value *value = i < args->n_pos ? args->pos[i] : NULL;
        if (!value) value = find_keyword(args, param->name);
        if (!value && param->a) value = jinja_eval(j, param->a);
        if (!value && !j->failed) value = jinja_undefined(j, param->name.bytes, param->name.n);
        if (!jinja_assign(j, j->scope, param->name, value)) return false;
    }
    return true;
}

struct jinja_value *jinja_call_macro(
        struct jinja *j, const struct jinja_value *macro, const struct jinja_args *args) {
    const struct jinja_node *node = macro->macro.node;
    if (args->n_pos > node->n_list)
        return jinja_fail(j, ERR_BAD_INPUT,
                "the chat template calls '%.*s' with %zu arguments, "
                "it takes %zu",
                (int)min_u64(node->name.n, 100), node->name.bytes, args->n_pos, node->n_list);
    for (size_t i = 0; i < args->n_keywords; i++) {
        struct jinja_str name = args->keywords[i].name;
        if (!is_param(node, name))
            return jinja_fail(j, ERR_BAD_INPUT,
                    "the chat template calls '%.*s' with '%.*s', "
                    "which it does not take",
                    (int)min_u64(node->name.n, 100), node->name.bytes, (int)min_u64(name.n, 100),
                    name.bytes);
    }
    struct jinja_scope *caller = j->scope;
    struct jinja_text text = {0};
    if (!jinja_enter(j)) return NULL;
    j->scope = new_scope(j, macro->macro.scope);
    bool ok = j->scope && bind_params(j, node, args) && jinja_capture(j, node->b, &text);
    j->scope = caller;
    jinja_leave(j);
    return ok ? jinja_text_value(j, &text) : NULL;
}

/* ---- a rendering ---- */

int jinja_new(const struct jinja_limits *limits, int64_t now_unix, struct jinja **out_jinja,
        struct err *err) {
    struct jinja *j = calloc(1, sizeof *j);
    if (!j) return err_set(err, ERR_NO_MEMORY, "no memory for a chat template");
    if (limits) j->limits = *limits;
    if (!j->limits.template_bytes) j->limits.template_bytes = TEMPLATE_BYTES;
    if (!j->limits.memory_bytes) j->limits.memory_bytes = MEMORY_BYTES;
    if (!j->limits.output_bytes) j->limits.output_bytes = OUTPUT_BYTES;
    if (!j->limits.steps) j->limits.steps = STEPS;
    if (!j->limits.depth) j->limits.depth = DEPTH;
    j->now_unix = now_unix;
    j->scope = &j->globals;
    j->undefined = (struct jinja_value){.type = JINJA_UNDEFINED, .str = {"the else of an if", 17}};
    j->none.type = JINJA_NONE;
    j->no.type = JINJA_BOOL;
    j->yes = (struct jinja_value){.type = JINJA_BOOL, .boolean = true};
    *out_jinja = j;
    return 0;
}

void jinja_free(struct jinja *jinja) {
    if (!jinja) return;
    jinja_areas_free(jinja);
    free(jinja);
}

void jinja_set(struct jinja *jinja, const char *name, struct jinja_value *value) {
    (void)jinja_assign(jinja, &jinja->globals, (struct jinja_str){name, strlen(name)}, value);
}

int jinja_set_all(struct jinja *jinja, const struct jinja_value *dict, struct err *err) {
    if (!dict || dict->type != JINJA_DICT)
        return err_set(err, ERR_BAD_INPUT, "no object of names and values");
    for (size_t i = 0; i < dict->dict.n; i++) {
        struct jinja_pair pair = dict->dict.pairs[i];
        if (pair.key->type != JINJA_STRING) continue;
        (void)jinja_assign(jinja, &jinja->globals, pair.key->str, pair.value);
    }
    return 0;
}

bool jinja_raised(const struct jinja *jinja) {
    return jinja->raised;
}

static int give_error(const struct jinja *j, struct err *err) {
    return err_set_at(err, j->err.code, j->err.file, j->err.line, "%s", j->err.what);
}

int jinja_render(
        struct jinja *jinja, const char *source, size_t n, struct buf *out, struct err *err) {
    if (jinja->failed) return give_error(jinja, err);
    if (n > jinja->limits.template_bytes)
        return err_set(err, ERR_LIMIT, "a chat template of %zu bytes, the most is %zu", n,
                jinja->limits.template_bytes);
    struct jinja_text text = {0};
    struct jinja_node *body = jinja_parse(jinja, source, n);
    if (!body || !jinja_capture(jinja, body, &text)) return give_error(jinja, err);
    return buf_append(out, text.bytes, text.n, err);
}
