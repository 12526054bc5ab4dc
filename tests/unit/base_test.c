/* base_test.c - the floor: errors, buffers, arena, random numbers, hashes, the thread pool. */
#include "proto/base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void the_first_error_wins(void **state) {
    (void)state;
    struct err err = ERR_INIT;
    assert_int_equal(err_set(&err, ERR_IO, "first %d", 1), ERR_IO);
    err_set(&err, ERR_LIMIT, "second");
    assert_int_equal(err.code, ERR_IO);
    assert_string_equal(err.what, "first 1");
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(the_first_error_wins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
