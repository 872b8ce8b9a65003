# limpid_room(NAME SOURCES … LINKS …): one static library, limpid_NAME, per room of src/. Rooms see each other's headers as
# "room/header.h"; which room may include which is checked by tests/style/include_directions_test.py.
function(limpid_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;LINKS" ${ARGN})
  if(ROOM_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "limpid_room(${name}): unknown arguments ${ROOM_UNPARSED_ARGUMENTS}")
  endif()
  add_library(limpid_${name} STATIC ${ROOM_SOURCES})
  target_link_libraries(limpid_${name} PUBLIC ${ROOM_LINKS} PRIVATE limpid_flags)
  target_include_directories(limpid_${name} PUBLIC ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
  limpid_use_precompiled(limpid_${name} limpid_precompiled)
endfunction()
