# What `cmake --install` puts where: the program, the public library (library.cmake; headers, pkg-config and CMake package files), man
# pages (man/CMakeLists.txt), systemd units, examples and shell completions. Paths follow GNUInstallDirs and the vendor directories of the shells.
include(CMakePackageConfigHelpers)
include(cmake/library.cmake)

install(TARGETS limpid RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR})

install(TARGETS limpid_archive limpid_shared EXPORT limpid ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/limpid DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(EXPORT limpid NAMESPACE limpid:: FILE limpidTargets.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/limpid)

configure_package_config_file(cmake/limpidConfig.cmake.in ${PROJECT_BINARY_DIR}/limpidConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/limpid NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/limpidConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/limpidConfig.cmake ${PROJECT_BINARY_DIR}/limpidConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/limpid)
set(LIMPID_PC_BPF "")
if(LIMPID_HAS_EBPF)
  set(LIMPID_PC_BPF " libbpf")
endif()
# The units and limpid.pc, with the paths of the prefix at hand: see placed_files.cmake.
include(cmake/placed_files.cmake)
set(LIMPID_SOURCE_DIR ${PROJECT_SOURCE_DIR})
limpid_write_placed_files(${PROJECT_BINARY_DIR} ${CMAKE_INSTALL_PREFIX})
file(GLOB inputs packaging/systemd/*)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${inputs})
set(known)
foreach(name CMAKE_INSTALL_SBINDIR CMAKE_INSTALL_DATADIR CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR LIMPID_SOURCE_DIR PROJECT_VERSION LIMPID_PC_BPF)
  string(APPEND known "set(${name} \"${${name}}\")\n")
endforeach()
install(CODE "${known}
include(\"${PROJECT_SOURCE_DIR}/cmake/placed_files.cmake\")
limpid_write_placed_files(\"${PROJECT_BINARY_DIR}/placed\" \"\${CMAKE_INSTALL_PREFIX}\")")
install(DIRECTORY ${PROJECT_BINARY_DIR}/placed/systemd/ DESTINATION lib/systemd/system)
install(FILES ${PROJECT_BINARY_DIR}/placed/limpid.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# What allows a unit more, to be copied by who wants it, and what systemd makes at the start of the host.
install(DIRECTORY ${PROJECT_SOURCE_DIR}/packaging/systemd/drop-ins/ DESTINATION ${CMAKE_INSTALL_DATADIR}/limpid/systemd)
install(FILES ${PROJECT_SOURCE_DIR}/packaging/systemd/limpid-tmpfiles.conf DESTINATION lib/tmpfiles.d RENAME limpid.conf)
install(FILES ${PROJECT_SOURCE_DIR}/packaging/systemd/limpid-sysusers.conf DESTINATION lib/sysusers.d RENAME limpid.conf)

# Configurations, monitoring, and programs on the library: to be read and copied.
install(DIRECTORY ${PROJECT_SOURCE_DIR}/examples/config ${PROJECT_SOURCE_DIR}/examples/monitoring DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
file(GLOB programs CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/examples/*.cc)
install(FILES ${programs} DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/packaging/container/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples/containers)

# The program writes its own completions, out of the same option tree that parses the command line.
if(NOT CMAKE_CROSSCOMPILING AND NOT LIMPID_SANITIZE)
  set(completions ${PROJECT_BINARY_DIR}/completions)
  add_custom_command(OUTPUT ${completions}/limpid ${completions}/_limpid ${completions}/limpid.fish
    COMMAND ${CMAKE_COMMAND} -E make_directory ${completions}
    COMMAND limpid completion bash > ${completions}/limpid
    COMMAND limpid completion zsh > ${completions}/_limpid
    COMMAND limpid completion fish > ${completions}/limpid.fish
    DEPENDS limpid COMMENT "Writing shell completions" VERBATIM)
  add_custom_target(limpid_completions ALL DEPENDS ${completions}/limpid ${completions}/_limpid ${completions}/limpid.fish)
  install(FILES ${completions}/limpid DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${completions}/_limpid DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions)
  install(FILES ${completions}/limpid.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()
