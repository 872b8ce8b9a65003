# What a preset can switch, and the flags that every target gets.
option(LIMPID_TESTS "Build the tests" ON)
set(LIMPID_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize= takes them (address,undefined or thread)")

add_library(limpid_flags INTERFACE)
target_compile_options(limpid_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Wold-style-cast
  -Wnull-dereference -Wimplicit-fallthrough -Werror=return-type -Werror=switch)
target_include_directories(limpid_flags INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)

if(LIMPID_SANITIZE)
  target_compile_options(limpid_flags INTERFACE -fsanitize=${LIMPID_SANITIZE} -fno-omit-frame-pointer -g -O1)
  target_link_options(limpid_flags INTERFACE -fsanitize=${LIMPID_SANITIZE})
elseif(CMAKE_BUILD_TYPE STREQUAL "Release")
  # The hardening that Debian gives its own packages (dpkg-buildflags hardening=+all).
  target_compile_options(limpid_flags INTERFACE
    -D_FORTIFY_SOURCE=2 -D_GLIBCXX_ASSERTIONS -fstack-protector-strong -fstack-clash-protection -fcf-protection)
  target_link_options(limpid_flags INTERFACE -Wl,-z,relro -Wl,-z,now -pie)
  set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
