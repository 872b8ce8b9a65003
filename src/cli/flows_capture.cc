// limpid flows capture: the packets of both legs of one flow, as a file for Wireshark, tshark and tcpdump. The instance says whose packets they are; this process captures them.
#include "cli/flows_capture.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "base/plural.h"
#include "base/terminal_text.h"
#include "capture/capture.h"
#include "cli/control_flags.h"
#include "cli/duration.h"
#include "cli/flag_values.h"
#include "control/http_client.h"
#include "limpid/unique_fd.h"
#include "net/namespace.h"
#include "relay/flow_query.h"
#include "service/signals.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

constexpr unsigned kNotFound = 404;
constexpr std::uint32_t kMost = 1'000'000'000;
/// A forgotten capture must not fill the disk.
constexpr std::uint32_t kUsualFileBytes = 1'000'000'000;
constexpr std::uint32_t kLargestSnaplen = 262144;
/// While we ask, packets wait in the ring.
constexpr std::chrono::seconds kPatience{2};
constexpr mode_t kOwnerOnly = 0600;

struct CaptureFlags {
  ControlFlags instance;
  std::string id;
  std::string file;
  std::string time;
  std::string packets;
  std::string bytes;
  std::string file_size;
  std::string snaplen;
  bool force = false;
};

Result<CaptureLimits> parse_limits(const CaptureFlags& flags) {
  CaptureLimits limits{.file_bytes = kUsualFileBytes};
  const auto number = [](std::string_view flag, const std::string& typed, std::uint32_t least, std::uint32_t most,
                         std::string_view meaning, auto& value) -> Status {
    if (typed.empty()) return {};
    const auto parsed = parse_number(flag, typed, least, most, meaning);
    if (!parsed) return std::unexpected(parsed.error());
    value = *parsed;
    return {};
  };
  for (const Status& parsed :
       {number("--packets", flags.packets, 1, kMost, "a number of packets", limits.packets),
        number("--bytes", flags.bytes, 1, kMost, "a number of bytes", limits.bytes_of_direction),
        number("--file-size", flags.file_size, 0, 0xffffffff, "a number of bytes, 0 for no limit", limits.file_bytes),
        number("--snaplen", flags.snaplen, 64, kLargestSnaplen, "a number of bytes", limits.snaplen)}) {
    if (!parsed) return std::unexpected(parsed.error());
  }
  if (!flags.time.empty()) {
    const auto time = parse_duration("--for", flags.time);
    if (!time) return std::unexpected(time.error());
    limits.time = *time;
  }
  return limits;
}

std::unexpected<Error> no_legs() {
  return failure("flows capture", "", "the instance does not say where the flow's packets are",
                 "is it another version of Limpid? restart it");
}

/// An address of a leg; empty: any. Fails where it makes no sense.
Result<SocketAddress> end_of(const ordered_json& leg, const char* key) {
  if (leg.is_object() && leg.contains(key) && leg[key].is_null()) return SocketAddress{};
  if (leg.is_object() && leg.contains(key) && leg[key].is_string())
    return SocketAddress::parse(leg[key].get<std::string>());
  return no_legs();
}

Result<LegEnds> leg_of(const ordered_json& leg, const char* client_side, const char* target_side) {
  const auto client = end_of(leg, client_side);
  if (!client) return std::unexpected(client.error());
  const auto target = end_of(leg, target_side);
  if (!target) return std::unexpected(target.error());
  return LegEnds{.client_side = *client, .target_side = *target};
}

Result<CapturedFlow> read_flow(const ordered_json& flow) {
  CapturedFlow captured;
  const auto legs = flow.is_object() && flow.contains("legs") ? flow["legs"] : ordered_json();
  if (!legs.is_object() || !legs.contains("client") || !legs.contains("target")) return no_legs();
  captured.transport = flow.value("protocol", "") == "udp" ? Transport::udp : Transport::tcp;
  const auto client = leg_of(legs["client"], "remote", "local");
  if (!client) return std::unexpected(client.error());
  if (client->client_side.port.value == 0) return no_legs();
  captured.client_leg = *client;
  if (legs["target"].is_null()) return captured;
  const auto target = leg_of(legs["target"], "local", "remote");
  if (!target) return std::unexpected(target.error());
  captured.target_leg = *target;
  return captured;
}

/// The flow of one name, and of the name that it has when it leaves the proxy.
class FollowedFlow {
 public:
  FollowedFlow(const ControlFlags& instance, std::string id) : instance_(instance), id_(std::move(id)) {}

