/* kern_math_test.c - exp, sigmoid, silu, log, sin and cos against the library's wider versions. */
#include "kernels/kern.h"

#include "kernels/ref/math_ref.h"
#include "kernels/ref/ref.h"

#include "proto/base/checked.h"
#include "proto/base/rng.h"

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* One unit in the last place of a normal float. */
static double ulp_of(double value) {
    int e;
    frexp(value, &e);
    return ldexp(1.0, e - 24);
}

/* A float whose exponent field lies in [low, low + n) and whose fraction has few bits now and then,
 * so that sums end in the middle between two floats. */
static float random_near(struct rng *rng, uint32_t low, uint32_t n) {
    uint32_t bits = (uint32_t)rng_next(rng) & 0x807fffff;
    if (rng_below(rng, 2)) bits &= 0xfffff000;
    return f32_from_bits(bits | (low + (uint32_t)rng_below(rng, n)) << 23);
}

/* The library's fmaf is correctly rounded by the C standard's Annex F. */
static void fused_multiply_add_rounds_once(void **state) {
    (void)state;
    const uint32_t ranges[][4] = {
            /* exponents of the factors and of the addend */
            {120, 10, 110, 30}, /* ordinary numbers */
            {60, 8, 0, 8},      /* results around the smallest normal number */
            {185, 10, 240, 14}, /* around the largest */
            {0, 255, 0, 255},   /* anything finite */
            {0, 256, 0, 256},   /* and infinity and NaN */
    };
    struct rng rng;
    rng_init(&rng, 5);
    for (int i = 0; i < 3000000; i++) {
        const uint32_t *range = ranges[(size_t)i % ARRAY_LEN(ranges)];
        float a = random_near(&rng, range[0], range[1]);
        float b = random_near(&rng, range[0], range[1]);
        float c = random_near(&rng, range[2], range[3]);
        float got = math_fma(a, b, c), expected = fmaf(a, b, c);
        if (got != got && expected != expected) continue;
        if (f32_bits(got) != f32_bits(expected))
            fail_msg("fma(%a, %a, %a): got %a, expected %a", (double)a, (double)b, (double)c,
                    (double)got, (double)expected);
    }
    /* Just beside, and in, the middle between 1 and the next float: one bit far below decides. */
    float middle = 0x1p-24f;
    assert_true(math_fma(middle, 1.0f, 1.0f) == 1.0f);
    assert_true(math_fma(middle + 0x1p-47f, 1.0f, 1.0f) == 1.0f + 0x1p-23f);
    assert_true(math_fma(1.0f + 0x1p-12f, 1.0f + 0x1p-12f, -1.0f) == 0x1p-11f + 0x1p-24f);
    assert_true(math_fma(0x1p-75f, 0x1p-75f, 0x1.000002p0f - 1.0f) == 0x1p-23f);
    assert_true(math_fma(0x1.8p0f, 0x1p-24f, 0x1.000002p0f) == 0x1.000004p0f);
    assert_true(signbit(math_fma(-0.0f, 1.0f, -0.0f)));
}

/* Every 997th bit pattern: all exponents, both signs, infinities' neighbourhood, NaN. */
static void exp_is_within_one_unit_in_the_last_place(void **state) {
    (void)state;
    double worst = 0;
    for (uint64_t bits = 0; bits < 1ULL << 32; bits += 997) {
        float x = f32_from_bits((uint32_t)bits), got = math_exp(x);
        if (x != x) {
            assert_true(got != got);
            continue;
        }
        double expected = exp((double)x);
        if (expected > FLT_MAX) {
            assert_true(got == INFINITY);
        } else if (expected < FLT_MIN) {
            assert_true(got == 0.0f && !signbit(got));
        } else {
            double error = fabs((double)got - expected) / ulp_of(expected);
            worst = error > worst ? error : worst;
        }
    }
    print_message("exp: at most %.3f ulp\n", worst);
    assert_true(worst < 1.0);
}

static void exp_has_exact_edges(void **state) {
    (void)state;
    assert_true(kern_exp(0.0f) == 1.0f);
    assert_true(kern_exp(-0.0f) == 1.0f);
    assert_true(kern_exp(INFINITY) == INFINITY);
    assert_true(kern_exp(-INFINITY) == 0.0f);
    assert_true(kern_exp(FLT_MAX) == INFINITY);
    assert_true(kern_exp(-FLT_MAX) == 0.0f);
    assert_true(kern_exp(MATH_EXP_MAX) < INFINITY);
    assert_true(kern_exp(nextafterf(MATH_EXP_MAX, INFINITY)) == INFINITY);
    assert_true(kern_exp(MATH_EXP_MIN) >= FLT_MIN);
    assert_true(kern_exp(nextafterf(MATH_EXP_MIN, -INFINITY)) == 0.0f);
    assert_true(isnan(kern_exp(NAN)));
}

/* Around the multiples of ln 2 / 2, where n changes, exp must not step back. */
static void exp_is_monotone_where_the_reduction_switches(void **state) {
    (void)state;
    for (int k = -250; k <= 255; k++) {
        float x = (float)(k * 0.34657359027997264);
        for (int i = 0; i < 64; i++)
            x = nextafterf(x, -INFINITY);
        for (int i = 0; i < 128; i++) {
            float next = nextafterf(x, INFINITY);
            double step = (double)math_exp(next) - (double)math_exp(x);
            assert_true(step >= -ulp_of((double)math_exp(x)));
            x = next;
        }
    }
}

