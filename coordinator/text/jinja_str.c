/* jinja_str.c - characters of template strings: white space, case, searching and replacing.
 * Owns: nothing. Does not: know filters or methods, which are built on this.
 * Runs on: the owner thread. */
#include "coordinator/text/jinja_internal.h"

#include "coordinator/text/utf8.h"

#include <string.h>

size_t jinja_char(struct jinja_str str, size_t at, uint32_t *out_cp) {
    size_t n = utf8_decode(str.bytes + at, str.n - at, out_cp);
    if (n) return n;
    if (out_cp) *out_cp = 0xfffd;
    return 1;
}

size_t jinja_n_chars(struct jinja_str str) {
    size_t n = 0;
    for (size_t at = 0; at < str.n; at += jinja_char(str, at, NULL))
        n++;
    return n;
}

bool jinja_is_space(uint32_t cp) {
    return (cp >= 9 && cp <= 13) || (cp >= 0x1c && cp <= 0x20) || cp == 0x85 || cp == 0xa0 ||
           cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

bool jinja_is_control(uint32_t cp) {
    return cp < 0x20 || (cp >= 0x7f && cp <= 0xa0) || cp == 0xad ||
           (cp != 0x20 && jinja_is_space(cp)) || (cp >= 0x200b && cp <= 0x200f) ||
           (cp >= 0x202a && cp <= 0x202e) || (cp >= 0x2060 && cp <= 0x206f) ||
           (cp >= 0xe000 && cp <= 0xf8ff) || cp == 0xfeff || (cp >= 0xfff0 && cp <= 0xfffb) ||
           cp >= 0xe0000;
}

/* Length of the character before `end`. */
static size_t char_before(struct jinja_str str, size_t end, uint32_t *out_cp) {
    size_t n = 1;
    while (n < 4 && n < end && ((unsigned char)str.bytes[end - n] & 0xc0) == 0x80)
        n++;
    if (jinja_char((struct jinja_str){str.bytes, end}, end - n, out_cp) == n) return n;
    *out_cp = 0xfffd;
    return 1;
}

struct jinja_str jinja_strip(struct jinja_str str, bool left, bool right) {
    uint32_t cp;
    while (left && str.n) {
        size_t n = jinja_char(str, 0, &cp);
        if (!jinja_is_space(cp)) break;
        str.bytes += n;
        str.n -= n;
    }
    while (right && str.n) {
        size_t n = char_before(str, str.n, &cp);
        if (!jinja_is_space(cp)) break;
        str.n -= n;
    }
    return str;
}

const char *jinja_find(struct jinja_str hay, size_t from, struct jinja_str needle) {
    if (from > hay.n) return NULL;
    if (needle.n == 0) return hay.bytes + from;
    return memmem(hay.bytes + from, hay.n - from, needle.bytes, needle.n);
}

/* Simple case pairs of Latin, Greek and Cyrillic; others have none here. */
static uint32_t lower_of(uint32_t cp) {
    if (cp >= 'A' && cp <= 'Z') return cp + 32;
    if (cp >= 0xc0 && cp <= 0xde && cp != 0xd7) return cp + 32;
    bool even_upper = (cp >= 0x100 && cp <= 0x12f) || (cp >= 0x132 && cp <= 0x137) ||
                      (cp >= 0x14a && cp <= 0x177) || (cp >= 0x460 && cp <= 0x481) ||
                      (cp >= 0x48a && cp <= 0x4bf) || (cp >= 0x1e00 && cp <= 0x1e95) ||
                      (cp >= 0x1ea0 && cp <= 0x1eff);
    if (even_upper) return cp | 1;
    bool odd_upper = (cp >= 0x139 && cp <= 0x148) || (cp >= 0x179 && cp <= 0x17e);
    if (odd_upper) return cp & 1 ? cp + 1 : cp;
    if (cp == 0x178) return 0xff;
    if (cp >= 0x391 && cp <= 0x3ab && cp != 0x3a2) return cp + 32;
    if (cp >= 0x410 && cp <= 0x42f) return cp + 32;
    if (cp >= 0x400 && cp <= 0x40f) return cp + 80;
    return cp;
}

static uint32_t upper_of(uint32_t cp) {
    if (cp == 0xff) return 0x178;
    static const int distances[] = {32, 80, 1};
    for (size_t i = 0; i < 3; i++) {
        uint32_t upper = cp - (uint32_t)distances[i];
        if (upper < cp && upper != cp && lower_of(upper) == cp) return upper;
    }
    return cp;
}

static bool starts_word(uint32_t before) {
    return jinja_is_space(before) || before == '-' || before == '(' || before == '{' ||
           before == '[' || before == '<';
}

struct jinja_value *jinja_recase(struct jinja *j, struct jinja_str str, enum jinja_case to) {
    struct jinja_text text = {0};
    if (!jinja_step(j, str.n / 4)) return NULL;
    uint32_t before = ' ';
    for (size_t at = 0; at < str.n;) {
        uint32_t cp;
        size_t n = jinja_char(str, at, &cp);
        bool upper = to == JINJA_UPPER || (to == JINJA_CAPITALIZE && at == 0) ||
                     (to == JINJA_TITLE && starts_word(before));
        uint32_t changed = upper ? upper_of(cp) : lower_of(cp);
        char code[4];
        size_t n_code = changed == cp ? 0 : utf8_encode(changed, code);
        if (!jinja_text_append(j, &text, n_code ? code : str.bytes + at, n_code ? n_code : n))
            return NULL;
        before = cp;
        at += n;
    }
    return jinja_text_value(j, &text);
}

struct jinja_value *jinja_replace(struct jinja *j, struct jinja_str str, struct jinja_str from,
        struct jinja_str to, int64_t max) {
    struct jinja_text text = {0};
    size_t at = 0, copied = 0;
    if (!jinja_step(j, str.n / 32)) return NULL;
    for (; max != 0 && at <= str.n; max--) {
        const char *found = jinja_find(str, at, from);
        if (!found) break;
        size_t place = (size_t)(found - str.bytes);
        if (!jinja_text_append(j, &text, str.bytes + copied, place - copied)) return NULL;
        if (!jinja_text_append(j, &text, to.bytes, to.n) || !jinja_step(j, 1)) return NULL;
        copied = place + from.n;
        at = copied;
        if (from.n == 0) at += at < str.n ? jinja_char(str, at, NULL) : 1;
    }
    if (!jinja_text_append(j, &text, str.bytes + copied, str.n - copied)) return NULL;
    return jinja_text_value(j, &text);
}