  /// Of this name alone. An error with code ESRCH: there is none.
  Result<CapturedFlow> look() {
    const auto answer = ask_instance(instance_, "GET", "/v1/flows/" + percent_encode(id_), {}, kPatience);
    if (!answer) return std::unexpected(answer.error());
    if (answer->status == kNotFound) {
      auto gone = failure("flows capture", id_, "there is no such flow, or no more", "`limpid flows` shows them");
      gone.error().code = ESRCH;
      return gone;
    }
    if (!answer->ok()) return std::unexpected(refusal(*answer, "flows capture", instance_));
    peer_ = answer->peer;
    auto json = ordered_json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("flow") || !json["flow"].is_object()) return no_legs();
    flow_ = json["flow"];
    return read_flow(flow_);
  }

  FlowNews ask(CapturedFlow& flow) {
    auto seen = look();
    if (!seen && seen.error().code == ESRCH && find_successor()) seen = look();
    if (!seen) {
      if (seen.error().code == ESRCH) return std::exchange(missed_, true) ? FlowNews::ended : FlowNews::same;
      return seen.error().code == ENOENT ? FlowNews::instance_ended : FlowNews::same;  // it may only be busy
    }
    missed_ = false;
    // A leg that is closed by now had the packets that come last.
    if (!seen->target_leg) seen->target_leg = flow.target_leg;
    if (*seen == flow) return FlowNews::same;
    flow = *seen;
    return FlowNews::changed;
  }

  [[nodiscard]] int peer() const noexcept { return peer_; }
  [[nodiscard]] std::string comment() const {
    const auto text = [&](const char* key) {
      return flow_.contains(key) && flow_[key].is_string() ? for_terminal(flow_[key].get<std::string>()) : "-";
    };
    return fmt::format("flow {} of instance {}: {} to {}, target {}, name {}", id_, instance_.name, text("client"),
                       text("original_destination"), text("target"), text("name"));
  }

 private:
  /// It may go on without sockets, under another name.
  bool find_successor() {
    const auto text = [&](const char* key) { return percent_encode(flow_.value(key, "")); };
    const auto page = fetch(instance_, "GET",
                            fmt::format("/v1/flows?cut_through=true&protocol={}&client={}&original_destination={}",
                                        text("protocol"), text("client"), text("original_destination")));
    if (!page || !page->is_object() || !page->contains("flows")) return false;
    for (const auto& flow : (*page)["flows"]) {
      if (!flow.is_object() || !flow.contains("id") || !flow["id"].is_string() || flow["id"] == id_) continue;
      // Another flow may have these ends later: it is younger than what we have seen.
      if (flow.value("age_ms", std::uint64_t{0}) + kClockSlackMs < flow_.value("age_ms", std::uint64_t{0})) continue;
      id_ = flow["id"].get<std::string>();
      return true;
    }
    return false;
  }

  static constexpr std::uint64_t kClockSlackMs = 100;
  const ControlFlags& instance_;
  std::string id_;
  ordered_json flow_;
  int peer_ = 0;
  bool missed_ = false;  ///< it was not there the last time: between two names, or over
};

/// The flow's packets are where the instance is.
Status enter_network_of(int process) {
  if (process <= 0) return {};
  const std::string path = fmt::format("/proc/{}/ns/net", process);
  struct stat theirs{};
  struct stat ours{};
  const UniqueFd there(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const int code = errno;
  const auto here = current_network_namespace();
  if (!here) return std::unexpected(here.error());
  if (there.valid() && fstat(there.get(), &theirs) == 0 && fstat(here->get(), &ours) == 0 &&
      theirs.st_ino == ours.st_ino && theirs.st_dev == ours.st_dev) {
    return {};
  }
  const auto entered = there.valid() ? enter_network_namespace(there.get()) : system_error(code, "open", path);
  if (entered) return {};
  return unsupported("capture", fmt::format("network namespace of process {}", process), entered.error().cause,
                     "run it as root: sudo limpid flows capture ...");
}

Result<UniqueFd> open_output(const CaptureFlags& flags) {
  const std::string& file = flags.file;
  if (file.empty() || file == "-") {
    if (::isatty(STDOUT_FILENO) == 1)
      return usage_error("flows capture", "", "a terminal cannot show packets",
                         "give a file with -w FILE, or pipe it into `tcpdump -nr -` or `tshark -r -`");
    return UniqueFd(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
  }
  if (flags.force) {
    // Unlinked, never written over: whoever has it open would read along. Devices and links stay.
    struct stat status{};
    if (lstat(file.c_str(), &status) == 0) {
      if (!S_ISREG(status.st_mode)) return failure("replace", for_terminal(file), "it is not an ordinary file");
      if (unlink(file.c_str()) != 0) return system_error(errno, "replace", for_terminal(file));
    }
  }
  UniqueFd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kOwnerOnly));
  if (!fd.valid()) return system_error(errno, "make", for_terminal(file), errno == EEXIST ? "--force replaces it" : "");
  // A umask takes bits away only; a default ACL may have added some.
  if (fchmod(fd.get(), kOwnerOnly) != 0) return system_error(errno, "make", for_terminal(file));
  return fd;
}

