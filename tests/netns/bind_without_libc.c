/* Binds a TCP socket to one address and listens, with bare system calls and no C library, as statically linked Go programs
 * do. Built by exec_process.py with
 *   FAMILY      2 or 10
 *   ADDRESS     the bytes of struct sockaddr_in or sockaddr_in6, comma-separated
 *   CONVENTION  64: syscall; 32: int 0x80, the i386 calls of their own; 102: int 0x80, socketcall(2)
 * Exit status: 0, or the errno of the call that failed. */
static long call64(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}

#if CONVENTION != 64
static long call32(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "r8", "r9", "r10", "r11", "memory");
  return result;
}
#endif

/* Linked without position independence: static data lies in the low 2 GiB, where a 32-bit call can point to. */
static unsigned char address[] = {ADDRESS};
#if CONVENTION == 102
static unsigned words[6];
#endif

static long bind_it(long fd) {
#if CONVENTION == 64
  return call64(49, fd, (long)address, sizeof address);
#elif CONVENTION == 32
  return call32(361, fd, (long)address, sizeof address);
#else
  words[0] = (unsigned)fd;
  words[1] = (unsigned)(long)address;
  words[2] = sizeof address;
  return call32(102, 2, (long)words, 0);
#endif
}

static long listen_on(long fd) {
#if CONVENTION == 64
  return call64(50, fd, 1, 0);
#elif CONVENTION == 32
  return call32(363, fd, 1, 0);
#else
  words[0] = (unsigned)fd;
  words[1] = 1;
  return call32(102, 4, (long)words, 0);
#endif
}

void _start(void) {
  long fd = call64(41, FAMILY, 1, 0);
  long result = fd < 0 ? fd : bind_it(fd);
  if (result == 0) result = listen_on(fd);
  call64(231, -result, 0, 0);
  __builtin_unreachable();
}
