/* math_ref.c - exp, log, sin and cos in binary64 with own argument reduction.
 * Owns: nothing. Does not: call the library's versions, which differ between systems.
 * Runs on: any thread. */
#include "kernels/ref/math_ref.h"

/* 1.5 * 2^52: the binary64 sibling of MATH_ROUND, valid for |v| < 2^51. */
#define ROUND64 0x1.8p+52

static uint64_t f64_bits(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double f64_from_bits(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* x = n ln 2 + r; Taylor series of exp(r) to r^13, whose remainder is below 5e-18; times 2^n. */
double math_exp64(double x) {
    static const double inverse_factorial[] = {1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800,
            1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24,
            1.0 / 6, 1.0 / 2, 1.0, 1.0};
    if (x != x) return x;
    if (x > 0x1.62e42fefa39efp+9) return (double)INFINITY;
    if (x < -700.0) return 0.0;
    double t = fma(x, 0x1.71547652b82fep+0, ROUND64);
    double n = t - ROUND64;
    double r = fma(n, -0x1.62e42fefa39efp-1, x);
    r = fma(n, -0x1.abc9e3b39803fp-56, r);
    double p = inverse_factorial[0];
    for (size_t i = 1; i < sizeof inverse_factorial / sizeof inverse_factorial[0]; i++)
        p = fma(p, r, inverse_factorial[i]);
    /* In two steps: 2^n itself has no binary64 at n = 1024. */
    uint64_t half = (f64_bits(t) << 52) - (1ULL << 52);
    return f64_from_bits(f64_bits(p) + half) * 2.0;
}

/* x = 2^e m with m in [sqrt 1/2, sqrt 2); log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.1716,
 * as 2 s + 2 s^3 (1/3 + s^2/5 + ...) to s^23, whose remainder is below 1e-20. */
double math_log64(double x) {
    if (x != x || x < 0) return (double)NAN;
    if (x == 0) return -(double)INFINITY;
    if (x > 0x1.fffffffffffffp+1023) return x;
    int e = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p+54;
        e = -54;
    }
    uint64_t bits = f64_bits(x);
    e += (int)(bits >> 52) - 1023;
    double m = f64_from_bits((bits & 0xfffffffffffffULL) | 0x3ff0000000000000ULL);
    if (m > 0x1.6a09e667f3bcdp+0) {
        m *= 0.5;
        e += 1;
    }
    double s = (m - 1.0) / (m + 1.0), z = s * s;
    double p = 1.0 / 23;
    for (int k = 21; k >= 3; k -= 2)
        p = fma(p, z, 1.0 / k);
    double series = fma(2.0 * s * z, p, 2.0 * s);
    double low = fma((double)e, 0x1.abc9e3b39803fp-56, series);
    return fma((double)e, 0x1.62e42fefa39efp-1, low);
}

/* sin and cos of |r| <= pi/4: Taylor to r^17 and r^16, remainders below 3e-18. */
static double sin_series(double r) {
    static const double c[] = {1.0 / 355687428096000, -1.0 / 1307674368000, 1.0 / 6227020800,
            -1.0 / 39916800, 1.0 / 362880, -1.0 / 5040, 1.0 / 120, -1.0 / 6};
    double z = r * r, p = c[0];
    for (size_t i = 1; i < sizeof c / sizeof c[0]; i++)
        p = fma(p, z, c[i]);
    return fma(r * z, p, r);
}

static double cos_series(double r) {
    static const double c[] = {1.0 / 20922789888000, -1.0 / 87178291200, 1.0 / 479001600,
            -1.0 / 3628800, 1.0 / 40320, -1.0 / 720, 1.0 / 24, -0.5};
    double z = r * r, p = c[0];
    for (size_t i = 1; i < sizeof c / sizeof c[0]; i++)
        p = fma(p, z, c[i]);
    return fma(z, p, 1.0);
}

/* x = n pi/2 + r with pi/2 in three parts of 53 bits; the quadrant n mod 4 stands in the low bits
 * of the rounding constant's sum. */
void math_sincos64(double x, double *out_sin, double *out_cos) {
    if (!(fabs(x) < 0x1p+50)) {
        *out_sin = *out_cos = (double)NAN;
        return;
    }
    double t = fma(x, 0x1.45f306dc9c883p-1, ROUND64);
    double n = t - ROUND64;
    double r = fma(n, -0x1.921fb54442d18p+0, x);
    r = fma(n, -0x1.1a62633145c07p-54, r);
    r = fma(n, 0x1.f1976b7ed8fbcp-110, r);
    double s = sin_series(r), c = cos_series(r);
    switch (f64_bits(t) & 3) {
    case 0:
        *out_sin = s, *out_cos = c;
        break;
    case 1:
        *out_sin = c, *out_cos = -s;
        break;
    case 2:
        *out_sin = -s, *out_cos = -c;
        break;
    default:
        *out_sin = -c, *out_cos = s;
        break;
    }
}