void print_summary(const CaptureFlags& flags, const CaptureSummary& summary) {
  const bool to_pipe = flags.file.empty() || flags.file == "-";
  std::FILE* const out = to_pipe ? stderr : stdout;
  const auto packets = summary.client_leg.packets + summary.target_leg.packets;
  if (flags.instance.json) {
    const auto tally = [](const CaptureTally& leg) {
      return ordered_json{{"packets", leg.packets}, {"bytes", leg.bytes}};
    };
    const ordered_json json = {{"schema", 1},
                               {"flow", flags.id},
                               {"file", to_pipe ? ordered_json() : ordered_json(flags.file)},
                               {"ended", to_string(summary.end)},
                               {"packets", packets},
                               {"dropped", summary.lost},
                               {"client_leg", tally(summary.client_leg)},
                               {"target_leg", tally(summary.target_leg)},
                               {"file_bytes", summary.file_bytes}};
    fmt::print(out, "{}\n", json.dump(-1, ' ', false, ordered_json::error_handler_t::replace));
    return;
  }
  fmt::print(out, "{}: {}: client leg {} ({}), target leg {} ({}); {} dropped; ended by: {}\n",
             to_pipe ? "captured" : for_terminal(flags.file), counted(packets, "packet"), summary.client_leg.packets,
             in_bytes(summary.client_leg.bytes), summary.target_leg.packets, in_bytes(summary.target_leg.bytes),
             summary.lost, to_string(summary.end));
  if (summary.lost > 0)
    fmt::print(stderr,
               "limpid: warning: packets came faster than they were written; --snaplen 128 keeps headers only\n");
}

int capture(const CaptureFlags& flags) {
  const auto limits = parse_limits(flags);
  if (!limits) return report(limits.error());
  if (const auto name = FlowName::parse(flags.id); !name) return report(name.error());
  FollowedFlow followed(flags.instance, flags.id);
  const auto flow = followed.look();
  if (!flow) return report(flow.error());
  if (auto entered = enter_network_of(followed.peer()); !entered) return report(entered.error());
  const auto signals = take_signals();
  if (!signals) return report(signals.error());
  UniqueFd output;
  const CaptureOptions options{.flow = *flow,
                               .limits = *limits,
                               .comment = followed.comment(),
                               .open_output = [&]() -> Result<int> {
                                 auto opened = open_output(flags);
                                 if (!opened) return std::unexpected(opened.error());
                                 output = std::move(*opened);
                                 return output.get();
                               },
                               .stop = signals->get(),
                               .ask = [&](CapturedFlow& now) { return followed.ask(now); },
                               .ready = [] { fmt::print(stderr, "limpid: capturing; end with Ctrl-C\n"); }};
  const auto summary = capture_packets(options);
  if (!summary) return report(summary.error());
  if (summary->end == CaptureEnd::reader_gone) {  // `| head` has seen enough, as with any other command
    (void)std::signal(SIGPIPE, SIG_DFL);
    (void)std::raise(SIGPIPE);
  }
  print_summary(flags, *summary);
  return kExitDone;
}

}  // namespace

void add_flows_capture_verb(CLI::App& flows, Action& action) {
  auto* verb =
      flows.add_subcommand("capture", "Capture the packets of both legs of one flow, for Wireshark or tcpdump");
  auto flags = std::make_shared<CaptureFlags>();
  verb->add_option("id", flags->id, "The name of the flow, as limpid flows shows it")->type_name("ID")->required();
  verb->add_option("-w,--write", flags->file, "The capture, a new file (pcapng); -: standard output")
      ->type_name("FILE");
  verb->add_flag("--force", flags->force, "Replace the file");
  constexpr auto kEnd = "When it ends";
  verb->add_option("--for", flags->time, "After this time; without it, with the flow or by ^C")
      ->type_name("TIME")
      ->group(kEnd);
  verb->add_option("--packets", flags->packets, "After so many packets")->type_name("N")->group(kEnd);
  verb->add_option("--bytes", flags->bytes, "Only the first N bytes of each direction of each leg")
      ->type_name("N")
      ->group(kEnd);
  verb->add_option("--file-size", flags->file_size, "When the capture has so many bytes; 0: never (1000000000)")
      ->type_name("N")
      ->group(kEnd);
  verb->add_option("--snaplen", flags->snaplen, "The most bytes of a packet (262144); 128 keeps headers only")
      ->type_name("N");
  add_control_flags(*verb, flags->instance);
  verb->get_option("--json")->description("Print the summary as JSON (schema: docs/capture.md)");
  verb->callback([flags, &action] { action = [flags] { return capture(*flags); }; });
}

}  // namespace limpid
