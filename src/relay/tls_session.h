// How TLS to an upstream is set up (OpenSSL): whose certificates count, and whom the upstream's has to name.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "limpid/error.h"
#include "upstream/upstream.h"

namespace limpid {

struct FreeTlsContext {
  void operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
};
struct FreeTlsSession {
  void operator()(SSL* session) const noexcept { SSL_free(session); }
};
using TlsContext = std::unique_ptr<SSL_CTX, FreeTlsContext>;
using TlsSession = std::unique_ptr<SSL, FreeTlsSession>;

/// The last error of this thread's calls to OpenSSL, which is forgotten with that.
[[nodiscard]] std::string take_openssl_cause();

/// Reads the upstream's `ca-file`, or the system's certificates: milliseconds. Errors: a file that cannot be read, or has none in it.
[[nodiscard]] Result<TlsContext> make_tls_context(const Upstream& upstream);

/// `fd`: connected or about to be; stays the caller's and must outlive the session, which keeps the context.
[[nodiscard]] Result<TlsSession> make_tls_session(SSL_CTX& context, int fd, const Upstream& upstream);

/// Whether the upstream's `ca-file` can be read and has certificates in it.
[[nodiscard]] Status check_tls_settings(const Upstream& upstream);

}  // namespace limpid
