// The least that makes a program of the kernel document's fragment: it binds, then calls ADDRESS PORT or listens once,
// says "hello", prints its peer's words and, on standard error, both addresses of the connection.
// FRAGMENT is the fragment, without its setsockopt(2) if the test cut it out.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void say(const char* what, const struct sockaddr_in* address) {
  fprintf(stderr, "%s %s:%d\n", what, inet_ntoa(address->sin_addr), ntohs(address->sin_port));
}

int main(int argc, char** argv) {
  int fd;
  struct sockaddr_in name;
  memset(&name, 0, sizeof(name));
#include FRAGMENT
  // The document does not look at bind's result; getsockname(2) tells it as well.
  socklen_t length = sizeof(name);
  getsockname(fd, (struct sockaddr*)&name, &length);
  say("bound to", &name);
  if (name.sin_port == 0) return 1;
  if (argc == 3) {
    struct sockaddr_in target = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &target.sin_addr);
    if (connect(fd, (struct sockaddr*)&target, sizeof(target)) != 0) return perror("connect"), 1;
  } else {
    if (listen(fd, 1) != 0) return perror("listen"), 1;
    fprintf(stderr, "listening\n");
    fd = accept(fd, NULL, NULL);
  }
  length = sizeof(name);
  getsockname(fd, (struct sockaddr*)&name, &length);
  say("from", &name);
  length = sizeof(name);
  getpeername(fd, (struct sockaddr*)&name, &length);
  say("to", &name);
  if (write(fd, "hello", 5) != 5) return perror("write"), 1;
  shutdown(fd, SHUT_WR);
  char buffer[4096];
  for (ssize_t count; (count = read(fd, buffer, sizeof(buffer))) > 0;) fwrite(buffer, 1, count, stdout);
  return 0;
}
