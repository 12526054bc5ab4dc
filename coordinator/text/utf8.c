/* utf8.c - the table of well-formed sequences (Unicode 15, table 3-7), as code.
 * Owns: nothing. Does not: normalise. Runs on: any thread. */
#include "coordinator/text/utf8.h"

#include <string.h>

static uint8_t byte_at(const char *bytes, size_t i) {
    return (uint8_t)bytes[i];
}

/* Length by lead byte and the range of the second byte; 0 for bytes that start no character. */
static size_t lead_length(uint8_t lead, uint8_t *out_low, uint8_t *out_high) {
    *out_low = 0x80;
    *out_high = 0xbf;
    if (lead < 0x80) return 1;
    if (lead < 0xc2) return 0;
    if (lead < 0xe0) return 2;
    if (lead < 0xf0) {
        if (lead == 0xe0) *out_low = 0xa0;
        if (lead == 0xed) *out_high = 0x9f;
        return 3;
    }
    if (lead > 0xf4) return 0;
    if (lead == 0xf0) *out_low = 0x90;
    if (lead == 0xf4) *out_high = 0x8f;
    return 4;
}

/* How many of the bytes at the start fit one character; *out_need is that character's length, 0
 * when the first byte starts none. */
static size_t fitting(const char *bytes, size_t n, size_t *out_need) {
    uint8_t low, high;
    *out_need = lead_length(byte_at(bytes, 0), &low, &high);
    if (*out_need == 0) return 0;
    size_t have = 1;
    while (have < *out_need && have < n) {
        uint8_t next = byte_at(bytes, have);
        if (next < low || next > high) break;
        low = 0x80;
        high = 0xbf;
        have++;
    }
    return have;
}

size_t utf8_decode(const char *bytes, size_t n, uint32_t *out_cp) {
    if (n == 0) return 0;
    size_t need;
    if (fitting(bytes, n, &need) < need || need == 0) return 0;
    if (out_cp) {
        uint32_t cp = byte_at(bytes, 0);
        if (need > 1) cp &= 0x7fu >> need;
        for (size_t i = 1; i < need; i++)
            cp = cp << 6 | (byte_at(bytes, i) & 0x3fu);
        *out_cp = cp;
    }
    return need;
}

size_t utf8_encode(uint32_t cp, char out[4]) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        if (cp >= 0xd800 && cp < 0xe000) return 0;
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    if (cp > 0x10ffff) return 0;
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

/* Length of the valid text in front. */
static size_t valid_prefix(const char *bytes, size_t n) {
    size_t i = 0;
    while (i < n) {
        if (byte_at(bytes, i) < 0x80) {
            i++;
            continue;
        }
        size_t length = utf8_decode(bytes + i, n - i, NULL);
        if (length == 0) break;
        i += length;
    }
    return i;
}

bool utf8_valid(const char *bytes, size_t n) {
    return valid_prefix(bytes, n) == n;
}

size_t utf8_bad_bytes(const char *bytes, size_t n) {
    size_t need;
    size_t have = fitting(bytes, n, &need);
    return have > 0 ? have : 1;
}

size_t utf8_unfinished(const char *bytes, size_t n) {
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        size_t need;
        size_t have = fitting(bytes + n - back, back, &need);
        if (have == back && have < need) return back;
        if (byte_at(bytes, n - back) < 0x80 || byte_at(bytes, n - back) >= 0xc0) return 0;
    }
    return 0;
}

int utf8_append(struct buf *out, const char *bytes, size_t n, struct err *err) {
    size_t i = 0;
    while (i < n) {
        size_t good = valid_prefix(bytes + i, n - i);
        int rc = buf_append(out, bytes + i, good, err);
        if (rc < 0) return rc;
        i += good;
        if (i == n) break;
        rc = buf_append(out, "\xef\xbf\xbd", 3, err);
        if (rc < 0) return rc;
        i += utf8_bad_bytes(bytes + i, n - i);
    }
    return 0;
}
