// Formats records and writes them in pieces that a pipe takes without blocking.
#include "service/access_log.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <span>
#include <utility>
#include <vector>

namespace limpid {
namespace {

/// Records are collected this long after the first one, so that a busy relay wakes us 50 times a second and not for
/// each flow.
constexpr std::chrono::milliseconds kCollect{20};
constexpr std::chrono::milliseconds kIdleWait{1000};
constexpr std::chrono::seconds kTellEvery{10};
/// Once: a reader that has used it up gets no more until it reads again, so that a stop is not held up by a pipe that
/// nobody empties.
constexpr int kReaderPatienceMs = 1000;

}  // namespace

namespace {

/// Without the time: a journal has its own, and shows this one as it was.
void append_fields(const FlowRecord& record, std::vector<Field>& fields) {
  const bool dialled = record.target.port.value != 0;
  fields.push_back(field("ts", format_timestamp(record.started_us)));
  fields.push_back(field("proto", to_string(record.protocol)));
  fields.push_back(field("client", record.client.to_string()));
  fields.push_back(field("orig_dst", record.original_destination.to_string()));
  fields.push_back(field("target", dialled ? record.target.to_string() : "-"));
  fields.push_back(field("source", dialled ? to_string(record.source) : "-"));
  if (record.ruling.asked) fields.push_back(field("rule", std::uint64_t{record.ruling.rule}));
  if (record.ruling.sniffed) {
    fields.push_back(field("app", to_string(record.ruling.protocol)));
    fields.push_back(field("name", record.ruling.name().empty() ? "-" : record.ruling.name()));
    if (record.ruling.has_hint()) fields.push_back(field("name_source", to_string(NameSource::dns_hint)));
  }
  fields.push_back(field("bytes_up", record.bytes_up));
  fields.push_back(field("bytes_down", record.bytes_down));
  fields.push_back(field("duration_ms", static_cast<std::uint64_t>(record.duration_us / 1000)));
  fields.push_back(field("end", to_string(record.end)));
  if (!record.upstream.empty()) fields.push_back(field("upstream", record.upstream));
  if (record.cut_through) fields.push_back(field("cut_through", "yes"));
}

std::string line_of(std::span<const Field> fields, LogFormat format) {
  std::string line;
  for (const Field& each : fields) append_field(line, each, format);
  if (format == LogFormat::json) line += '}';
  return line;
}

}  // namespace

std::string format_access_line(const FlowRecord& record, LogFormat format) {
  std::vector<Field> fields;
  append_fields(record, fields);
  return line_of(fields, format) + '\n';
}

AccessLog::AccessLog(Relay& relay, const Options& options, const Logger& log)
    : relay_(relay), options_(options), log_(log) {
  if (options_.output == Output::journal) {
    auto journal = Journal::open();
    if (journal) {
      journal_.emplace(std::move(*journal));
    } else {
      log_.warning("no access log in the journal", {field("cause", journal.error().message())});
    }
  }
  thread_ = std::jthread([this](const std::stop_token& token) { work(token); });
}

void AccessLog::finish() {
  if (!thread_.joinable()) return;
  give_up_.store(std::chrono::steady_clock::now() + kFarewell, std::memory_order_relaxed);
  thread_.request_stop();
  relay_.wake_reader();
  thread_.join();
}

void AccessLog::work(const std::stop_token& stopped) {
  bool last_round = false;
  while (!last_round) {
    last_round = stopped.stop_requested();
    relay_.take_records([this](const FlowRecord& record) {
      if (options_.output == Output::nowhere || !is_admitted()) return;
      if (options_.output == Output::journal) return write_entry(record);
      const std::string line = format_access_line(record, options_.format);
      // POLLOUT on a pipe promises room for PIPE_BUF bytes (pipe(7)): pieces of that size never block.
      if (pending_.size() + line.size() > PIPE_BUF) write_pending();
      pending_ += line;
      ++pending_lines_;
    });
    write_pending();
    tell_of_left_out(last_round);
    if (last_round) break;
    relay_.wait_for_records(stopped.stop_requested() ? std::chrono::milliseconds{0} : kIdleWait);
    if (!stopped.stop_requested()) std::this_thread::sleep_for(kCollect);
  }
}

/// How long a reader is waited for now.
int AccessLog::patience_ms() const {
  if (stalled_) return 0;
  const auto left = give_up_.load(std::memory_order_relaxed) - std::chrono::steady_clock::now();
  return static_cast<int>(std::clamp<std::int64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(left).count(),
                                                   0, kReaderPatienceMs));
}

/// So many in each second, from the first one that was admitted.
bool AccessLog::is_admitted() {
  if (options_.most_per_second == 0) return true;
  const auto now = std::chrono::steady_clock::now();
  if (now - window_ >= std::chrono::seconds(1)) {
    window_ = now;
    in_window_ = 0;
  }
  if (in_window_++ < options_.most_per_second) return true;
  ++left_out_;
  return false;
}

void AccessLog::tell_of_left_out(bool at_once) {
  if (left_out_ == 0) return;
  const auto now = std::chrono::steady_clock::now();
  if (!at_once && now - told_ < kTellEvery) return;
  told_ = now;
  log_.warning("access log lines were left out: --access-log-rate", {field("lines", std::exchange(left_out_, 0))});
}

void AccessLog::write_entry(const FlowRecord& record) {
  fields_.clear();
  append_fields(record, fields_);
  const std::string entry = format_journal_entry(line_of(fields_, LogFormat::logfmt), fields_);
  stalled_ = !journal_ || !journal_->write(entry, patience_ms());
  if (stalled_) unwritten_.fetch_add(1, std::memory_order_relaxed);
}

void AccessLog::write_pending() {
  std::string_view rest = pending_;
  while (!rest.empty()) {
    pollfd output{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
    const int ready = poll(&output, 1, patience_ms());
    if (ready < 0 && errno == EINTR) continue;
    const ssize_t written = ready > 0 ? write(STDOUT_FILENO, rest.data(), rest.size()) : -1;
    if (written < 0 && ready > 0 && errno == EINTR) continue;
    stalled_ = written < 0;
    if (stalled_) {
      unwritten_.fetch_add(pending_lines_, std::memory_order_relaxed);
      break;
    }
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  pending_.clear();
  pending_lines_ = 0;
}

}  // namespace limpid
