/* base_test.c - the floor: errors, buffers, sizes, memory, random numbers, hashes, time. */
#include "proto/base/aligned.h"
#include "proto/base/buf.h"
#include "proto/base/checked.h"
#include "proto/base/err.h"
#include "proto/base/mono.h"
#include "proto/base/rng.h"
#include "proto/base/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- err ---- */

static void the_first_error_wins(void **state) {
    (void)state;
    struct err err = ERR_INIT;
    assert_int_equal(err_set(&err, ERR_IO, "first %d", 1), ERR_IO);
    assert_int_equal(err_set(&err, ERR_LIMIT, "second"), ERR_LIMIT);
    assert_int_equal(err.code, ERR_IO);
    assert_string_equal(err.what, "first 1");
    assert_true(err.line > 0);
    assert_non_null(strstr(err.file, "base_test.c"));
}

static void notes_stand_before_each_other_outermost_first(void **state) {
    (void)state;
    struct err err = ERR_INIT;
    err_note(&err, "nothing yet");
    assert_string_equal(err.where, "");
    err_set(&err, ERR_IO, "what");
    assert_int_equal(err_note(&err, "inner %d", 1), ERR_IO);
    err_note(&err, "outer");
    assert_string_equal(err.where, "outer: inner 1");
}

static void the_first_hint_wins(void **state) {
    (void)state;
    struct err err = ERR_INIT;
    err_hint(&err, "too early");
    err_set(&err, ERR_IO, "what");
    assert_int_equal(err_hint(&err, "do %s", "this"), ERR_IO);
    err_hint(&err, "do that");
    assert_string_equal(err.hint, "do this");
    err_reset(&err);
    assert_int_equal(err.code, 0);
    assert_string_equal(err.hint, "");
}

static void a_missing_error_struct_is_fine(void **state) {
    (void)state;
    assert_int_equal(err_set(NULL, ERR_IO, "what"), ERR_IO);
    err_note(NULL, "note");
    err_hint(NULL, "hint");
    err_reset(NULL);
}

static void long_messages_are_cut_not_written_past(void **state) {
    (void)state;
    struct {
        struct err err;
        char after[16];
    } box = {.after = "untouched"};
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    err_set(&box.err, ERR_IO, "%s", text);
    err_hint(&box.err, "%s", text);
    for (int i = 0; i < 5; i++)
        err_note(&box.err, "%s", text);
    err_note(&box.err, "outer");
    assert_int_equal(strlen(box.err.what), sizeof box.err.what - 1);
    assert_int_equal(strlen(box.err.where), sizeof box.err.where - 1);
    assert_int_equal(strlen(box.err.hint), sizeof box.err.hint - 1);
    assert_memory_equal(box.err.where, "outer: xxx", 10);
    assert_string_equal(box.after, "untouched");
}

static void an_error_prints_where_what_and_hint(void **state) {
    (void)state;
    char *text = NULL;
    size_t n = 0;
    struct err err = ERR_INIT;
    err_set(&err, ERR_IO, "what");
    err_note(&err, "where");
    err_hint(&err, "try that");
    FILE *file = open_memstream(&text, &n);
    assert_non_null(file);
    err_print(&err, "prog", file);
    fclose(file);
    assert_string_equal(text, "prog: where: what\n      try that\n");
    free(text);
}

/* A message may hold bytes from a file or a peer; on a terminal they must not act. */
static void control_characters_in_a_message_are_made_harmless(void **state) {
    (void)state;
    struct err err = ERR_INIT;
    err_set(&err, ERR_IO, "bad \x1b[2Jname\r\n\x7f %s", "\xc3\xa4");
    err_note(&err, "in\tit");
    assert_string_equal(err.what, "bad ?[2Jname??? \xc3\xa4");
    assert_string_equal(err.where, "in?it");
}

static void every_code_has_a_text(void **state) {
    (void)state;
    assert_string_equal(err_code_text(ERR_TIMEOUT), "timed out");
    assert_string_equal(err_code_text(0), "no error");
    assert_string_equal(err_code_text(-9999), "unknown error");
}

