// One question after the other. The thread shares a queue with the program's loop, under a mutex, and an eventfd that says: look.
#include "cli/top_feed.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "control/http_client.h"

namespace limpid {
namespace {

constexpr std::chrono::seconds kPatience{5};
constexpr unsigned kNotFound = 404;

Result<nlohmann::ordered_json> ask_for(const TopSource& source, const std::string& target) {
  const auto answer = ask_instance(source.instance, "GET", target, {}, kPatience);
  if (!answer) return std::unexpected(answer.error());
  if (!answer->ok()) return std::unexpected(refusal(*answer, "ask", source.instance));
  return nlohmann::ordered_json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
}

std::string kill_flow(const ControlFlags& instance, const std::string& id) {
  const auto answer = ask_instance(instance, "DELETE", "/v1/flows/" + percent_encode(id), {}, kPatience);
  if (!answer) return answer.error().message();
  if (answer->ok()) return "killed " + id;
  return answer->status == kNotFound ? id + " is over already" : refusal(*answer, "kill", instance).message();
}

}  // namespace

Result<top::Reading> ask_for_reading(const TopSource& source, top::Sort sort) {
  std::string target = fmt::format("/v1/flows?sort={}&limit={}", top::order_asked_for(sort), source.limit);
  if (const std::string filter = as_arguments(source.which); !filter.empty()) target += "&" + filter;
  const auto flows = ask_for(source, target);
  if (!flows) return std::unexpected(flows.error());
  const auto counters = ask_for(source, "/v1/counters");
  if (!counters) return std::unexpected(counters.error());
  const auto status = ask_for(source, "/v1/status");
  if (!status) return std::unexpected(status.error());
  return top::read_answers(*status, *counters, *flows, std::chrono::steady_clock::now());
}

struct TopFeed::Shared {
  struct Question {
    top::Sort sort = top::Sort::rate;
    std::string kill;  ///< empty: a reading
  };

  TopSource source;
  UniqueFd signal;
  std::mutex mutex;
  std::condition_variable changed;
  // Under the mutex:
  std::deque<Question> questions;
  std::deque<TopAnswer> answers;
  bool ends = false;

  void work() {
    for (;;) {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return ends || !questions.empty(); });
      if (ends) return;
      const Question question = std::move(questions.front());
      questions.pop_front();
      lock.unlock();
      TopAnswer answer;
      if (question.kill.empty()) {
        answer.reading = ask_for_reading(source, question.sort);
      } else {
        answer.kill_outcome = kill_flow(source.instance, question.kill);
      }
      lock.lock();
      answers.push_back(std::move(answer));
      lock.unlock();
      const std::uint64_t one = 1;
      [[maybe_unused]] const auto written = ::write(signal.get(), &one, sizeof one);
    }
  }

  void add(Question question) {
    const std::lock_guard lock(mutex);
    questions.push_back(std::move(question));
    changed.notify_one();
  }
};

Result<TopFeed> TopFeed::start(TopSource source) {
  auto shared = std::make_shared<Shared>();
  shared->source = std::move(source);
  shared->signal = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!shared->signal.valid()) return system_error(errno, "open", "eventfd");
  std::thread([shared] { shared->work(); }).detach();
  return TopFeed(std::move(shared));
}

TopFeed::~TopFeed() {
  if (!shared_) return;
  const std::lock_guard lock(shared_->mutex);
  shared_->ends = true;
  shared_->changed.notify_one();
}

void TopFeed::ask(top::Sort sort) {
  shared_->add({.sort = sort, .kill = {}});
}

void TopFeed::kill(const std::string& id) {
  shared_->add({.kill = id});
}

int TopFeed::descriptor() const noexcept {
  return shared_->signal.get();
}

std::optional<TopAnswer> TopFeed::next() {
  // Before the look, so that what comes after it is told anew.
  std::uint64_t count = 0;
  [[maybe_unused]] const auto length = ::read(shared_->signal.get(), &count, sizeof count);
  const std::lock_guard lock(shared_->mutex);
  if (shared_->answers.empty()) return std::nullopt;
  TopAnswer answer = std::move(shared_->answers.front());
  shared_->answers.pop_front();
  return answer;
}

}  // namespace limpid
