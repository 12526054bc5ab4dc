/* wire_example.h - one message of each kind with contents that never change: what the golden bytes
 * in tests/golden/wire were made from. */
#pragma once

#include "proto/wire/wire.h"

#define WIRE_EXAMPLES 15

struct wire_example {
    const char *name; /* of the golden file */
    void (*encode)(struct wire_out *out);
    void (*check)(const struct wire_in *in); /* asserts every field */
};

extern const struct wire_example wire_examples[WIRE_EXAMPLES];
