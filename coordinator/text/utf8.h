/* utf8.h - UTF-8 as text and as untrusted bytes. Strict: no overlong forms, no surrogates, nothing
 * above U+10FFFF. What is no UTF-8 is read as U+FFFD, one for each longest beginning of a character
 * (or else for each byte), as the Unicode standard recommends (chapter 3.9). Any thread. */
#pragma once

#include "proto/base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The character at bytes[0]: its length (1..4), and the code point in *out_cp (may be NULL).
 * 0 when n is 0 or no valid character starts here. */
size_t utf8_decode(const char *bytes, size_t n, uint32_t *out_cp);

/* Writes 1..4 bytes; returns how many; 0 when cp is no character. */
size_t utf8_encode(uint32_t cp, char out[4]);

bool utf8_valid(const char *bytes, size_t n);

/* How many bytes, 1..3, one U+FFFD stands for where utf8_decode() gave 0. n > 0. */
size_t utf8_bad_bytes(const char *bytes, size_t n);

/* How many bytes at the end (0..3) are the beginning of a character whose rest may still come. */
size_t utf8_unfinished(const char *bytes, size_t n);

/* Appends bytes[n] with U+FFFD in the place of what is no UTF-8. ERR_NO_MEMORY. */
int utf8_append(struct buf *out, const char *bytes, size_t n, struct err *err);
