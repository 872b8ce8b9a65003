# Precompiled headers: what most of our files include, parsed once instead of four hundred times. Only where a preset asks for them, because a file that
# forgets an #include passes with them: the release and lint builds do without.
#   limpid_precompiled        for the rooms (position-independent code)
#   limpid_precompiled_tests  for the tests' programs, with GoogleTest
# src/cli has one of its own, with CLI11.
option(LIMPID_PRECOMPILED "Precompile the headers that most files include" OFF)

# limpid_precompile(NAME KIND HEADER…): builds them once. ccache has to be told that it may look at what is in them.
function(limpid_precompile name)
  set(source ${PROJECT_BINARY_DIR}/${name}.cc)
  file(CONFIGURE OUTPUT ${source} CONTENT "int main() {}\n")
  target_sources(${name} PRIVATE ${source})
  target_link_libraries(${name} PRIVATE limpid_flags fmt::fmt spdlog::spdlog)
  target_precompile_headers(${name} PRIVATE ${ARGN})
endfunction()

# limpid_use_precompiled(TARGET FROM): nothing, unless they are switched on.
function(limpid_use_precompiled target from)
  if(LIMPID_PRECOMPILED)
    target_precompile_headers(${target} REUSE_FROM ${from})
  endif()
endfunction()

if(LIMPID_PRECOMPILED)
  if(CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE})
    add_compile_options(-fpch-preprocess)
  endif()
  set(often <algorithm> <array> <cerrno> <charconv> <chrono> <cstdint> <cstring> <expected> <functional> <map> <memory> <mutex> <optional> <span> <string>
            <string_view> <unordered_map> <utility> <vector> <fmt/format.h> <sys/socket.h> <netinet/in.h> <unistd.h>)
  add_library(limpid_precompiled STATIC)
  limpid_precompile(limpid_precompiled ${often})
endif()
