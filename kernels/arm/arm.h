/* arm.h - the tables of operations for aarch64 (kernels/kern.h says what they promise).
 * Read-only, any thread. */
#pragma once

struct kern_ops;

/* Tables that this CPU can run, best first: neon-dot, neon. NULL past the end. */
const struct kern_ops *kern_arm_at(unsigned index);

/* The table of that name if this machine can run it, else NULL. */
const struct kern_ops *kern_arm_find(const char *name);
