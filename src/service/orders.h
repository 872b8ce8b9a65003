// ServiceOrders: what the control API wants of the main thread, which alone may change the plan or end the service: orders in a queue, and a descriptor
// to wait for them.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

struct ServiceOrder {
  enum class Kind : std::uint8_t { reload, drain, upgrade };
  Kind kind = Kind::reload;
  std::string body{};                                  ///< of the request, as JSON; may be empty
  bool abort = false;                                  ///< reload: end the flows that the new rules forbid
  std::optional<std::chrono::milliseconds> timeout{};  ///< drain, upgrade: instead of the usual one
  std::function<void(std::string json, bool ok)> answer{};
};

/// Why a draining instance refuses an order, and how it is ended all the same.
[[nodiscard]] std::string why_no_orders();

class ServiceOrders {
 public:
  [[nodiscard]] static Result<std::shared_ptr<ServiceOrders>> open();
  /// Readable when there is one.
  [[nodiscard]] int descriptor() const noexcept { return event_.get(); }
  /// From any thread. False once they are closed.
  [[nodiscard]] bool put(ServiceOrder order);
  /// By the main thread.
  [[nodiscard]] std::optional<ServiceOrder> take();
  /// By the main thread: nobody takes orders any more. Those that wait are answered so.
  void close();

 private:
  explicit ServiceOrders(UniqueFd event) noexcept : event_(std::move(event)) {}
  UniqueFd event_;
  std::mutex mutex_;
  std::deque<ServiceOrder> waiting_;
  bool closed_ = false;
};

}  // namespace limpid
