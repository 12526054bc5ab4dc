# Helpers that every folder's CMakeLists.txt uses, and the flags all code is built with.

add_library(potluck_flags INTERFACE)
target_include_directories(potluck_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/generated)
target_compile_definitions(potluck_flags INTERFACE _GNU_SOURCE POTLUCK_VERSION="${PROJECT_VERSION}")
# Contraction is off so that a fused multiply-add happens only where fma() is written: the
# arithmetic contract (docs/numerics.md) depends on it. Error results are values, never errno.
target_compile_options(potluck_flags INTERFACE
    -ffp-contract=off -fno-math-errno -fno-trapping-math
    -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef
    -Wwrite-strings -Wpointer-arith -Wformat=2
    $<$<BOOL:${POTLUCK_WERROR}>:-Werror>)
if(POTLUCK_SANITIZE)
    target_compile_options(potluck_flags INTERFACE
        -fsanitize=${POTLUCK_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    target_link_options(potluck_flags INTERFACE -fsanitize=${POTLUCK_SANITIZE})
endif()

# potluck_library(NAME SOURCES a.c b.c DEPS x y): one folder, one static library.
function(potluck_library name)
    cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
    add_library(${name} STATIC ${ARG_SOURCES})
    target_link_libraries(${name} PUBLIC potluck_flags ${ARG_DEPS})
endfunction()

# potluck_unit_test(NAME DEPS x y): tests/unit/NAME_test.c, run by ctest as unit.NAME.
function(potluck_unit_test name)
    if(NOT POTLUCK_TESTS)
        return()
    endif()
    cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
    add_executable(${name}_test ${PROJECT_SOURCE_DIR}/tests/unit/${name}_test.c ${ARG_SOURCES})
    target_link_libraries(${name}_test PRIVATE potluck_flags ${ARG_DEPS} PkgConfig::CMOCKA)
    add_test(NAME unit.${name} COMMAND ${name}_test WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(unit.${name} PROPERTIES
        ENVIRONMENT "POTLUCK_SHARED=${PROJECT_SOURCE_DIR}/../shared" TIMEOUT 300)
endfunction()

# potluck_fuzz_target(NAME DEPS x y): tests/fuzz/NAME_fuzz.c with libFuzzer (clang only).
function(potluck_fuzz_target name)
    if(NOT POTLUCK_FUZZ)
        return()
    endif()
    cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
    add_executable(${name}_fuzz ${PROJECT_SOURCE_DIR}/tests/fuzz/${name}_fuzz.c)
    target_link_libraries(${name}_fuzz PRIVATE potluck_flags ${ARG_DEPS})
    target_link_options(${name}_fuzz PRIVATE -fsanitize=fuzzer)
endfunction()
