# The dashboard's page, put together by the build: src/dashboard's style and scripts in its page.html, and the whole as a C++ array.
# With -P it is the build's own step: cmake -DPAGE=… -DSTYLE=… -DSCRIPTS=a,b -DOUTPUT=… -P dashboard.cmake

if(CMAKE_SCRIPT_MODE_FILE)
  cmake_minimum_required(VERSION 3.25)
  file(READ "${PAGE}" page)
  file(READ "${STYLE}" style)
  string(REPLACE "," ";" scripts "${SCRIPTS}")
  set(script "")
  foreach(file IN LISTS scripts)
    file(READ "${file}" text)
    string(APPEND script "${text}")
  endforeach()
  # What would end the elements early, or begin another state of the HTML parser.
  foreach(forbidden "</script" "<!--" "</style" "@NONCE@")
    string(FIND "${script}${style}" "${forbidden}" found)
    if(NOT found EQUAL -1)
      message(FATAL_ERROR "src/dashboard: '${forbidden}' must not stand in a script or style")
    endif()
  endforeach()
  string(REPLACE "@STYLE@" "${style}" page "${page}")
  string(REPLACE "@SCRIPT@" "${script}" page "${page}")
  string(HEX "${page}" bytes)
  string(REGEX REPLACE "(..)" "'\\\\x\\1'," bytes "${bytes}")
  file(WRITE "${OUTPUT}" "// Written by cmake/dashboard.cmake out of src/dashboard.\n#include \"dashboard/page.h\"\n\nnamespace limpid {\n"
    "namespace {\nconstexpr char kBytes[] = {${bytes}};\n}\n\nconst std::string_view kDashboardPage(kBytes, sizeof kBytes);\n\n}\n")
  return()
endif()

# limpid_embed_dashboard(TARGET PAGE STYLE SCRIPT…): adds it to the target. The scripts are one, in this order.
function(limpid_embed_dashboard target page style)
  set(scripts ${ARGN})
  list(TRANSFORM scripts PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
  string(REPLACE ";" "," listed "${scripts}")
  set(output ${CMAKE_CURRENT_BINARY_DIR}/page_bytes.cc)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -DPAGE=${CMAKE_CURRENT_SOURCE_DIR}/${page} -DSTYLE=${CMAKE_CURRENT_SOURCE_DIR}/${style} -DSCRIPTS=${listed}
      -DOUTPUT=${output} -P ${PROJECT_SOURCE_DIR}/cmake/dashboard.cmake
    DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${page} ${CMAKE_CURRENT_SOURCE_DIR}/${style} ${scripts} ${PROJECT_SOURCE_DIR}/cmake/dashboard.cmake
    COMMENT "Embedding the dashboard's page" VERBATIM)
  target_sources(${target} PRIVATE ${output})
endfunction()
