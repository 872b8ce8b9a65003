// TLS 1.2 or later, without renegotiation; the name is checked by OpenSSL, against an address where the upstream has one for a name. See tls_session.h.
#include "relay/tls_session.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <cerrno>
#include <utility>

namespace limpid {

std::string take_openssl_cause() {
  const char* text = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return text != nullptr ? text : "the connection broke";
}

Result<TlsContext> make_tls_context(const Upstream& upstream) {
  TlsContext context(SSL_CTX_new(TLS_client_method()));
  if (!context || SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION) != 1) {
    return system_error(ENOMEM, "prepare TLS", upstream.name);
  }
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(context.get(),
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_verify(context.get(), upstream.tls.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  const bool loaded = upstream.tls.ca_file.empty()
                          ? SSL_CTX_set_default_verify_paths(context.get()) == 1
                          : SSL_CTX_load_verify_file(context.get(), upstream.tls.ca_file.c_str()) == 1;
  if (!loaded) {
    return usage_error("upstream", upstream.name,
                       fmt::format("ca-file: {}: {}", upstream.tls.ca_file, take_openssl_cause()),
                       "name a file with certificates in PEM, readable for this user");
  }
  return context;
}

Result<TlsSession> make_tls_session(SSL_CTX& context, int fd, const Upstream& upstream) {
  TlsSession session(SSL_new(&context));
  if (!session || SSL_set_fd(session.get(), fd) != 1) return system_error(ENOMEM, "begin TLS with", upstream.name);
  const std::string& name = upstream.tls.server_name.empty() ? upstream.host : upstream.tls.server_name;
  bool set = false;
  if (IpAddress::parse(name)) {
    set = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session.get()), name.c_str()) == 1;
  } else {
    std::string sni = name;  // SSL_set_tlsext_host_name() is a macro with a cast
    set = SSL_ctrl(session.get(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, sni.data()) == 1 &&
          SSL_set1_host(session.get(), name.c_str()) == 1;
  }
  if (!set) return system_error(EINVAL, "begin TLS with", name);
  SSL_set_connect_state(session.get());
  return session;
}

Status check_tls_settings(const Upstream& upstream) {
  if (auto context = make_tls_context(upstream); !context) return std::unexpected(context.error());
  return {};
}

}  // namespace limpid
