/* arm_probe.h - which vector instructions the CPU has beyond what every aarch64 has.
 * Built with baseline flags; pure, any thread. Internal to kernels/arm. */
#pragma once

enum arm_feature {
    ARM_DOT = 1, /* FEAT_DotProd: sdot on bytes, from Armv8.2 */
};

/* A set of enum arm_feature. */
unsigned arm_probe(void);
