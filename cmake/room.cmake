# limpid_room(NAME SOURCES … LINKS …): one static library per room of src/.
function(limpid_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;LINKS" ${ARGN})
  add_library(limpid_${name} STATIC ${ROOM_SOURCES})
  target_link_libraries(limpid_${name} PUBLIC ${ROOM_LINKS} PRIVATE limpid_flags)
  target_include_directories(limpid_${name} PUBLIC ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
endfunction()
