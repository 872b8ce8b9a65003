// The small set-ups that one program needs, where Interception's whole scope would be too much: bringing packets to
// foreign addresses to the sockets that are bound to them, and forwarded datagrams to a listener. Undoes itself.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "intercept/plan.h"
#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/port_set.h"

namespace limpid {

struct DiversionOptions {
  std::string name;  ///< tags everything that is installed, as InterceptionOptions::name
  /// TCP and UDP packets to these addresses are delivered here when a transparent socket wants them. Others are
  /// forwarded as before.
  std::vector<IpAddress> addresses;
  /// Forwarded datagrams to these ports, whatever their destination, are handed to `listener` on 127.0.0.1 and [::1].
  PortSet udp;
  Port listener;
  bool ipv4 = true;
  bool ipv6 = true;
};

/// The nft table of a plan for these options, as nft reads it. Pure.
[[nodiscard]] std::string render_diversion_table(const DiversionOptions& options, const PlanInputs& inputs);

/// Owns what install() put into the kernel. Destruction removes exactly that and ignores errors; remove() reports them.
class Diversion {
 public:
  [[nodiscard]] static Result<Diversion> install(const DiversionOptions& options);
  Diversion(Diversion&&) noexcept;
  Diversion& operator=(Diversion&&) noexcept;
  Diversion(const Diversion&) = delete;
  Diversion& operator=(const Diversion&) = delete;
  ~Diversion();

  [[nodiscard]] Status remove();

 private:
  struct State;
  explicit Diversion(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

}  // namespace limpid