static void sigmoid_and_silu_follow_their_formulas(void **state) {
    (void)state;
    for (float x = -86.0f; x <= 86.0f; x += 0.0137f) {
        double expected = 1.0 / (1.0 + exp(-(double)x));
        assert_true(fabs((double)math_sigmoid(x) - expected) <= 3e-7 * expected);
        double silu = (double)x * expected;
        assert_true(fabs((double)math_silu(x) - silu) <= 3e-7 * fabs(silu));
    }
    assert_true(math_sigmoid(-200.0f) == 0.0f);
    assert_true(math_sigmoid(200.0f) == 1.0f);
    assert_true(math_silu(200.0f) == 200.0f);
    assert_true(math_silu(-200.0f) == 0.0f);
    assert_true(isnan(math_silu(-INFINITY)));
    assert_true(isnan(math_sigmoid(NAN)));
    float row[] = {0.0f, 1.0f, -1.0f};
    ref_sigmoid(row, ARRAY_LEN(row));
    assert_true(row[0] == 0.5f);
    assert_true(row[1] == math_sigmoid(1.0f));
    assert_true(row[2] == math_sigmoid(-1.0f));
}

static void exp64_and_log64_agree_with_the_library(void **state) {
    (void)state;
    for (double x = -690.0; x < 709.0; x += 0.0973) {
        long double expected = expl((long double)x);
        assert_true(fabsl(math_exp64(x) - expected) <= 4e-16L * expected);
    }
    assert_true(math_exp64(0.0) == 1.0);
    assert_true(isinf(math_exp64(710.0)) && math_exp64(-710.0) == 0.0);
    assert_true(isnan(math_exp64((double)NAN)));

    struct rng rng;
    rng_init(&rng, 7);
    for (int i = 0; i < 200000; i++) {
        double x;
        uint64_t bits = rng_next(&rng) >> 1;
        memcpy(&x, &bits, sizeof x);
        if (!isfinite(x) || x == 0) continue;
        long double expected = logl((long double)x);
        assert_true(fabsl(math_log64(x) - expected) <= 4e-16L * fabsl(expected));
    }
    for (double x = 0.5; x < 2.0; x += 0.000173) {
        long double expected = logl((long double)x);
        assert_true(fabsl(math_log64(x) - expected) <= 4e-16L * fabsl(expected));
    }
    assert_true(math_log64(1.0) == 0.0);
    assert_true(math_log64(0.0) == -(double)INFINITY);
    assert_true(isnan(math_log64(-1.0)) && isnan(math_log64((double)NAN)));
    assert_true(isinf(math_log64((double)INFINITY)));
    assert_true(fabs(math_log64(0x1p-1074) + 744.4400719213812) < 1e-12);
    assert_true(kern_log(2.0) == math_log64(2.0));
}

static void sine_and_cosine_agree_with_the_library_up_to_large_angles(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, 11);
    for (int i = 0; i < 400000; i++) {
        double x = ldexp(rng_unit(&rng) * 2 - 1, (int)rng_below(&rng, 60) - 20);
        double s, c;
        math_sincos64(x, &s, &c);
        assert_true(fabsl(s - sinl((long double)x)) <= 2.3e-16L);
        assert_true(fabsl(c - cosl((long double)x)) <= 2.3e-16L);
    }
    double s, c;
    math_sincos64(0.0, &s, &c);
    assert_true(s == 0.0 && c == 1.0);
    math_sincos64(0x1p50, &s, &c);
    assert_true(isnan(s) && isnan(c));
    math_sincos64((double)NAN, &s, &c);
    assert_true(isnan(s) && isnan(c));
}

static void rope_angles_are_position_times_frequency(void **state) {
    (void)state;
    const uint64_t positions[] = {0, 1, 63, 4095, 131071, 1048575};
    const float mag = 1.25f;
    double inv_freq[64];
    float cos_got[64], sin_got[64];
    for (uint32_t i = 0; i < 64; i++) {
        inv_freq[i] = kern_rope_inv_freq(10000.0, i, 128);
        double expected = pow(10000.0, -2.0 * i / 128);
        assert_true(fabs(inv_freq[i] - expected) <= 4e-15 * expected);
    }
    assert_true(inv_freq[0] == 1.0);
    for (size_t p = 0; p < ARRAY_LEN(positions); p++) {
        kern_rope_angles(inv_freq, 64, positions[p], mag, cos_got, sin_got);
        for (uint32_t i = 0; i < 64; i++) {
            double angle = (double)positions[p] * inv_freq[i];
            assert_true(fabs((double)cos_got[i] - 1.25 * cos(angle)) <= 1.6e-7);
            assert_true(fabs((double)sin_got[i] - 1.25 * sin(angle)) <= 1.6e-7);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(fused_multiply_add_rounds_once),
            cmocka_unit_test(exp_is_within_one_unit_in_the_last_place),
            cmocka_unit_test(exp_has_exact_edges),
            cmocka_unit_test(exp_is_monotone_where_the_reduction_switches),
            cmocka_unit_test(sigmoid_and_silu_follow_their_formulas),
            cmocka_unit_test(exp64_and_log64_agree_with_the_library),
            cmocka_unit_test(sine_and_cosine_agree_with_the_library_up_to_large_angles),
            cmocka_unit_test(rope_angles_are_position_times_frequency),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
