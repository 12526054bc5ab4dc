/* jinja_json.c - JSON out of values, spelled as Python's json module does, and values out of JSON.
 * Owns: nothing. Does not: check UTF-8. Runs on: the owner thread. */
#include "coordinator/text/jinja_internal.h"

#include "coordinator/text/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- out ---- */

struct dump {
    struct jinja *j;
    struct jinja_text *text;
    const struct jinja_json_style *style;
};

static bool dump_value(struct dump *d, const struct jinja_value *v, unsigned level);

static bool put(struct dump *d, const char *bytes, size_t n) {
    return jinja_text_append(d->j, d->text, bytes, n);
}

static bool put_str(struct dump *d, const char *str) {
    return put(d, str, strlen(str));
}

static bool dump_char(struct dump *d, uint32_t cp, const char *bytes, size_t n) {
    static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
    const char *simple = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
    char code[16];
    if (simple) {
        code[0] = '\\';
        code[1] = to[simple - from];
        return put(d, code, 2);
    }
    if (cp >= 0x20 && (cp < 0x7f || !d->style->ascii)) return put(d, bytes, n);
    if (cp == 0x7f) return put(d, bytes, n);
    if (cp >= 0x10000)
        snprintf(code, sizeof code, "\\u%04" PRIx32 "\\u%04" PRIx32, 0xd7c0 + (cp >> 10),
                0xdc00 + (cp & 0x3ff));
    else
        snprintf(code, sizeof code, "\\u%04" PRIx32, cp);
    return put_str(d, code);
}

static bool dump_string(struct dump *d, struct jinja_str str) {
    if (!put(d, "\"", 1) || !jinja_step(d->j, str.n / 8)) return false;
    size_t copied = 0;
    for (size_t at = 0; at < str.n;) {
        uint32_t cp;
        size_t n = jinja_char(str, at, &cp);
        bool plain = cp >= 0x20 && cp != '"' && cp != '\\' && (cp < 0x80 || !d->style->ascii);
        if (!plain) {
            if (!put(d, str.bytes + copied, at - copied)) return false;
            if (!dump_char(d, cp, str.bytes + at, n)) return false;
            copied = at + n;
        }
        at += n;
    }
    return put(d, str.bytes + copied, str.n - copied) && put(d, "\"", 1);
}

static bool new_line(struct dump *d, unsigned level) {
    if (!d->style->spread) return true;
    if (!put(d, "\n", 1)) return false;
    for (unsigned i = 0; i < level; i++)
        if (!put(d, d->style->indent.bytes, d->style->indent.n)) return false;
    return true;
}

static bool between(struct dump *d, size_t i, unsigned level) {
    struct jinja_str separator = d->style->item_separator;
    return (i == 0 || put(d, separator.bytes, separator.n)) && new_line(d, level);
}

static bool dump_list(struct dump *d, const struct jinja_value *v, unsigned level) {
    if (v->list.n == 0) return put(d, "[]", 2);
    if (!put(d, "[", 1)) return false;
    for (size_t i = 0; i < v->list.n; i++)
        if (!between(d, i, level + 1) || !dump_value(d, v->list.items[i], level + 1)) return false;
    return new_line(d, level) && put(d, "]", 1);
}

static bool dump_key(struct dump *d, const struct jinja_value *key) {
    char number[48] = "";
    if (key->type == JINJA_STRING) return dump_string(d, key->str);
    if (key->type == JINJA_NONE) snprintf(number, sizeof number, "null");
    if (key->type == JINJA_BOOL)
        snprintf(number, sizeof number, "%s", key->boolean ? "true" : "false");
    if (key->type == JINJA_INT) snprintf(number, sizeof number, "%" PRId64, key->integer);
    if (key->type == JINJA_FLOAT) jinja_real_text(key->real, number);
    return put(d, "\"", 1) && put_str(d, number) && put(d, "\"", 1);
}

static bool dump_dict(struct dump *d, const struct jinja_value *v, unsigned level) {
    const struct jinja_value *sorted = v;
    if (v->dict.n == 0) return put(d, "{}", 2);
    if (d->style->sort_keys) {
        struct jinja_value *copy = jinja_dict(d->j), yes = {.type = JINJA_BOOL, .boolean = true};
        struct jinja_value *arg = &yes;
        struct jinja_value *items = jinja_apply_filter(d->j, (struct jinja_str){"dictsort", 8},
                (struct jinja_value *)v, &(struct jinja_args){.pos = &arg, .n_pos = 1});
        if (!copy || !items) return false;
        for (size_t i = 0; i < items->list.n; i++) {
            struct jinja_value **pair = items->list.items[i]->list.items;
            if (!jinja_put_key(d->j, copy, pair[0], pair[1])) return false;
        }
        sorted = copy;
    }
    if (!put(d, "{", 1)) return false;
    for (size_t i = 0; i < sorted->dict.n; i++) {
        struct jinja_pair pair = sorted->dict.pairs[i];
        struct jinja_str colon = d->style->key_separator;
        if (!between(d, i, level + 1) || !dump_key(d, pair.key)) return false;
        if (!put(d, colon.bytes, colon.n) || !dump_value(d, pair.value, level + 1)) return false;
    }
    return new_line(d, level) && put(d, "}", 1);
}

