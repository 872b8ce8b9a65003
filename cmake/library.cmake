# The public library, out of the rooms behind include/limpid: limpid::limpid, shared, and limpid::archive, static.
# The number of the interface rises whenever a program that was linked before would no longer run: a function of the headers that is gone or has other
# parameters, another layout of one of their types (docs/library.md). It has nothing to do with the version.
set(LIMPID_INTERFACE 1)

set(faces $<TARGET_OBJECTS:limpid_net> $<TARGET_OBJECTS:limpid_intercept>)  # where the headers' functions are
set(below $<TARGET_FILE:limpid_policy> $<TARGET_FILE:limpid_base>)          # of which these need a part
set(needed fmt::fmt spdlog::spdlog PkgConfig::MNL)
if(LIMPID_HAS_EBPF)
  list(APPEND needed PkgConfig::BPF)
endif()

add_library(limpid_archive STATIC ${faces} $<TARGET_OBJECTS:limpid_policy> $<TARGET_OBJECTS:limpid_base>)
set_target_properties(limpid_archive PROPERTIES EXPORT_NAME archive)
target_link_libraries(limpid_archive INTERFACE ${needed})

# Only what the headers declare is seen by others. Nothing is optimised once more at link time: the program is what is fast.
add_library(limpid_shared SHARED ${faces})
set(symbols ${PROJECT_SOURCE_DIR}/cmake/library.map)
set_target_properties(limpid_shared PROPERTIES EXPORT_NAME limpid SOVERSION ${LIMPID_INTERFACE} INTERPROCEDURAL_OPTIMIZATION OFF LINK_DEPENDS "${symbols};${below}")
add_dependencies(limpid_shared limpid_policy limpid_base)
target_link_libraries(limpid_shared PRIVATE ${below} ${needed})
target_link_options(limpid_shared PRIVATE -pthread -fno-lto -Wl,--version-script=${symbols} -Wl,-z,relro -Wl,-z,now)
if(LIMPID_SANITIZE)
  target_link_options(limpid_shared PRIVATE -fsanitize=${LIMPID_SANITIZE})
else()
  target_link_options(limpid_shared PRIVATE -Wl,-z,defs)
endif()

foreach(library limpid_archive limpid_shared)
  set_target_properties(${library} PROPERTIES OUTPUT_NAME limpid LINKER_LANGUAGE CXX)
  target_compile_features(${library} INTERFACE cxx_std_23)
  target_include_directories(${library} INTERFACE
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endforeach()
add_library(limpid::limpid ALIAS limpid_shared)
add_library(limpid::archive ALIAS limpid_archive)
