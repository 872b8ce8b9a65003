# What a preset can switch, and the flags that every target of ours gets through limpid_flags.
option(LIMPID_TESTS "Build the tests" ON)
option(LIMPID_WERROR "Warnings are errors; for us, not for users with tomorrow's compiler" OFF)
option(LIMPID_FUZZ "Build the fuzzers of tests/fuzz instead of the tests (clang only)" OFF)
option(LIMPID_HEADERS_ALONE "Compile each header on its own" OFF)
set(LIMPID_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize= takes them (address,undefined or thread)")

add_library(limpid_flags INTERFACE)
target_compile_options(limpid_flags INTERFACE
  -pthread  # everywhere, because RE2 brings it along and a precompiled header must fit all
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Wold-style-cast
  -Wnull-dereference -Wimplicit-fallthrough -Werror=return-type -Werror=switch
  $<$<BOOL:${LIMPID_WERROR}>:-Werror>)

if(LIMPID_SANITIZE)
  # Without recovery: a report ends the program, so that no test can pass over it.
  target_compile_options(limpid_flags INTERFACE
    -fsanitize=${LIMPID_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1
    -Wno-null-dereference)  # g++ 12 sees one in std::string once it is instrumented
  target_link_options(limpid_flags INTERFACE -fsanitize=${LIMPID_SANITIZE})
elseif(CMAKE_BUILD_TYPE STREQUAL "Release")
  # The hardening that Debian gives its own packages (dpkg-buildflags, hardening=+all), and its assertions.
  target_compile_options(limpid_flags INTERFACE
    -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -D_GLIBCXX_ASSERTIONS -fstack-protector-strong -fstack-clash-protection
    $<$<STREQUAL:${CMAKE_SYSTEM_PROCESSOR},x86_64>:-fcf-protection>
    # g++ 12 inlines std::string until it sees overlaps, bounds and null pointers that cannot be (GCC bug 105329). Other builds look for them.
    $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict$<SEMICOLON>-Wno-stringop-overflow$<SEMICOLON>-Wno-null-dereference>
    $<$<CXX_COMPILER_ID:GNU>:-ffat-lto-objects>)  # the installed archive must serve compilers other than this one
  target_link_options(limpid_flags INTERFACE -Wl,-z,relro -Wl,-z,now -pie
    $<$<CXX_COMPILER_ID:GNU>:-Wno-stringop-overflow>)  # link-time optimisation warns, too
  include(CheckIPOSupported)
  check_ipo_supported(RESULT LIMPID_IPO OUTPUT LIMPID_IPO_WHY_NOT LANGUAGES CXX)
  if(LIMPID_IPO)
    set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
  else()
    message(STATUS "Link-time optimisation is off: ${LIMPID_IPO_WHY_NOT}")
  endif()
endif()

if(LIMPID_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "LIMPID_FUZZ needs clang (libFuzzer); use `cmake --preset fuzz`")
  endif()
  target_compile_options(limpid_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
