# apr_library(NAME [OPTIMIZE 1|3] SOURCES ... [ALONE ...] [DEPS ...] [PRIVATE_DEPS ...]): one static library per folder of src/.
#   OPTIMIZE: the compiler's level in a release, for all sources that do not set their own; 2 if nothing is said.
#   SOURCES are compiled up to 44 at a time (APR_UNITY), mostly a whole library: a clean build takes less than half as
#   long, with about 1.5 GB for each compiler. Two of them may not give the same name to different things in their anonymous namespaces. ALONE are compiled one by one:
#   kernels (one instruction set each, or the same functions again), and what would clash.
# apr_test(FOLDER SOURCES ... [DEPS ...] [LABELS ...]): the folder's GoogleTest binary <FOLDER>_test, run
#   from the root: APR_SOURCE_DIR is a relative path, so that its objects do not depend on where the clone lies.
#   A binary labelled slow runs only with scripts/test --all.
# apr_fuzz(NAME SOURCES ... DEPS ... [CORPUS FOLDER...]): a fuzz target: libFuzzer with APR_FUZZ, else
#   a program that replays files, so that crashes once found stay tests on every compiler. Each CORPUS
#   folder (from the root) is replayed as a test. The target `fuzzers` is all of them.
# apr_script_test(NAME SCRIPT ARGUMENTS...): a Python program below tools/ as a slow test. It ends with 77
#   where a library that it compares with is not installed: skipped.
# apr_bench(NAME SOURCES ... DEPS ...): a Google Benchmark program; built with APR_BENCH only.
# Headers that nearly every file includes are precompiled (apr_precompiled), unless a compiler cache is in use, which
#   gains nothing from them and shares less. GCC compiles what includes them at the level that they were made with, whatever
#   it is told (12.2: -O1 gave the code of -O2): there are two, and level 3 and sources ALONE go without.
# Sources are listed by name: a file that is not listed is not built, and scripts/check says so.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
# -O3 is for the folders whose time is arithmetic; elsewhere it costs compiling and gains nothing.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g1 -DNDEBUG")  # the sanitizers' builds: kernels take minutes at -O2

add_library(apr_options INTERFACE)
target_compile_options(apr_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wno-missing-field-initializers
  -Wimplicit-fallthrough -Werror -fno-math-errno -fno-trapping-math -ffp-contract=off)
# GCC's collector of garbage takes a tenth of the time of a large unit and gives back a quarter of its memory.
target_compile_options(apr_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:--param=ggc-min-heapsize=4194304>)
target_include_directories(apr_options INTERFACE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}")

if(APR_SANITIZE)
  target_compile_options(apr_options INTERFACE
    -fsanitize=${APR_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(apr_options INTERFACE -fsanitize=${APR_SANITIZE})
endif()
if(APR_FUZZ)
  target_compile_options(apr_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

set(APR_PRECOMPILE OFF)
if(NOT CMAKE_CXX_COMPILER_LAUNCHER AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(APR_PRECOMPILE ON)
endif()

# The precompiled headers of `target`: its own if it is named `owner`, else those of `owner`.
function(apr_precompiled target owner)
  if(NOT APR_PRECOMPILE)
    return()
  endif()
  if(target STREQUAL owner)
    target_precompile_headers(${target} PRIVATE <nlohmann/json.hpp> <fmt/format.h> <algorithm> <filesystem> <functional>
      <map> <memory> <optional> <set> <span> <string> <vector> ${ARGN})
  else()
    target_precompile_headers(${target} REUSE_FROM ${owner})
  endif()
endfunction()

function(apr_library name)
  cmake_parse_arguments(ARG "" "OPTIMIZE" "SOURCES;ALONE;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(apr_${name} STATIC ${ARG_SOURCES} ${ARG_ALONE})
  set_source_files_properties(${ARG_ALONE} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  set_target_properties(apr_${name} PROPERTIES UNITY_BUILD ${APR_UNITY} UNITY_BUILD_BATCH_SIZE 44)
  target_link_libraries(apr_${name} PUBLIC apr_options ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
  set_source_files_properties(${ARG_ALONE} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
  if(ARG_OPTIMIZE)
    target_compile_options(apr_${name} PRIVATE $<$<CONFIG:Release>:-O${ARG_OPTIMIZE}>)
  endif()
  if(NOT ARG_OPTIMIZE)
    apr_precompiled(apr_${name} apr_base)
  elseif(ARG_OPTIMIZE EQUAL 1)
    apr_precompiled(apr_${name} apr_headers_level_1)
  endif()
endfunction()

function(apr_test folder)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;LABELS" ${ARGN})
  set(target ${folder}_test)
  add_executable(${target} ${ARG_SOURCES})
  target_link_libraries(${target} PRIVATE ${ARG_DEPS} GTest::gtest GTest::gtest_main)
  target_compile_definitions(${target} PRIVATE APR_SOURCE_DIR=".")
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
  # GCC 12 sees overflows inside std::string where there are none (GCC bugs 105329, 105651).
  target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-array-bounds -Wno-restrict -Wno-stringop-overflow>)
  apr_precompiled(${target} base_test <gtest/gtest.h>)
  add_test(NAME ${target} COMMAND ${target} --gtest_output=xml:${PROJECT_BINARY_DIR}/results/${target}.xml)
  if(NOT "slow" IN_LIST ARG_LABELS)
    list(APPEND ARG_LABELS fast)
  endif()
  set_tests_properties(${target} PROPERTIES
    LABELS "${ARG_LABELS}" WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
endfunction()

add_custom_target(fuzzers)

function(apr_fuzz name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;CORPUS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  add_dependencies(fuzzers ${name})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  if(APR_FUZZ)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(${name} PRIVATE "${PROJECT_SOURCE_DIR}/src/base/fuzz_replay_main.cc")
  endif()
  if(ARG_CORPUS)
    list(TRANSFORM ARG_CORPUS PREPEND "${PROJECT_SOURCE_DIR}/")
    set(runs $<$<BOOL:${APR_FUZZ}>:-runs=0>)
    add_test(NAME ${name}_replay COMMAND ${name} ${runs} ${ARG_CORPUS} COMMAND_EXPAND_LISTS)
    set_tests_properties(${name}_replay PROPERTIES LABELS fast)
  endif()
endfunction()

function(apr_script_test name script)
  add_test(NAME ${name} COMMAND python3 "${PROJECT_SOURCE_DIR}/${script}" ${ARGN})
  set_tests_properties(${name} PROPERTIES
    LABELS slow SKIP_RETURN_CODE 77 WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
endfunction()

function(apr_bench name)
  if(NOT APR_BENCH)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  find_package(benchmark REQUIRED)
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} benchmark::benchmark)
endfunction()
