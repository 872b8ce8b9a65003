# The eBPF programs are compiled by clang and come with a header that bpftool writes. Without them, or without libbpf, everything else is built, and
# `--backend ebpf` says that it is not in this build.
find_program(LIMPID_BPF_CLANG NAMES clang clang-19 clang-16 clang-14)
find_program(LIMPID_BPFTOOL NAMES bpftool PATHS /usr/sbin /sbin)
pkg_check_modules(BPF IMPORTED_TARGET libbpf>=1.0)
option(LIMPID_EBPF "Build the eBPF backend where clang, bpftool and libbpf are there" ON)
set(LIMPID_HAS_EBPF FALSE)
if(LIMPID_EBPF AND LIMPID_BPF_CLANG AND LIMPID_BPFTOOL AND BPF_FOUND)
  file(GLOB bpf_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bpf/*.h)
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/bpf)
  set(LIMPID_HAS_EBPF TRUE)

  # limpid_bpf_skeleton(SOURCE NAME FLAG…): bpf/SOURCE.bpf.c becomes bpf/NAME.skel.h in the build, by the target NAME_skeleton. A source file that includes
  # it is built behind that target. asm/types.h lies in a folder of the architecture, which clang does not look into for the target bpf.
  function(limpid_bpf_skeleton source name)
    set(object ${PROJECT_BINARY_DIR}/bpf/${name})
    add_custom_command(OUTPUT ${object}.skel.h
      COMMAND ${LIMPID_BPF_CLANG} -target bpf ${ARGN} -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -Wno-unknown-warning-option
        -I/usr/include/${CMAKE_LIBRARY_ARCHITECTURE} -I${PROJECT_SOURCE_DIR}/bpf -c ${PROJECT_SOURCE_DIR}/bpf/${source}.bpf.c -o ${object}.o
      COMMAND ${LIMPID_BPFTOOL} gen object ${object}.linked.o ${object}.o
      COMMAND ${LIMPID_BPFTOOL} gen skeleton ${object}.linked.o name ${name} > ${object}.skel.h
      DEPENDS ${PROJECT_SOURCE_DIR}/bpf/${source}.bpf.c ${bpf_headers}
      COMMENT "Compiling bpf/${source}.bpf.c" VERBATIM)
    add_custom_target(${name}_skeleton DEPENDS ${object}.skel.h)
    add_dependencies(bpf_skeletons ${name}_skeleton)
  endfunction()
  add_custom_target(bpf_skeletons)
  limpid_bpf_skeleton(intercept limpid_bpf)
  limpid_bpf_skeleton(cut_through limpid_cut -mcpu=v3) # atomic operations
else()
  add_custom_target(bpf_skeletons)  # none
  message(STATUS "The eBPF backend is left out: it needs clang, bpftool and libbpf-dev")
endif()
