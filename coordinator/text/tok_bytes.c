/* tok_bytes.c - the stand-in characters of byte-level BPE, the names of byte tokens, and
 * U+2581.
 * Owns: nothing. Runs on: any thread.
 *
 * A byte that prints (0x21-0x7E, 0xA1-0xAC, 0xAE-0xFF) stands for itself as a code point; the other
 * 68, in ascending order, are U+0100 to U+0143. */
#include "coordinator/text/tok_internal.h"

#include "coordinator/text/utf8.h"

#include <string.h>

/* The byte of a stand-in character, or -1. */
static int byte_of(uint32_t cp) {
    bool prints = (cp >= 0x21 && cp <= 0x7e) || (cp >= 0xa1 && cp <= 0xff && cp != 0xad);
    if (prints) return (int)cp;
    if (cp < 0x100 || cp > 0x143) return -1;
    uint32_t i = cp - 0x100;
    if (i < 0x21) return (int)i;                  /* 0x00-0x20 */
    if (i < 0x21 + 0x22) return (int)(i - 0x21 + 0x7f); /* 0x7f-0xa0 */
    return 0xad;
}

int bytes_from_mapped(struct buf *out, const char *text, size_t n, struct err *err) {
    size_t n_before = out->n_bytes;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t length = utf8_decode(text + i, n - i, &cp);
        int byte = length ? byte_of(cp) : -1;
        if (byte < 0) {
            out->n_bytes = n_before;
            return 0;
        }
        char raw = (char)byte;
        int rc = buf_append(out, &raw, 1, err);
        if (rc < 0) return rc;
        i += length;
    }
    return 1;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

int byte_from_token_text(struct tok_text text) {
    const char *t = text.bytes;
    if (text.n != 6 || t[0] != '<' || t[1] != '0' || t[2] != 'x' || t[5] != '>') return -1;
    int high = hex_digit(t[3]), low = hex_digit(t[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

bool has_inner_space(const char *text, size_t n) {
    size_t i = 0;
    while (n - i >= 3 && memcmp(text + i, SPACE_MARK, 3) == 0)
        i += 3;
    return memmem(text + i, n - i, SPACE_MARK, 3) != NULL;
}
