# The eBPF programs are compiled by clang and come with a header that bpftool writes. Without them, or without libbpf, everything else is built, and
# `--backend ebpf` says that it is not in this build.
find_program(LIMPID_BPF_CLANG NAMES clang clang-19 clang-16 clang-14)
find_program(LIMPID_BPFTOOL NAMES bpftool PATHS /usr/sbin /sbin)
pkg_check_modules(BPF IMPORTED_TARGET libbpf>=1.0)
option(LIMPID_EBPF "Build the eBPF backend where clang, bpftool and libbpf are there" ON)
set(LIMPID_HAS_EBPF FALSE)
if(LIMPID_EBPF AND LIMPID_BPF_CLANG AND LIMPID_BPFTOOL AND BPF_FOUND)
  set(LIMPID_BPF_SKELETON ${PROJECT_BINARY_DIR}/bpf/limpid_bpf.skel.h)
  set(LIMPID_BPF_OBJECT ${PROJECT_BINARY_DIR}/bpf/limpid)
  file(GLOB bpf_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bpf/*.h)
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/bpf)
  # asm/types.h lies in a folder of the architecture, which clang does not look into for the target bpf.
  add_custom_command(OUTPUT ${LIMPID_BPF_SKELETON}
    COMMAND ${LIMPID_BPF_CLANG} -target bpf -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -Wno-unknown-warning-option
      -I/usr/include/${CMAKE_LIBRARY_ARCHITECTURE} -I${PROJECT_SOURCE_DIR}/bpf -c ${PROJECT_SOURCE_DIR}/bpf/intercept.bpf.c -o ${LIMPID_BPF_OBJECT}.o
    COMMAND ${LIMPID_BPFTOOL} gen object ${LIMPID_BPF_OBJECT}.linked.o ${LIMPID_BPF_OBJECT}.o
    COMMAND ${LIMPID_BPFTOOL} gen skeleton ${LIMPID_BPF_OBJECT}.linked.o name limpid_bpf > ${LIMPID_BPF_SKELETON}
    DEPENDS ${PROJECT_SOURCE_DIR}/bpf/intercept.bpf.c ${bpf_headers}
    COMMENT "Compiling the eBPF programs" VERBATIM)
  add_custom_target(limpid_bpf_skeleton DEPENDS ${LIMPID_BPF_SKELETON})
  set(LIMPID_HAS_EBPF TRUE)
else()
  message(STATUS "The eBPF backend is left out: it needs clang, bpftool and libbpf-dev")
endif()
