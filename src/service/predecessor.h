// Predecessor: the process that this one takes over from: the other side of service/handover.h. Without one, a start is a start like any other.
//
// What has to stay as it was, or established flows would break, is refused when it changes: numbers, backend, listeners, workers. Everything else of the configuration may.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "intercept/survey.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "net/descriptor_channel.h"
#include "relay/relay.h"
#include "service/handover_messages.h"
#include "service/listeners.h"

namespace limpid {

class Predecessor {
 public:
  /// Takes LIMPID_HANDOVER out of the environment, speaks to whoever is there, and hears what it has. Empty: this is an ordinary start. Before there are threads.
  [[nodiscard]] static Result<std::optional<Predecessor>> find();

  [[nodiscard]] const HandedInstance& instance() const noexcept { return instance_; }
  /// The instance's lock, for the name that was asked for.
  [[nodiscard]] Result<UniqueFd> take_lock(const std::string& name);
  /// lock_rules(), which its keeper has held.
  [[nodiscard]] Result<UniqueFd> take_rules_lock();
  /// Whether flows that are under way can go on with these.
  [[nodiscard]] Status check(const Numbers& numbers, Backend backend) const;
  [[nodiscard]] Status check_cut_through(bool there) const;
  /// How many there are; an error if `wanted` (0: any) is another number.
  [[nodiscard]] Result<unsigned> workers(unsigned wanted) const;
  /// Its listeners, if they are those that are wanted.
  [[nodiscard]] Result<Listeners> take_listeners(const ListenerRequest& request);
  /// Of operators; an invalid one where it has none, or one that is elsewhere than `wanted`.
  [[nodiscard]] UniqueFd take_control(std::string_view wanted);
  [[nodiscard]] UniqueFd take_metrics(const SocketAddress& wanted);
  [[nodiscard]] UniqueFd take_dashboard(const SocketAddress& wanted);

  /// Everything is ready: its flows come into the relay, which begins when they are ours. On failure they are the predecessor's, as before.
  [[nodiscard]] Status take_over(Relay& relay);
  /// Tells it why there will be nothing.
  void refuse(const Error& error) const;
  /// After take_over(): returns when the supervisor knows of us, or the predecessor has ended.
  void await_farewell() const;
  /// Then: everything is as it is going to be. It may end.
  void say_serving() const;

 private:
  Predecessor(DescriptorChannel channel, UniqueFd rules_lock) noexcept
      : channel_(std::move(channel)), rules_lock_(std::move(rules_lock)) {}
  [[nodiscard]] Status hear_of_instance();

  DescriptorChannel channel_;
  HandedInstance instance_;
  UniqueFd lock_;
  UniqueFd rules_lock_;
  UniqueFd control_;
  UniqueFd metrics_;
  UniqueFd dashboard_;
  std::vector<WorkerListeners> listeners_;
};

}  // namespace limpid