static bool dump_flat(struct dump *d, const struct jinja_value *v) {
    char number[48];
    switch (v->type) {
    case JINJA_NONE:
        return put_str(d, "null");
    case JINJA_BOOL:
        return put_str(d, v->boolean ? "true" : "false");
    case JINJA_INT:
        snprintf(number, sizeof number, "%" PRId64, v->integer);
        return put_str(d, number);
    case JINJA_FLOAT:
        if (isnan(v->real)) return put_str(d, "NaN");
        if (isinf(v->real)) return put_str(d, v->real > 0 ? "Infinity" : "-Infinity");
        jinja_real_text(v->real, number);
        return put_str(d, number);
    case JINJA_STRING:
        return dump_string(d, v->str);
    case JINJA_UNDEFINED:
        jinja_fail_undefined(d->j, v);
        return false;
    default:
        jinja_fail(d->j, ERR_BAD_INPUT, "the chat template makes JSON of a %s", jinja_type_name(v));
        return false;
    }
}

static bool dump_value(struct dump *d, const struct jinja_value *v, unsigned level) {
    if (!jinja_enter(d->j)) return false;
    bool ok;
    if (jinja_is_sequence(v))
        ok = dump_list(d, v, level);
    else if (v->type == JINJA_DICT)
        ok = dump_dict(d, v, level);
    else
        ok = dump_flat(d, v);
    jinja_leave(d->j);
    return ok;
}

bool jinja_dump_json(struct jinja *j, struct jinja_text *text, const struct jinja_value *v,
        const struct jinja_json_style *style) {
    struct dump dump = {j, text, style};
    return dump_value(&dump, v, 0);
}

/* ---- in ---- */

struct reader {
    struct jinja *j;
    struct jinja_str text;
    size_t at;
};

static struct jinja_value *read_value(struct reader *r);

static void *fail_json(struct reader *r, const char *wanted) {
    return jinja_fail(r->j, ERR_BAD_INPUT, "JSON that cannot be read: %s expected at byte %zu",
            wanted, r->at);
}

static char look(const struct reader *r) {
    return r->at < r->text.n ? r->text.bytes[r->at] : 0;
}

static void skip_blanks(struct reader *r) {
    while (look(r) == ' ' || look(r) == '\n' || look(r) == '\r' || look(r) == '\t')
        r->at++;
}

static bool skip_char(struct reader *r, char c) {
    skip_blanks(r);
    if (look(r) != c) return false;
    r->at++;
    return true;
}

static bool read_hex(struct reader *r, uint32_t *out) {
    *out = 0;
    for (size_t i = 0; i < 4; i++, r->at++) {
        char c = look(r);
        uint32_t digit = (uint32_t)(c - '0');
        if (digit > 9) digit = (uint32_t)((c | 32) - 'a') + 10;
        if (digit > 15) return false;
        *out = *out << 4 | digit;
    }
    return true;
}

/* Behind the "\u". A lone half of a pair becomes U+FFFD. */
static bool read_code(struct reader *r, struct jinja_text *text) {
    uint32_t cp, low;
    if (!read_hex(r, &cp)) return fail_json(r, "a hexadecimal digit") != NULL;
    if (cp >= 0xd800 && cp < 0xdc00 && r->text.n - r->at >= 6 &&
            memcmp(r->text.bytes + r->at, "\\u", 2) == 0) {
        size_t before = r->at;
        r->at += 2;
        if (read_hex(r, &low) && low >= 0xdc00 && low < 0xe000)
            cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
        else
            r->at = before;
    }
    char code[4];
    size_t n = utf8_encode(cp, code);
    return n ? jinja_text_append(r->j, text, code, n)
             : jinja_text_append(r->j, text, "\xef\xbf\xbd", 3);
}

static bool read_escape(struct reader *r, struct jinja_text *text) {
    static const char from[] = "\"\\/nrtbf", to[] = "\"\\/\n\r\t\b\f";
    char c = look(r);
    r->at++;
    if (c == 'u') return read_code(r, text);
    const char *simple = c ? strchr(from, c) : NULL;
    if (!simple) return fail_json(r, "an escape") != NULL;
    return jinja_text_append(r->j, text, &to[simple - from], 1);
}

