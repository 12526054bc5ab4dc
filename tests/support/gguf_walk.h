/* gguf_walk.h - touches everything an open GGUF file offers, for tests and fuzzing. */
#pragma once

#include "proto/format/gguf.h"

/* Asks every getter for every key, reads every array element, walks every string, finds every
 * tensor by name and reads its bytes. Returns a sum over all of it, so that no read is optimised
 * away. Any thread. */
uint64_t gguf_walk(const struct gguf *gguf);