/* ---- checked ---- */

static void sizes_that_do_not_fit_are_noticed(void **state) {
    (void)state;
    uint64_t n;
    size_t size;
    assert_true(mul_u64(UINT64_C(1) << 31, UINT64_C(1) << 32, &n));
    assert_true(n == UINT64_C(1) << 63);
    assert_false(mul_u64(UINT64_C(1) << 32, UINT64_C(1) << 32, &n));
    assert_true(add_u64(UINT64_MAX - 1, 1, &n));
    assert_false(add_u64(UINT64_MAX, 1, &n));
    assert_false(mul_size(SIZE_MAX, 2, &size));
    assert_int_equal(align_up(0, 64), 0);
    assert_int_equal(align_up(1, 64), 64);
    assert_int_equal(align_up(64, 64), 64);
    assert_int_equal(min_u64(3, 4), 3);
    assert_int_equal(max_u64(3, 4), 4);
}

/* ---- buf ---- */

static void a_buffer_grows_and_stays_terminated(void **state) {
    (void)state;
    struct buf buf = {0};
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(buf_append(&buf, "abc", 3, NULL), 0);
        assert_int_equal(buf.bytes[buf.n_bytes], 0);
    }
    assert_int_equal(buf.n_bytes, 3000);
    assert_int_equal(buf_printf(&buf, NULL, "%d-%s", 42, "x"), 0);
    assert_string_equal(buf.bytes + 3000, "42-x");
    buf_reset(&buf);
    assert_int_equal(buf.n_bytes, 0);
    assert_string_equal(buf.bytes, "");
    assert_int_equal(buf_append_str(&buf, "new", NULL), 0);
    assert_string_equal(buf.bytes, "new");
    assert_int_equal(buf_append(&buf, NULL, 0, NULL), 0);
    buf_fini(&buf);
    assert_null(buf.bytes);
    buf_reset(&buf);
    buf_fini(&buf);
}

static void a_buffer_beyond_memory_is_an_error(void **state) {
    (void)state;
    struct buf buf = {0};
    assert_int_equal(buf_append_str(&buf, "kept", NULL), 0);
    assert_int_equal(buf_reserve(&buf, SIZE_MAX, NULL), ERR_NO_MEMORY);
    assert_int_equal(buf_reserve(&buf, SIZE_MAX - 2, NULL), ERR_NO_MEMORY);
    assert_int_equal(buf_reserve(&buf, SIZE_MAX / 2, NULL), ERR_NO_MEMORY);
    assert_string_equal(buf.bytes, "kept");
    buf_fini(&buf);
}

static void a_file_is_read_up_to_the_limit(void **state) {
    (void)state;
    enum { N = 200000 };
    char path[] = "/tmp/potluck-base-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    char *bytes = malloc(N);
    assert_non_null(bytes);
    for (int i = 0; i < N; i++)
        bytes[i] = (char)(i % 251);
    assert_int_equal(write(fd, bytes, N), N);
    close(fd);

    struct buf buf = {0};
    struct err err = ERR_INIT;
    assert_int_equal(buf_read_file(&buf, path, N, &err), 0);
    assert_int_equal(buf.n_bytes, N);
    assert_memory_equal(buf.bytes, bytes, N);
    assert_int_equal(buf_read_file(&buf, path, N - 1, &err), ERR_LIMIT);
    unlink(path);
    err_reset(&err);
    assert_int_equal(buf_read_file(&buf, path, N, &err), ERR_IO);
    assert_non_null(strstr(err.what, path));
    err_reset(&err);
    assert_int_equal(buf_read_file(&buf, "/tmp", N, &err), ERR_IO);
    buf_fini(&buf);
    free(bytes);
}

/* ---- aligned memory ---- */

static void aligned_blocks_start_at_multiples_of_64_and_absurd_sizes_give_none(void **state) {
    (void)state;
    for (size_t n = 0; n < 300; n += 37) {
        unsigned char *block = aligned_new(n);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % 64, 0);
        memset(block, 1, n ? n : 64);
        free(block);
    }
    assert_null(aligned_new(SIZE_MAX));
}

