/* Binds a TCP socket to an address and listens: bind_with_libc ADDRESS PORT. Linked statically by exec_process.py.
 * Exit status: 0, or the errno of the call that failed. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int main(int count, char **words) {
  struct sockaddr_in ipv4 = {.sin_family = AF_INET};
  struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6};
  if (count != 3) return 255;
  ipv4.sin_port = ipv6.sin6_port = htons((unsigned short)atoi(words[2]));
  int is_ipv6 = strchr(words[1], ':') != NULL;
  void *into = is_ipv6 ? (void *)&ipv6.sin6_addr : (void *)&ipv4.sin_addr;
  if (inet_pton(is_ipv6 ? AF_INET6 : AF_INET, words[1], into) != 1) return 255;
  int fd = socket(is_ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
  int bound = is_ipv6 ? bind(fd, (struct sockaddr *)&ipv6, sizeof ipv6) : bind(fd, (struct sockaddr *)&ipv4, sizeof ipv4);
  return bound == 0 && listen(fd, 1) == 0 ? 0 : errno;
}
