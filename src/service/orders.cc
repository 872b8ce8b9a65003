// A queue under a mutex: an order comes now and then.
#include "service/orders.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "service/control_reports.h"

namespace limpid {

std::string why_no_orders() {
  return fmt::format("the instance is draining, and takes no orders any more (to end it at once: kill -TERM {})",
                     ::getpid());
}

Result<std::shared_ptr<ServiceOrders>> ServiceOrders::open() {
  UniqueFd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.valid()) return system_error(errno, "create eventfd", "");
  return std::shared_ptr<ServiceOrders>(new ServiceOrders(std::move(event)));
}

bool ServiceOrders::put(ServiceOrder order) {
  const std::lock_guard lock(mutex_);
  if (closed_) return false;
  waiting_.push_back(std::move(order));
  eventfd_write(event_.get(), 1);
  return true;
}

std::optional<ServiceOrder> ServiceOrders::take() {
  const std::lock_guard lock(mutex_);
  if (waiting_.empty()) {
    eventfd_t ignored = 0;
    eventfd_read(event_.get(), &ignored);
    return std::nullopt;
  }
  ServiceOrder order = std::move(waiting_.front());
  waiting_.pop_front();
  return order;
}

void ServiceOrders::close() {
  std::deque<ServiceOrder> left;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    left.swap(waiting_);
  }
  for (const ServiceOrder& order : left) order.answer(report_errors({why_no_orders()}), false);
}

}  // namespace limpid
