// Formats records, hands them on in pieces that a pipe takes without blocking, and tells of what was lost.
#include "service/access_log.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <span>
#include <utility>
#include <vector>

#include "limpid/error.h"

namespace limpid {
namespace {

/// Records are collected this long after the first one, so that a busy relay wakes us 50 times a second and not for
/// each flow.
constexpr std::chrono::milliseconds kCollect{20};
constexpr std::chrono::milliseconds kIdleWait{1000};
constexpr std::chrono::seconds kTellEvery{10};
/// A reader that comes and goes, or a disk that is full now and then, makes no more messages than this.
constexpr std::chrono::minutes kTellOfLossEvery{1};
/// Once: a reader that has used it up gets no more until it reads again, so that a stop is not held up by a pipe that
/// nobody empties.
constexpr std::chrono::milliseconds kReaderPatience{1000};

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

AccessLog::AccessLog(Relay& relay, Options options, const Logger& log)
    : relay_(relay), options_(std::move(options)), log_(log), output_(STDOUT_FILENO) {
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
    });
    write_pending();
    tell_of_left_out(last_round);
    tell_of_losses();
    options_.each_round(last_round);
    if (last_round) break;
    relay_.wait_for_records(stopped.stop_requested() ? std::chrono::milliseconds{0} : kIdleWait);
    if (!stopped.stop_requested()) std::this_thread::sleep_for(kCollect);
  }
  if (output_.is_cut()) note_loss(1, std::move(losses_.cause));
}

/// How long a reader is waited for now.
std::chrono::milliseconds AccessLog::patience() const {
  using std::chrono::milliseconds;
  if (stalled_) return milliseconds{0};
  const auto left = give_up_.load(std::memory_order_relaxed) - std::chrono::steady_clock::now();
  return std::clamp(std::chrono::duration_cast<milliseconds>(left), milliseconds{0}, kReaderPatience);
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
  if (journal_ && journal_->write(entry, static_cast<int>(patience().count()))) {
    stalled_ = false;
  } else {
    note_loss(1, "journald did not take them");
  }
}

void AccessLog::write_pending() {
  if (pending_.empty() && !output_.is_cut()) return;
  const auto loss = output_.write(pending_, patience());
  pending_.clear();
  if (loss.error == 0) {
    stalled_ = false;
  } else {
    note_loss(loss.lines, loss.error == ETIMEDOUT ? "nobody read standard output for a second"
                                                  : system_error(loss.error, "", "").error().cause);
  }
}

void AccessLog::note_loss(std::uint64_t lines, std::string cause) {
  stalled_ = true;
  relay_.count_lost_records(lines);
  lost_now_ += lines;
  losses_.lines += lines;
  losses_.cause = std::move(cause);
}

void AccessLog::tell_of_losses() {
  const auto now = std::chrono::steady_clock::now();
  if (stalled_ && lost_now_ > 0 && !told_of_loss_ && now >= next_loss_told_) {
    told_of_loss_ = true;
    next_loss_told_ = now + kTellOfLossEvery;
    log_.warning("access log lines are being lost", {field("cause", losses_.cause), field("lines", lost_now_)});
  } else if (!stalled_ && told_of_loss_) {
    told_of_loss_ = false;
    log_.warning("the access log is written again", {field("lines_lost", std::exchange(lost_now_, 0))});
  }
}

}  // namespace limpid
