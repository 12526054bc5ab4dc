/* wire_text.c - names and texts on the wire: UTF-8 without control characters. They end up in
 * tables, logs and terminals of the other side. Owns: nothing. Runs on: any thread. */
#include "proto/wire/wire_internal.h"

#include <string.h>

/* Bytes of the character at `text` (terminated by 0): 1 to 4, or 0 when it is no well-formed UTF-8
 * (the table "Well-Formed UTF-8 Byte Sequences" of the Unicode standard) or a control character. */
static size_t char_bytes(const char *text) {
    const unsigned char *c = (const unsigned char *)text;
    if (c[0] < 0x20 || c[0] == 0x7f) return 0;
    if (c[0] < 0x80) return 1;
    if (c[0] < 0xc2 || c[0] > 0xf4) return 0;

    size_t n = c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : 4;
    unsigned char low = 0x80, high = 0xbf;
    if (c[0] == 0xe0) low = 0xa0;
    if (c[0] == 0xed) high = 0x9f; /* no surrogates */
    if (c[0] == 0xf0) low = 0x90;
    if (c[0] == 0xf4) high = 0x8f;
    if (c[0] == 0xc2) low = 0xa0; /* U+0080 to U+009F are controls */
    if (c[1] < low || c[1] > high) return 0;
    for (size_t i = 2; i < n; i++)
        if (c[i] < 0x80 || c[i] > 0xbf) return 0;
    return n;
}

void wire_text_clean(char *out, size_t out_bytes, const char *text) {
    size_t n_out = 0;
    while (*text) {
        size_t n = char_bytes(text);
        const char *from = n ? text : "?";
        if (n == 0) n = 1;
        if (n_out + n >= out_bytes) break;
        memcpy(out + n_out, from, n);
        n_out += n;
        text += n;
    }
    out[n_out] = 0;
}

int wire_text_take(
        char *out, size_t out_bytes, const char *text, const char *what, struct err *err) {
    size_t n_bytes = strlen(text);
    if (n_bytes >= out_bytes)
        return err_set(err, ERR_PROTOCOL, "%s has %zu bytes; %zu are possible", what, n_bytes,
                out_bytes - 1);
    for (size_t at = 0; at < n_bytes;) {
        size_t n = char_bytes(text + at);
        if (n == 0)
            return err_set(err, ERR_PROTOCOL, "%s is not plain UTF-8 at byte %zu", what, at);
        at += n;
    }
    memcpy(out, text, n_bytes + 1);
    return 0;
}
