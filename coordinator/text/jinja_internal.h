/* jinja_internal.h - what the files of the interpreter share.
 *
 *   source --lex--> tokens --parse--> nodes --exec/eval--> text
 *
 * Every byte of it, from tokens to output, comes from the two bump areas of one struct jinja and is
 * freed with it; so no function here has anything to clean up. Errors are sticky: the first one is
 * kept in jinja->err, the function that met it returns NULL or false, and so does everybody above.
 * Values never change after they were made, except lists and dicts (append, pop, namespaces). */
#pragma once

#include "coordinator/text/jinja.h"

/* ---- memory: jinja_mem.c ---- */

struct jinja_chunk;

/* A bump area. Texts have one of their own, so that a text that grows stays the last allocation
 * and grows in place: a + b + c copies each part once. */
struct jinja_area {
    struct jinja_chunk *chunks; /* newest first */
    char *top, *end;            /* free room of the newest chunk */
};

/* A text under construction. All-zero is empty. */
struct jinja_text {
    char *bytes;
    size_t n, capacity;
};

void *jinja_alloc(struct jinja *j, size_t n_bytes); /* cleared, 16-byte aligned; NULL: failed */
char *jinja_alloc_text(struct jinja *j, size_t n_bytes);
void jinja_areas_free(struct jinja *j);

bool jinja_text_append(struct jinja *j, struct jinja_text *text, const char *bytes, size_t n);
bool jinja_text_str(struct jinja *j, struct jinja_text *text, const char *str);

/* Grows an array of pointers by doubling. */
bool jinja_grow(struct jinja *j, void **items, size_t item_bytes, size_t n, size_t *capacity);

/* Counts n steps; false when the budget is used up. Loops over bytes charge n / 32. */
bool jinja_step(struct jinja *j, uint64_t n);
bool jinja_enter(struct jinja *j); /* one level deeper */
void jinja_leave(struct jinja *j);

/* Record an error, give NULL or false. jinja_fail adds the line; jinja_lacks says that the template
 * uses something, for example ("the filter", "xyz"), which is not supported yet. */
