/* jinja_lex.c - template source to tokens, with the white-space rules of chat templates.
 * Owns: nothing; token texts lie in the source or in the struct jinja. Does not: know grammar.
 * Runs on: the owner thread. */
#include "coordinator/text/jinja_internal.h"

#include "coordinator/text/utf8.h"

#include <stdlib.h>
#include <string.h>

/* Line ends become line feeds, and the last one goes. */
bool jinja_lex_init(struct jinja_lexer *lexer, struct jinja *j, const char *source, size_t n) {
    *lexer = (struct jinja_lexer){.j = j, .line = 1, .line_starts = true};
    char *clean = jinja_alloc_text(j, n + 1);
    if (!clean) return false;
    size_t n_clean = 0;
    for (size_t i = 0; i < n; i++) {
        if (source[i] == '\r' && i + 1 < n && source[i + 1] == '\n') continue;
        clean[n_clean++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (n_clean && clean[n_clean - 1] == '\n') n_clean--;
    lexer->source = (struct jinja_str){clean, n_clean};
    return true;
}

static char peek(const struct jinja_lexer *lx, size_t ahead) {
    size_t at = lx->at + ahead;
    return at < lx->source.n ? lx->source.bytes[at] : 0;
}

static void skip(struct jinja_lexer *lx, size_t n) {
    for (size_t i = 0; i < n && lx->at < lx->source.n; i++)
        if (lx->source.bytes[lx->at++] == '\n') lx->line++;
}

static void skip_space(struct jinja_lexer *lx) {
    while (lx->at < lx->source.n) {
        uint32_t cp;
        size_t n = jinja_char(lx->source, lx->at, &cp);
        if (!jinja_is_space(cp)) return;
        skip(lx, n);
    }
}

static bool at_text(const struct jinja_lexer *lx, const char *text) {
    size_t n = strlen(text);
    return n <= lx->source.n - lx->at && memcmp(lx->source.bytes + lx->at, text, n) == 0;
}

static bool is_name_start(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80);
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* The text from `start` to here, as the tag that follows (at lexer->at; 0 for the end of the
 * source) leaves it. */
static struct jinja_str trimmed_text(struct jinja_lexer *lx, size_t start, char tag) {
    struct jinja_str text = {lx->source.bytes + start, lx->at - start};
    char sign = tag ? peek(lx, 2) : 0;
    if (sign == '-') return jinja_strip(text, false, true);
    if (!tag || sign == '+' || tag == '{') return text;
    size_t line = text.n;
    while (line > 0 && text.bytes[line - 1] != '\n')
        line--;
    if (line == 0 && !lx->line_starts) return text;
    struct jinja_str blanks = {text.bytes + line, text.n - line};
    if (jinja_strip(blanks, true, false).n == 0) text.n = line;
    return text;
}

/* What the end of a block or comment swallows behind itself. */
static void after_tag(struct jinja_lexer *lx, bool strip, bool trim) {
    if (strip)
        skip_space(lx);
    else if (trim && peek(lx, 0) == '\n')
        skip(lx, 1);
    lx->line_starts = lx->at > 0 && lx->source.bytes[lx->at - 1] == '\n';
}

static bool skip_comment(struct jinja_lexer *lx) {
    skip(lx, 2);
    while (lx->at < lx->source.n && !at_text(lx, "#}"))
        skip(lx, 1);
    if (lx->at == lx->source.n) {
        jinja_fail(lx->j, ERR_UNSUPPORTED, "the chat template has a comment without an end");
        return false;
    }
    char sign = lx->source.bytes[lx->at - 1];
    skip(lx, 2);
    after_tag(lx, sign == '-', sign != '+');
    return true;
}

/* "{% raw %}" at the current place: its length, or 0. name: "raw" or "endraw". */
static size_t raw_tag(const struct jinja_lexer *lx, const char *name, char *out_sign) {
    size_t i = 2;
    if (peek(lx, i) == '-' || peek(lx, i) == '+') i++;
    while (peek(lx, i) == ' ' || peek(lx, i) == '\n' || peek(lx, i) == '\t')
        i++;
    for (; *name; name++, i++)
        if (peek(lx, i) != *name) return 0;
    while (peek(lx, i) == ' ' || peek(lx, i) == '\n' || peek(lx, i) == '\t')
        i++;
    *out_sign = peek(lx, i);
    if (*out_sign == '-' || *out_sign == '+') i++;
    return peek(lx, i) == '%' && peek(lx, i + 1) == '}' ? i + 2 : 0;
}

/* Behind {% raw %}: everything up to {% endraw %} is text. */
static bool lex_raw(struct jinja_lexer *lx, size_t n_tag, char sign, struct jinja_token *out) {
    skip(lx, n_tag);
    after_tag(lx, sign == '-', false);
    size_t start = lx->at;
    for (; lx->at < lx->source.n; skip(lx, 1)) {
        if (!at_text(lx, "{%")) continue;
        size_t n_end = raw_tag(lx, "endraw", &sign);
        if (n_end == 0) continue;
        out->kind = JINJA_T_TEXT;
        out->str = trimmed_text(lx, start, '%');
        skip(lx, n_end);
        after_tag(lx, sign == '-', true);
        return true;
    }
    jinja_fail(lx->j, ERR_UNSUPPORTED, "the chat template has {%% raw %%} without an end");
    return false;
}

static void find_tag(struct jinja_lexer *lx) {
    for (;;) {
        const char *brace = memchr(lx->source.bytes + lx->at, '{', lx->source.n - lx->at);
        size_t next = brace ? (size_t)(brace - lx->source.bytes) : lx->source.n;
        skip(lx, next - lx->at);
        char c = peek(lx, 1);
        if (!brace || c == '{' || c == '%' || c == '#') return;
        skip(lx, 1);
    }
}

/* Outside of tags: a text, or the beginning of a tag when no text is left in front of it. */
static bool lex_outside(struct jinja_lexer *lx, struct jinja_token *out) {
    for (;;) {
        size_t start = lx->at;
        int line = lx->line;
        find_tag(lx);
        char tag = lx->at < lx->source.n ? peek(lx, 1) : 0;
        out->str = trimmed_text(lx, start, tag);
        out->line = line;
        out->kind = JINJA_T_TEXT;
        if (out->str.n) return true;
        out->line = lx->line;
        if (!tag) {
            out->kind = JINJA_T_END;
            return true;
        }
        if (tag == '#') {
            lx->j->line = lx->line;
            if (!skip_comment(lx)) return false;
            continue;
        }
        char sign;
        size_t n_raw = tag == '%' ? raw_tag(lx, "raw", &sign) : 0;
        if (n_raw) {
            if (!lex_raw(lx, n_raw, sign, out)) return false;
            if (out->str.n) return true;
            continue;
        }
        out->kind = lx->tag = tag == '{' ? JINJA_T_PRINT : JINJA_T_BLOCK;
        lx->in_tag = true;
        lx->brackets = 0;
        skip(lx, peek(lx, 2) == '-' || peek(lx, 2) == '+' ? 3 : 2);
        return true;
    }
}

/* A tag's end here: its length with the sign, else 0. */
static size_t tag_end(const struct jinja_lexer *lx) {
    if (lx->brackets) return 0;
    bool print = lx->tag == JINJA_T_PRINT;
    size_t i = peek(lx, 0) == '-' || (!print && peek(lx, 0) == '+') ? 1 : 0;
    return peek(lx, i) == (print ? '}' : '%') && peek(lx, i + 1) == '}' ? i + 2 : 0;
}

static bool lex_number(struct jinja_lexer *lx, struct jinja_token *out) {
    char digits[64];
    size_t n = 0;
    bool real = false;
    for (;; skip(lx, 1)) {
        char c = peek(lx, 0);
        bool exponent = (c == 'e' || c == 'E') && n &&
                        (is_digit(peek(lx, 1)) || ((peek(lx, 1) == '-' || peek(lx, 1) == '+') &&
                                                          is_digit(peek(lx, 2))));
        bool sign = (c == '-' || c == '+') && n && (digits[n - 1] | 32) == 'e';
        bool point = c == '.' && is_digit(peek(lx, 1)) && !real;
        if (c == '_' && is_digit(peek(lx, 1))) continue;
        if (!is_digit(c) && !exponent && !sign && !point) break;
        if (exponent || point) real = true;
        if (n == sizeof digits - 1) {
            jinja_fail(lx->j, ERR_UNSUPPORTED, "the chat template has a number of %zu digits", n);
            return false;
        }
        digits[n++] = c;
    }
    digits[n] = 0;
    out->kind = real ? JINJA_T_FLOAT : JINJA_T_INT;
    if (real) {
        out->real = strtod(digits, NULL);
        return true;
    }
    for (size_t i = 0; i < n; i++) {
        if (__builtin_mul_overflow(out->integer, 10, &out->integer) ||
                __builtin_add_overflow(out->integer, digits[i] - '0', &out->integer)) {
            jinja_fail(lx->j, ERR_UNSUPPORTED, "the chat template has the number %s", digits);
            return false;
        }
    }
    return true;
}

static int hex_value(char c) {
    if (is_digit(c)) return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* An escape of `n` digits of base 8 or 16 at bytes[0]; how many were read. */
static size_t read_code(const char *bytes, size_t n_left, size_t n, int base, uint32_t *out_cp) {
    size_t i = 0;
    *out_cp = 0;
    for (; i < n && i < n_left; i++) {
        int digit = hex_value(bytes[i]);
        if (digit < 0 || digit >= base) break;
        *out_cp = *out_cp * (uint32_t)base + (uint32_t)digit;
    }
    return i;
}

/* The escape behind a backslash at in[0], as Python reads it; bytes written to out (up to 5). */
static size_t unescape(const char *in, size_t n_left, char *out, size_t *out_n) {
    static const char from[] = "ntrabfv\\'\"", to[] = "\n\t\r\a\b\f\v\\'\"";
    const char *simple = in[0] ? strchr(from, in[0]) : NULL;
    if (simple) {
        out[0] = to[simple - from];
        *out_n = 1;
        return 1;
    }
    if (in[0] == '\n') {
        *out_n = 0;
        return 1;
    }
    uint32_t cp = 0;
    size_t wanted = in[0] == 'x' ? 2 : in[0] == 'u' ? 4 : in[0] == 'U' ? 8 : 0;
    size_t used = 0;
    if (wanted) {
        used = 1;
        size_t n = read_code(in + 1, n_left - 1, wanted, 16, &cp);
        used = n == wanted ? n + 1 : 0;
    } else {
        used = read_code(in, n_left, 3, 8, &cp);
    }
    *out_n = used ? utf8_encode(cp, out) : 0;
    if (*out_n) return used;
    out[0] = '\\'; /* no escape: both characters stay */
    *out_n = 1;
    return 0;
}

static bool lex_string(struct jinja_lexer *lx, struct jinja_token *out) {
    char quote = peek(lx, 0);
    skip(lx, 1);
    size_t start = lx->at;
    bool escapes = false;
    while (lx->at < lx->source.n && peek(lx, 0) != quote) {
        if (peek(lx, 0) == '\\') {
            escapes = true;
            skip(lx, 1);
        }
        skip(lx, 1);
    }
    if (lx->at >= lx->source.n) {
        jinja_fail(lx->j, ERR_UNSUPPORTED, "the chat template has a string without an end");
        return false;
    }
    const char *in = lx->source.bytes + start;
    size_t n_in = lx->at - start;
    skip(lx, 1);
    out->kind = JINJA_T_STRING;
    out->str = (struct jinja_str){in, n_in};
    if (!escapes) return true;

    char *text = jinja_alloc_text(lx->j, n_in); /* an escape is never shorter than what it means */
    if (!text) return false;
    size_t n = 0;
    for (size_t i = 0; i < n_in;) {
        if (in[i] != '\\') {
            text[n++] = in[i++];
            continue;
        }
        size_t n_out;
        i++;
        i += unescape(in + i, n_in - i, text + n, &n_out);
        n += n_out;
    }
    out->str = (struct jinja_str){text, n};
    return true;
}

static bool lex_op(struct jinja_lexer *lx, struct jinja_token *out) {
    static const char *const ops[] = {"==", "!=", ">=", "<=", "//", "**", "+", "-", "*", "/", "%",
            "~", "(", ")", "[", "]", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";", NULL};
    for (size_t i = 0; ops[i]; i++) {
        if (!at_text(lx, ops[i])) continue;
        out->kind = JINJA_T_OP;
        out->str = (struct jinja_str){ops[i], strlen(ops[i])};
        skip(lx, out->str.n);
        if (strchr("([{", ops[i][0])) lx->brackets++;
        if (strchr(")]}", ops[i][0]) && lx->brackets) lx->brackets--;
        return true;
    }
    uint32_t cp;
    size_t n = jinja_char(lx->source, lx->at, &cp);
    jinja_fail(lx->j, ERR_UNSUPPORTED, "the chat template has '%.*s' where it makes no sense",
            (int)n, lx->source.bytes + lx->at);
    return false;
}

static bool lex_inside(struct jinja_lexer *lx, struct jinja_token *out) {
    skip_space(lx);
    out->line = lx->line;
    lx->j->line = lx->line;
    if (lx->at == lx->source.n) {
        jinja_fail(lx->j, ERR_UNSUPPORTED, "the chat template ends inside of a tag");
        return false;
    }
    size_t n_end = tag_end(lx);
    if (n_end) {
        bool strip = peek(lx, 0) == '-', keep = peek(lx, 0) == '+';
        out->kind = lx->tag == JINJA_T_PRINT ? JINJA_T_PRINT_END : JINJA_T_BLOCK_END;
        skip(lx, n_end);
        after_tag(lx, strip, out->kind == JINJA_T_BLOCK_END && !keep);
        lx->in_tag = false;
        return true;
    }
    char c = peek(lx, 0);
    if (c == '\'' || c == '"') return lex_string(lx, out);
    if (is_digit(c)) return lex_number(lx, out);
    if (!is_name_start(c)) return lex_op(lx, out);
    size_t start = lx->at;
    while (is_name_start(peek(lx, 0)) || is_digit(peek(lx, 0)))
        skip(lx, 1);
    out->kind = JINJA_T_NAME;
    out->str = (struct jinja_str){lx->source.bytes + start, lx->at - start};
    return true;
}

bool jinja_lex(struct jinja_lexer *lexer, struct jinja_token *out_token) {
    *out_token = (struct jinja_token){0};
    return lexer->in_tag ? lex_inside(lexer, out_token) : lex_outside(lexer, out_token);
}