static struct jinja_value *read_string(struct reader *r) {
    struct jinja_text text = {0};
    if (!skip_char(r, '"')) return fail_json(r, "a string");
    for (;;) {
        size_t start = r->at;
        while (r->at < r->text.n && look(r) != '"' && look(r) != '\\' &&
                (unsigned char)look(r) >= 0x20)
            r->at++;
        if (!jinja_text_append(r->j, &text, r->text.bytes + start, r->at - start)) return NULL;
        char c = look(r);
        if (r->at == r->text.n || (c != '"' && c != '\\')) return fail_json(r, "'\"'");
        r->at++;
        if (c == '"') return jinja_text_value(r->j, &text);
        if (!read_escape(r, &text)) return NULL;
    }
}

static struct jinja_value *read_number(struct reader *r) {
    char digits[64];
    size_t n = 0;
    bool real = false;
    for (; n < sizeof digits - 1; r->at++) {
        char c = look(r);
        if (!c || !strchr("+-0123456789.eE", c)) break;
        real |= c == '.' || c == 'e' || c == 'E';
        digits[n++] = c;
    }
    digits[n] = 0;
    char *end = digits;
    if (!real && n < 19) {
        long long value = strtoll(digits, &end, 10);
        if (n && *end == 0) return jinja_int(r->j, value);
    } else {
        double value = strtod(digits, &end);
        if (n && n < sizeof digits - 1 && *end == 0) return jinja_float(r->j, value);
    }
    return fail_json(r, "a value");
}

static struct jinja_value *read_list(struct reader *r) {
    struct jinja_value *list = jinja_list(r->j);
    r->at++;
    if (!list || skip_char(r, ']')) return list;
    do {
        jinja_push(r->j, list, read_value(r));
        if (r->j->failed) return NULL;
    } while (skip_char(r, ','));
    return skip_char(r, ']') ? list : fail_json(r, "']'");
}

static struct jinja_value *read_dict(struct reader *r) {
    struct jinja_value *dict = jinja_dict(r->j);
    r->at++;
    if (!dict || skip_char(r, '}')) return dict;
    do {
        struct jinja_value *key = read_string(r);
        if (!key) return NULL;
        if (!skip_char(r, ':')) return fail_json(r, "':'");
        if (!jinja_put_key(r->j, dict, key, read_value(r))) return NULL;
    } while (skip_char(r, ','));
    return skip_char(r, '}') ? dict : fail_json(r, "'}'");
}

static bool skip_word(struct reader *r, const char *word) {
    size_t n = strlen(word);
    if (r->text.n - r->at < n || memcmp(r->text.bytes + r->at, word, n) != 0) return false;
    r->at += n;
    return true;
}

static struct jinja_value *read_value(struct reader *r) {
    if (!jinja_enter(r->j)) return NULL;
    struct jinja_value *v;
    skip_blanks(r);
    if (look(r) == '{')
        v = read_dict(r);
    else if (look(r) == '[')
        v = read_list(r);
    else if (look(r) == '"')
        v = read_string(r);
    else if (skip_word(r, "null"))
        v = jinja_none(r->j);
    else if (skip_word(r, "true"))
        v = jinja_bool(r->j, true);
    else if (skip_word(r, "false"))
        v = jinja_bool(r->j, false);
    else
        v = read_number(r);
    jinja_leave(r->j);
    return v;
}

struct jinja_value *jinja_parse_json(struct jinja *j, struct jinja_str text, size_t *out_at) {
    struct reader reader = {j, text, 0};
    struct jinja_value *v = read_value(&reader);
    skip_blanks(&reader);
    if (v && reader.at < text.n) v = fail_json(&reader, "the end");
    *out_at = reader.at;
    return v;
}

int jinja_from_json(struct jinja *jinja, const char *text, size_t n, struct jinja_value **out_value,
        struct err *err) {
    size_t at;
    if (jinja->failed) return err_set(err, jinja->err.code, "%s", jinja->err.what);
    struct jinja_value *v = jinja_parse_json(jinja, (struct jinja_str){n ? text : "", n}, &at);
    if (v) {
        *out_value = v;
        return 0;
    }
    int rc = err_set(err, jinja->err.code, "%s", jinja->err.what);
    bool spoilt = jinja->err.code != ERR_BAD_INPUT;
    if (!spoilt) {
        jinja->failed = false;
        err_reset(&jinja->err);
    }
    jinja->depth = 0;
    return rc;
}