void *jinja_fail(struct jinja *j, int code, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
void *jinja_lacks(struct jinja *j, const char *kind, const char *name, size_t n);

/* ---- values: jinja_value.c ---- */

/* Bytes borrowed from the struct jinja, or static. */
struct jinja_str {
    const char *bytes;
    size_t n;
};

enum jinja_type {
    JINJA_UNDEFINED, /* str: what was not there, for messages */
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_DICT,
    JINJA_NAMESPACE,
    JINJA_LOOP,     /* the variable "loop" */
    JINJA_FUNCTION, /* one of ours, or a method with its object */
    JINJA_MACRO,
};

struct jinja_pair {
    struct jinja_value *key, *value;
};

struct jinja_loop {
    struct jinja_value **items; /* borrowed */
    size_t n, index;
    unsigned depth; /* 1 for the outermost loop */
};

struct jinja_value {
    enum jinja_type type;
    union {
        bool boolean;
        int64_t integer;
        double real;
        struct jinja_str str;
        struct {
            struct jinja_value **items;
            size_t n, capacity;
        } list; /* LIST, TUPLE */
        struct {
            struct jinja_pair *pairs;
            size_t n, capacity;
        } dict; /* DICT, NAMESPACE */
        struct jinja_loop loop;
        struct {
            const struct jinja_builtin *builtin;
            struct jinja_value *self; /* NULL for plain functions */
        } function;
        struct {
            const struct jinja_node *node;
            struct jinja_scope *scope; /* where it was defined */
        } macro;
    };
};

struct jinja_value *jinja_new_value(struct jinja *j, enum jinja_type type);
struct jinja_value *jinja_float(struct jinja *j, double value);
struct jinja_value *jinja_undefined(struct jinja *j, const char *bytes, size_t n);
struct jinja_value *jinja_str_value(struct jinja *j, struct jinja_str str); /* borrows the bytes */
struct jinja_value *jinja_text_value(struct jinja *j, const struct jinja_text *text);
struct jinja_value *jinja_cstr(struct jinja *j, const char *text); /* borrows, static text */
struct jinja_value *jinja_sequence(struct jinja *j, enum jinja_type type, size_t n); /* n NULLs */
struct jinja_value *jinja_pair_tuple(struct jinja *j, struct jinja_value *a, struct jinja_value *b);

/* NULL when the key is not there, or the step budget ran out. */
struct jinja_pair *jinja_find_pair(
        struct jinja *j, const struct jinja_value *dict, const struct jinja_value *key);
struct jinja_value *jinja_get(
        struct jinja *j, const struct jinja_value *dict, struct jinja_str key);
struct jinja_value *jinja_get_key(
        struct jinja *j, const struct jinja_value *dict, const struct jinja_value *key);
bool jinja_put_key(struct jinja *j, struct jinja_value *dict, struct jinja_value *key,
        struct jinja_value *value);

bool jinja_truth(const struct jinja_value *v);
bool jinja_is_number(const struct jinja_value *v);                /* int, float, bool */
bool jinja_is_integer(const struct jinja_value *v, int64_t *out); /* int, bool */
double jinja_as_real(const struct jinja_value *v);
bool jinja_is_sequence(const struct jinja_value *v); /* LIST, TUPLE */
bool jinja_str_is(struct jinja_str str, const char *text);
bool jinja_str_equal(struct jinja_str a, struct jinja_str b);
const char *jinja_type_name(const struct jinja_value *v); /* behind "a" in a message */

/* -1 failed, else 0 or 1. */
int jinja_equal(struct jinja *j, const struct jinja_value *a, const struct jinja_value *b);
/* False: failed, or the two have no order. */
bool jinja_compare(
        struct jinja *j, const struct jinja_value *a, const struct jinja_value *b, int *out_order);

/* What {{ v }} prints, and how v looks inside a printed list. */
bool jinja_print(struct jinja *j, struct jinja_text *text, const struct jinja_value *v);
bool jinja_repr(struct jinja *j, struct jinja_text *text, const struct jinja_value *v);
/* The printed form as a string value; strings themselves. */
struct jinja_value *jinja_to_string(struct jinja *j, struct jinja_value *v);
void jinja_real_text(double value, char out[40]);

/* The items that a for loop would see, as a list or tuple: keys of a dict, characters of a string,
 * nothing for undefined. NULL: failed, or not iterable. */
struct jinja_value *jinja_iterate(struct jinja *j, struct jinja_value *v);

/* ---- characters: jinja_str.c ---- */

size_t jinja_char(struct jinja_str str, size_t at, uint32_t *out_cp); /* its length, >= 1 */
size_t jinja_n_chars(struct jinja_str str);
bool jinja_is_space(uint32_t cp);   /* white space as Python's str.strip() sees it */
bool jinja_is_control(uint32_t cp); /* what Python's repr() escapes */
struct jinja_str jinja_strip(struct jinja_str str, bool left, bool right);
const char *jinja_find(struct jinja_str hay, size_t from, struct jinja_str needle); /* or NULL */
enum jinja_case { JINJA_LOWER, JINJA_UPPER, JINJA_TITLE, JINJA_CAPITALIZE };
struct jinja_value *jinja_recase(struct jinja *j, struct jinja_str str, enum jinja_case to);
struct jinja_value *jinja_replace(struct jinja *j, struct jinja_str str, struct jinja_str from,
        struct jinja_str to, int64_t max);

/* ---- tokens: jinja_lex.c ---- */

enum jinja_token_kind {
    JINJA_T_TEXT,  /* template text outside of tags */
    JINJA_T_PRINT, /* {{ */
    JINJA_T_PRINT_END,
    JINJA_T_BLOCK, /* {% */
    JINJA_T_BLOCK_END,
    JINJA_T_NAME,
    JINJA_T_STRING, /* unescaped */
    JINJA_T_INT,
    JINJA_T_FLOAT,
    JINJA_T_OP, /* str is its spelling */
    JINJA_T_END,
};

struct jinja_token {
    enum jinja_token_kind kind;
    int line;
    struct jinja_str str;
    int64_t integer;
    double real;
};

struct jinja_lexer {
    struct jinja *j;
    struct jinja_str source; /* line ends are line feeds */
    size_t at;
    int line;
    bool in_tag;
    enum jinja_token_kind tag; /* PRINT or BLOCK */
    unsigned brackets;         /* open ones in this tag: "}}" inside them ends no tag */
    bool line_starts;          /* what comes next starts a line */
    bool strip_next;           /* a "-" before asks to strip the text */
};

bool jinja_lex_init(struct jinja_lexer *lexer, struct jinja *j, const char *source, size_t n);
/* False: failed. After the end: JINJA_T_END for ever. */
bool jinja_lex(struct jinja_lexer *lexer, struct jinja_token *out_token);

/* ---- nodes: jinja_parse.c, jinja_expr.c ---- */

enum jinja_node_kind {
    /* expressions */
    JINJA_N_CONST,   /* value */
    JINJA_N_NAME,    /* name */
    JINJA_N_LIST,    /* list */
    JINJA_N_TUPLE,   /* list */
    JINJA_N_DICT,    /* list: key, value, key, value ... */
    JINJA_N_ATTR,    /* a.name */
    JINJA_N_INDEX,   /* a[b] */
    JINJA_N_SLICE,   /* a[list[0]:list[1]:list[2]], each may be NULL */
    JINJA_N_CALL,    /* a(list) */
    JINJA_N_FILTER,  /* a | name(list) */
    JINJA_N_TEST,    /* a is name(list) */
    JINJA_N_KEYWORD, /* in the list of the three above: name=a */
    JINJA_N_NOT,     /* not a */
    JINJA_N_SIGN,    /* op a */
    JINJA_N_BINARY,  /* a op b */
    JINJA_N_AND,
    JINJA_N_OR,
    JINJA_N_COMPARE, /* a, then list of COMPARE nodes (op, a) */
    JINJA_N_COND,    /* a if b else c (c may be NULL) */
    /* statements */
    JINJA_N_TEXT,         /* value */
    JINJA_N_PRINT,        /* {{ a }} */
    JINJA_N_BODY,         /* list */
    JINJA_N_IF,           /* list of BRANCH */
    JINJA_N_BRANCH,       /* condition a (NULL: else), body b */
    JINJA_N_FOR,          /* for a in b [if c]: list[0], else list[1] (may be NULL) */
    JINJA_N_SET,          /* a = b; without b: the text of c */
    JINJA_N_WITH,         /* list: target, expression, ...; body a */
    JINJA_N_MACRO,        /* name(list of KEYWORD, default a or NULL): b */
    JINJA_N_FILTER_BLOCK, /* the text of c through a */
    JINJA_N_BREAK,
    JINJA_N_CONTINUE,
};

enum jinja_op {
    JINJA_OP_ADD,
    JINJA_OP_SUB,
    JINJA_OP_MUL,
    JINJA_OP_DIV,
    JINJA_OP_FLOORDIV,
    JINJA_OP_MOD,
    JINJA_OP_POW,
    JINJA_OP_CONCAT,
    JINJA_OP_EQ,
    JINJA_OP_NE,
    JINJA_OP_LT,
    JINJA_OP_LE,
    JINJA_OP_GT,
    JINJA_OP_GE,
    JINJA_OP_IN,
    JINJA_OP_NOT_IN,
};

struct jinja_node {
    enum jinja_node_kind kind;
    enum jinja_op op;
    int line;
    struct jinja_str name;
    struct jinja_value *value;
    struct jinja_node *a, *b, *c;
    struct jinja_node **list;
    size_t n_list, list_capacity;
};

struct jinja_parser {
    struct jinja *j;
    struct jinja_lexer lexer;
    struct jinja_token token, next; /* one token of look-ahead */
};

struct jinja_node *jinja_parse(struct jinja *j, const char *source, size_t n); /* a BODY */

struct jinja_node *jinja_new_node(struct jinja_parser *p, enum jinja_node_kind kind);
bool jinja_node_push(struct jinja_parser *p, struct jinja_node *node, struct jinja_node *item);
bool jinja_advance(struct jinja_parser *p);
bool jinja_at_op(const struct jinja_parser *p, const char *op);
bool jinja_at_name(const struct jinja_parser *p, const char *name);
bool jinja_expect_op(struct jinja_parser *p, const char *op);
void *jinja_unexpected(struct jinja_parser *p, const char *wanted);
/* with_cond: "x if y else z" is allowed. The tuple form makes "a, b" a tuple. */
struct jinja_node *jinja_parse_expr(struct jinja_parser *p, bool with_cond);
struct jinja_node *jinja_parse_tuple(struct jinja_parser *p, bool with_cond);
struct jinja_node *jinja_parse_target(struct jinja_parser *p);
struct jinja_node *jinja_parse_filters(struct jinja_parser *p, struct jinja_node *subject);

/* ---- running: jinja_eval.c, jinja_math.c, jinja_exec.c, jinja_call.c ---- */

struct jinja_var {
    struct jinja_str name;
    struct jinja_value *value;
};

struct jinja_scope {
    struct jinja_scope *parent;
    struct jinja_var *vars;
    size_t n, capacity;
    unsigned loop_depth; /* how many loops are around */
    bool captured;       /* a macro refers to it: must not be reused */
};

struct jinja_keyword {
    struct jinja_str name;
    struct jinja_value *value;
};

#define JINJA_ARGS_MAX 6 /* the most parameters that one of our functions names */

/* The arguments of one call. */
struct jinja_args {
    struct jinja_value **pos;
    size_t n_pos;
    struct jinja_keyword *keywords;
    size_t n_keywords;
    struct jinja_value *arg[JINJA_ARGS_MAX]; /* by the names in the builtin; NULL: not given */
};

/* A function, filter, test or method. params names what it takes, separated by blanks; "*" instead
 * leaves pos and keywords to the function. */
struct jinja_builtin {
    const char *name;
    const char *params;
    struct jinja_value *(*call)(
            struct jinja *j, struct jinja_value *self, const struct jinja_args *args);
};

struct jinja {
    struct jinja_area objects, texts;
    struct jinja_limits limits;
    size_t memory_used;
    uint64_t steps_used;
    unsigned depth;
    int64_t now_unix;
    int line;    /* of the node at work */
    bool failed; /* err is set */
    bool raised;
    struct err err;
    struct jinja_scope globals;
    struct jinja_scope *scope;
    struct jinja_text *out;                      /* where output goes now */
    struct jinja_value undefined, none, yes, no; /* the ones without contents */
};

enum jinja_flow { JINJA_FAILED, JINJA_GO_ON, JINJA_BROKE, JINJA_CONTINUED };

/* The text that body prints. False: failed. */
bool jinja_capture(struct jinja *j, const struct jinja_node *body, struct jinja_text *out);
struct jinja_value *jinja_eval(struct jinja *j, const struct jinja_node *node);
struct jinja_value *jinja_attr(struct jinja *j, struct jinja_value *of, struct jinja_str name);
struct jinja_value *jinja_index(struct jinja *j, struct jinja_value *of, struct jinja_value *key);
struct jinja_value *jinja_slice(struct jinja *j, struct jinja_value *of, struct jinja_value **part);
struct jinja_value *jinja_binary(
        struct jinja *j, enum jinja_op op, struct jinja_value *a, struct jinja_value *b);
int jinja_relation(struct jinja *j, enum jinja_op op, struct jinja_value *a, struct jinja_value *b);
bool jinja_assign(struct jinja *j, struct jinja_scope *scope, struct jinja_str name,
        struct jinja_value *value);
/* "'x' is undefined", for what cannot be done with an undefined value. */
void *jinja_fail_undefined(struct jinja *j, const struct jinja_value *v);
struct jinja_value *jinja_lookup(struct jinja *j, struct jinja_str name); /* NULL: no such */
struct jinja_value *jinja_call_macro(
        struct jinja *j, const struct jinja_value *macro, const struct jinja_args *args);

struct jinja_value *jinja_eval_call(struct jinja *j, const struct jinja_node *node);
struct jinja_value *jinja_eval_filter(
        struct jinja *j, const struct jinja_node *node, struct jinja_value *subject);
struct jinja_value *jinja_eval_test(
        struct jinja *j, const struct jinja_node *node, struct jinja_value *subject);
/* By name, with arguments at hand (map, select ...). */
struct jinja_value *jinja_apply_filter(struct jinja *j, struct jinja_str name,
        struct jinja_value *subject, struct jinja_args *args);
int jinja_apply_test(struct jinja *j, struct jinja_str name, struct jinja_value *subject,
        struct jinja_args *args);
/* Arguments as the type a builtin needs; absent gives the default. False: failed. */
bool jinja_arg_int(struct jinja *j, const struct jinja_value *arg, int64_t *io_value);
bool jinja_arg_str(struct jinja *j, const struct jinja_value *arg, struct jinja_str *io_value);

/* Tables, each ended by a NULL name. */
extern const struct jinja_builtin jinja_functions[];    /* jinja_call.c */
extern const struct jinja_builtin jinja_filters[];      /* jinja_filter.c */
extern const struct jinja_builtin jinja_list_filters[]; /* jinja_filter_list.c */
extern const struct jinja_builtin jinja_tests[];        /* jinja_is.c */
extern const struct jinja_builtin jinja_str_methods[];  /* jinja_str_method.c */
/* jinja_method.c */
const struct jinja_builtin *jinja_find_method(const struct jinja_value *of, struct jinja_str name);
/* Whether Python has a method of this name, and we do not. */
bool jinja_lacks_method(const struct jinja_value *of, struct jinja_str name);

/* ---- JSON: jinja_json.c ---- */

struct jinja_json_style {
    bool ascii; /* \uXXXX for everything else */
    bool sort_keys;
    bool spread; /* line feeds, and indent for every level */
    struct jinja_str indent, item_separator, key_separator;
};
bool jinja_dump_json(struct jinja *j, struct jinja_text *text, const struct jinja_value *v,
        const struct jinja_json_style *style);
/* NULL: failed; *out_at is where. */
struct jinja_value *jinja_parse_json(struct jinja *j, struct jinja_str text, size_t *out_at);
