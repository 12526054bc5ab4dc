/* jinja_print.c - values as text, the way Python prints them.
 * Owns: nothing. Does not: JSON (jinja_json.c). Runs on: the owner thread. */
#include "coordinator/text/jinja_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Python's repr(): the fewest digits that give the same number back; an exponent below 1e-4 and
 * from 1e16 on. */
void jinja_real_text(double value, char out[40]) {
    if (!isfinite(value)) {
        snprintf(out, 40, "%s", isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
        return;
    }
    char digits[40];
    int precision = 0;
    do {
        snprintf(digits, sizeof digits, "%.*e", precision, value);
    } while (precision++ < 17 && strtod(digits, NULL) != value);
    int exponent = (int)strtol(strchr(digits, 'e') + 1, NULL, 10);
    precision--;
    if (exponent < -4 || exponent >= 16) {
        *strchr(digits, 'e') = 0;
        snprintf(out, 40, "%.25se%c%02d", digits, exponent < 0 ? '-' : '+', abs(exponent) % 1000);
        return;
    }
    int decimals = precision - exponent;
    snprintf(out, 40, "%.*f", decimals > 1 ? decimals : 1, value);
}

static bool print_escaped(struct jinja *j, struct jinja_text *text, uint32_t cp, const char *bytes,
        size_t n, char quote) {
    char code[16];
    if (cp == '\n') return jinja_text_append(j, text, "\\n", 2);
    if (cp == '\r') return jinja_text_append(j, text, "\\r", 2);
    if (cp == '\t') return jinja_text_append(j, text, "\\t", 2);
    if (cp == '\\' || cp == (uint32_t)quote) {
        code[0] = '\\';
        code[1] = (char)cp;
        return jinja_text_append(j, text, code, 2);
    }
    if (!jinja_is_control(cp)) return jinja_text_append(j, text, bytes, n);
    if (cp < 0x100)
        snprintf(code, sizeof code, "\\x%02" PRIx32, cp);
    else if (cp < 0x10000)
        snprintf(code, sizeof code, "\\u%04" PRIx32, cp);
    else
        snprintf(code, sizeof code, "\\U%08" PRIx32, cp);
    return jinja_text_str(j, text, code);
}

static bool repr_string(struct jinja *j, struct jinja_text *text, struct jinja_str str) {
    bool single = str.n && memchr(str.bytes, '\'', str.n);
    bool twice = str.n && memchr(str.bytes, '"', str.n);
    char quote = single && !twice ? '"' : '\'';
    if (!jinja_text_append(j, text, &quote, 1) || !jinja_step(j, str.n / 8)) return false;
    for (size_t at = 0; at < str.n;) {
        uint32_t cp;
        size_t n = jinja_char(str, at, &cp);
        if (!print_escaped(j, text, cp, str.bytes + at, n, quote)) return false;
        at += n;
    }
    return jinja_text_append(j, text, &quote, 1);
}

static bool repr_sequence(struct jinja *j, struct jinja_text *text, const struct jinja_value *v) {
    bool list = v->type == JINJA_LIST;
    if (!jinja_text_str(j, text, list ? "[" : "(")) return false;
    for (size_t i = 0; i < v->list.n; i++) {
        if (i && !jinja_text_str(j, text, ", ")) return false;
        if (!jinja_repr(j, text, v->list.items[i])) return false;
    }
    return jinja_text_str(j, text, list ? "]" : v->list.n == 1 ? ",)" : ")");
}

static bool repr_dict(struct jinja *j, struct jinja_text *text, const struct jinja_value *v) {
    if (!jinja_text_str(j, text, "{")) return false;
    for (size_t i = 0; i < v->dict.n; i++) {
        if (i && !jinja_text_str(j, text, ", ")) return false;
        if (!jinja_repr(j, text, v->dict.pairs[i].key)) return false;
        if (!jinja_text_str(j, text, ": ")) return false;
        if (!jinja_repr(j, text, v->dict.pairs[i].value)) return false;
    }
    return jinja_text_str(j, text, "}");
}

static bool repr_flat(struct jinja *j, struct jinja_text *text, const struct jinja_value *v) {
    char number[40];
    switch (v->type) {
    case JINJA_UNDEFINED:
        return jinja_text_str(j, text, "Undefined");
    case JINJA_NONE:
        return jinja_text_str(j, text, "None");
    case JINJA_BOOL:
        return jinja_text_str(j, text, v->boolean ? "True" : "False");
    case JINJA_INT:
        snprintf(number, sizeof number, "%" PRId64, v->integer);
        return jinja_text_str(j, text, number);
    case JINJA_FLOAT:
        jinja_real_text(v->real, number);
        return jinja_text_str(j, text, number);
    case JINJA_STRING:
        return repr_string(j, text, v->str);
    default:
        snprintf(number, sizeof number, "<%s>", jinja_type_name(v));
        return jinja_text_str(j, text, number);
    }
}

bool jinja_repr(struct jinja *j, struct jinja_text *text, const struct jinja_value *v) {
    if (!jinja_enter(j)) return false;
    bool ok;
    if (jinja_is_sequence(v))
        ok = repr_sequence(j, text, v);
    else if (v->type == JINJA_DICT)
        ok = repr_dict(j, text, v);
    else
        ok = repr_flat(j, text, v);
    jinja_leave(j);
    return ok;
}

bool jinja_print(struct jinja *j, struct jinja_text *text, const struct jinja_value *v) {
    if (v->type == JINJA_UNDEFINED) return true;
    if (v->type == JINJA_STRING) return jinja_text_append(j, text, v->str.bytes, v->str.n);
    return jinja_repr(j, text, v);
}

struct jinja_value *jinja_to_string(struct jinja *j, struct jinja_value *v) {
    if (v->type == JINJA_STRING) return v;
    struct jinja_text text = {0};
    return jinja_print(j, &text, v) ? jinja_text_value(j, &text) : NULL;
}