/* ---- rng ---- */

/* First numbers of the generator from its published reference implementation. */
static void splitmix_gives_its_published_numbers(void **state) {
    (void)state;
    static const uint64_t want[] = {UINT64_C(6457827717110365317), UINT64_C(3203168211198807973),
            UINT64_C(9817491932198370423), UINT64_C(4593380528125082431),
            UINT64_C(16408922859458223821)};
    struct rng rng;
    rng_init(&rng, 1234567);
    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        assert_true(rng_next(&rng) == want[i]);
}

static void the_same_seed_gives_the_same_numbers(void **state) {
    (void)state;
    struct rng a, b, other;
    rng_init(&a, 7);
    rng_init(&b, 7);
    rng_init(&other, 8);
    int n_equal = 0;
    for (int i = 0; i < 1000; i++) {
        struct rng copy = a;
        uint64_t n = rng_next(&a);
        assert_true(n == rng_next(&b) && n == rng_next(&copy));
        n_equal += n == rng_next(&other);
    }
    assert_int_equal(n_equal, 0);
}

static void draws_stay_in_range_and_cover_it(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, 99);
    int n_seen[7] = {0};
    for (int i = 0; i < 7000; i++) {
        uint64_t n = rng_below(&rng, 7);
        assert_true(n < 7);
        n_seen[n]++;
        double u = rng_unit(&rng);
        assert_true(u >= 0 && u < 1);
        assert_true(rng_below(&rng, 1) == 0);
    }
    for (int i = 0; i < 7; i++) /* 1000 each; 5 standard deviations are about 150 */
        assert_true(n_seen[i] > 850 && n_seen[i] < 1150);
    assert_true(rng_below(&rng, UINT64_MAX) < UINT64_MAX);
    assert_true(rng_random_seed() != rng_random_seed());
}

/* ---- sha256, mono ---- */

static void sha256_gives_the_values_of_the_standard(void **state) {
    (void)state;
    struct sha256 sha;
    char hex[65];
    sha256_init(&sha);
    sha256_update(&sha, "a", 1);
    sha256_update(&sha, "bc", 2);
    sha256_final_hex(&sha, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_init(&sha);
    sha256_final_hex(&sha, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void deadlines_do_not_wrap(void **state) {
    (void)state;
    uint64_t now = mono_now();
    assert_true(mono_now() >= now);
    assert_true(mono_after(MONO_NEVER) == MONO_NEVER);
    assert_true(mono_after(MONO_NEVER - 1) == MONO_NEVER);
    assert_true(mono_after(MONO_S) >= now + MONO_S);
    assert_int_equal(mono_left(now), 0);
    assert_true(mono_left(mono_after(100 * MONO_S)) > 90 * MONO_S);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(the_first_error_wins),
            cmocka_unit_test(notes_stand_before_each_other_outermost_first),
            cmocka_unit_test(the_first_hint_wins),
            cmocka_unit_test(a_missing_error_struct_is_fine),
            cmocka_unit_test(long_messages_are_cut_not_written_past),
            cmocka_unit_test(an_error_prints_where_what_and_hint),
            cmocka_unit_test(control_characters_in_a_message_are_made_harmless),
            cmocka_unit_test(every_code_has_a_text),
            cmocka_unit_test(sizes_that_do_not_fit_are_noticed),
            cmocka_unit_test(a_buffer_grows_and_stays_terminated),
            cmocka_unit_test(a_buffer_beyond_memory_is_an_error),
            cmocka_unit_test(a_file_is_read_up_to_the_limit),
            cmocka_unit_test(
                    aligned_blocks_start_at_multiples_of_64_and_absurd_sizes_give_none),
            cmocka_unit_test(splitmix_gives_its_published_numbers),
            cmocka_unit_test(the_same_seed_gives_the_same_numbers),
            cmocka_unit_test(draws_stay_in_range_and_cover_it),
            cmocka_unit_test(sha256_gives_the_values_of_the_standard),
            cmocka_unit_test(deadlines_do_not_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
