# Files that say where other files are installed: the units, and limpid.pc. They are written when it is known: while configuring, for the tests, and again by
# `cmake --install`, whose --prefix may be another one.
#   limpid_write_placed_files(INTO PREFIX): INTO/systemd/*.service and INTO/limpid.pc. Needs the GNUInstallDirs (CMAKE_INSTALL_SBINDIR, …), which may be whole
#   paths, LIMPID_SOURCE_DIR, PROJECT_VERSION and LIMPID_PC_BPF.
function(limpid_write_placed_files into prefix)
  foreach(kind SBINDIR DATADIR LIBDIR INCLUDEDIR)
    cmake_path(ABSOLUTE_PATH CMAKE_INSTALL_${kind} BASE_DIRECTORY "${prefix}" OUTPUT_VARIABLE LIMPID_${kind})
  endforeach()
  set(LIMPID_PREFIX "${prefix}")
  # What units have in common is written once.
  file(READ ${LIMPID_SOURCE_DIR}/packaging/systemd/hardening.conf LIMPID_RULES_HARDENING)
  file(READ ${LIMPID_SOURCE_DIR}/packaging/systemd/hardening-run.conf LIMPID_RUN_HARDENING)
  string(CONFIGURE "${LIMPID_RUN_HARDENING}" LIMPID_RUN_HARDENING @ONLY)
  foreach(unit limpid.service limpid@.service limpid-rules@.service limpid-rules-watch@.service)
    configure_file(${LIMPID_SOURCE_DIR}/packaging/systemd/${unit} ${into}/systemd/${unit} @ONLY)
  endforeach()
  configure_file(${LIMPID_SOURCE_DIR}/cmake/limpid.pc.in ${into}/limpid.pc @ONLY)
endfunction()
