// The story that `limpid lab demo` tells, step by step: before, during, killed, restarted, after. Every line with a
// mark is a promise that has just been checked; the first broken one ends the demonstration.
#include "lab/demo.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/file_text.h"
#include "lab/background_process.h"
#include "lab/demo_server.h"
#include "lab/enclosure.h"
#include "lab/kernel_snapshot.h"
#include "lab/lab.h"
#include "lab/transcript.h"
#include "net/namespace.h"

namespace limpid {
namespace {

using std::chrono::seconds;

/// Whether a request is to go through Limpid, and may be looked for in its access log.
enum class Through : std::uint8_t { limpid, kernel };

class Demo {
 public:
  Demo(Lab lab, DemoPrograms programs, DemoDirectory directory)
      : lab_(std::move(lab)), programs_(std::move(programs)), directory_(std::move(directory)) {}

  Status play() {
    for (const auto act : {&Demo::show_topology, &Demo::show_before, &Demo::intercept, &Demo::transfer_through_limpid,
                           &Demo::kill_limpid, &Demo::restart_limpid, &Demo::stop_limpid}) {
      if (auto outcome = (this->*act)(); !outcome) return outcome;
    }
    return {};
  }

 private:
  Status show_topology();
  Status show_before();
  Status intercept();
  Status transfer_through_limpid();
  Status kill_limpid();
  Status restart_limpid();
  Status stop_limpid();

  Status start_limpid();
  Status ask_for_peer(Family family, Through through);
  Status show_flow(const Download& download, Through through);
  Status fetch_large_file(Family family);
  void show_additions(const KernelSnapshot& now);
  void show_messages();

  Status promise(bool kept, std::string_view label, std::string_view text) {
    transcript_.promise(kept, label, text);
    if (kept) return {};
    return failure("demonstration", label, "not as promised: " + std::string(text));
  }
  Status visit(std::string_view name) {
    const LabHost* host = lab_.find(name);
    if (host == nullptr) return failure("visit", name, "no such host");
    return enter_network_namespace(host->network_namespace.get());
  }
  Result<KernelSnapshot> look_at_router() {
    if (auto there = visit("router"); !there) return std::unexpected(there.error());
    return take_kernel_snapshot();
  }
  [[nodiscard]] std::string access_log() const { return directory_.file("access.log"); }
  /// Each start has messages of its own, so that waiting for one does not find an earlier one's.
  [[nodiscard]] std::string messages() const { return directory_.file(fmt::format("messages-{}.log", starts_)); }

  Lab lab_;
  DemoPrograms programs_;
  DemoDirectory directory_;
  Transcript transcript_;
  KernelSnapshot before_;
  KernelSnapshot during_;
  std::optional<BackgroundProcess> server_;
  std::optional<BackgroundProcess> limpid_;
  int starts_ = 0;
};

Status Demo::show_topology() {
  transcript_.heading("The network: three namespaces, no names on disk");
  transcript_.block({
      "client                        router                                  server",
      "eth0 ──────────────────────── lan        wan ──────────────────────── eth0",
      "192.0.2.2               192.0.2.1        198.51.100.1         198.51.100.2",
      "2001:db8:1::2       2001:db8:1::1        2001:db8:2::1       2001:db8:2::2",
  });
  if (auto there = visit("server"); !there) return there;
  if (auto prepared = prepare_server(directory_); !prepared) return prepared;
  auto server = start_server(programs_, directory_);
  if (!server) return std::unexpected(server.error());
  server_.emplace(*std::move(server));
  transcript_.line("on the server", "nginx: /peer says whom it sees, /large is 64 MiB of random bytes");
  transcript_.line("on the client", "curl");
  return {};
}

Status Demo::show_before() {
  transcript_.heading("Before: the router only forwards");
  auto snapshot = look_at_router();
  if (!snapshot) return std::unexpected(snapshot.error());
  before_ = *std::move(snapshot);
  return promise(before_.ruleset.empty(), "its kernel holds", before_.summary());
}

Status Demo::start_limpid() {
  if (auto there = visit("router"); !there) return there;
  ++starts_;
  const auto started = std::chrono::steady_clock::now();
  auto limpid = BackgroundProcess::start({"/proc/self/exe", "run", "--tcp", "80", "--control", "none"},
                                         {.standard_output = access_log(), .standard_error = messages()});
  if (!limpid) return std::unexpected(limpid.error());
  limpid_.emplace(*std::move(limpid));
  if (!wait_for_line(messages(), "msg=intercepting", seconds(20), &*limpid_)) {
    return failure("limpid run", "--tcp 80", "it does not come up: " + read_text(messages()));
  }
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - started);
  show_messages();
  transcript_.line("on the router",
                   fmt::format("limpid run --tcp 80 (pid {}, ready after {} ms)", limpid_->pid(), took.count()));
  return {};
}

// What Limpid has said so far, without the time and the level.
void Demo::show_messages() {
  std::istringstream lines(read_text(messages()));
  for (std::string line; std::getline(lines, line);) {
    const std::size_t start = line.find("msg=");
    transcript_.line("it says", start == std::string::npos ? line : line.substr(start));
  }
}

void Demo::show_additions(const KernelSnapshot& now) {
  transcript_.line("nft list ruleset", "");
  transcript_.block(now.ruleset);
  const std::array<std::pair<std::string_view, std::vector<std::string>>, 4> additions{{
      {"ip -4 rule", added_lines(before_.ipv4_rules, now.ipv4_rules)},
      {"ip -4 route", added_lines(before_.ipv4_routes, now.ipv4_routes)},
      {"ip -6 rule", added_lines(before_.ipv6_rules, now.ipv6_rules)},
      {"ip -6 route", added_lines(before_.ipv6_routes, now.ipv6_routes)},
  }};
  for (const auto& [title, lines] : additions) {
    if (!lines.empty()) transcript_.line(title, "has in addition:");
    transcript_.block(lines);
  }
}

Status Demo::intercept() {
  transcript_.heading("During: limpid run --tcp 80");
  if (auto started = start_limpid(); !started) return started;
  auto snapshot = look_at_router();
  if (!snapshot) return std::unexpected(snapshot.error());
  during_ = *std::move(snapshot);
  if (auto kept = promise(during_ != before_, "its kernel holds", during_.summary()); !kept) return kept;
  show_additions(during_);
  return {};
}

// The access log's line for this connection, which is there soon after it has ended.
Status Demo::show_flow(const Download& download, Through through) {
  if (through == Through::kernel) return {};
  const auto line = wait_for_line(access_log(), "client=" + download.client + " ", seconds(10), &*limpid_);
  if (!line) {
    return promise(false, "went through Limpid", fmt::format("no access log line of {}", download.client));
  }
  return promise(line->find(" orig_dst=" + download.dialled + " ") != std::string::npos, "Limpid's access log",
                 line->substr(line->find("client=")));
}

Status Demo::ask_for_peer(Family family, Through through) {
  if (auto there = visit("client"); !there) return there;
  const LabHost* client = lab_.find("client");
  const LabHost* server = lab_.find("server");
  const IpAddress& client_address = family == Family::ipv4 ? client->ipv4 : client->ipv6;
  const IpAddress& server_address = family == Family::ipv4 ? server->ipv4 : server->ipv6;
  auto peer = download(programs_, directory_, server_address, "peer");
  if (!peer) return std::unexpected(peer.error());
  const SocketAddress wanted{.address = server_address, .port = {80}};
  if (auto kept = promise(peer->dialled == wanted.to_string(), "client dialled", peer->dialled); !kept) return kept;
  const std::string seen = read_text(peer->saved_as);
  const bool same = seen == client_address.to_string();
  if (auto kept = promise(same, "server saw as peer", seen + (same ? " (the client's own address)" : "")); !kept) {
    return kept;
  }
  return show_flow(*peer, through);
}

Status Demo::fetch_large_file(Family family) {
  if (auto there = visit("client"); !there) return there;
  const LabHost* server = lab_.find("server");
  const IpAddress& server_address = family == Family::ipv4 ? server->ipv4 : server->ipv6;
  const auto started = std::chrono::steady_clock::now();
  auto large = download(programs_, directory_, server_address, "large");
  if (!large) return std::unexpected(large.error());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
  const auto sent = sha256(programs_, directory_.file("www/large"));
  if (!sent) return std::unexpected(sent.error());
  const auto received = sha256(programs_, large->saved_as);
  if (!received) return std::unexpected(received.error());
  transcript_.line("64 MiB took", fmt::format("{:.2f} s", took.count()));
  transcript_.line("SHA-256 at the server", *sent);
  if (auto kept = promise(*sent == *received, "SHA-256 at the client", *received); !kept) return kept;
  return show_flow(*large, Through::limpid);
}

Status Demo::transfer_through_limpid() {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    transcript_.heading(fmt::format("{} through Limpid", to_string(family)));
    if (auto done = ask_for_peer(family, Through::limpid); !done) return done;
    if (auto done = fetch_large_file(family); !done) return done;
  }
  return {};
}

Status Demo::kill_limpid() {
  transcript_.heading("Limpid dies (kill -9): fail-open, so the router forwards again");
  limpid_->send(SIGKILL);
  const auto status = limpid_->wait(seconds(10));
  if (auto kept = promise(status == 128 + SIGKILL, "limpid run", "killed"); !kept) return kept;
  auto snapshot = look_at_router();
  if (!snapshot) return std::unexpected(snapshot.error());
  transcript_.line("its kernel holds", snapshot->summary() + ": left over, harmless");
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    if (auto done = ask_for_peer(family, Through::kernel); !done) return done;
  }
  return {};
}

Status Demo::restart_limpid() {
  transcript_.heading("Limpid starts again: it finds what it left over, and takes its place");
  if (auto started = start_limpid(); !started) return started;
  auto snapshot = look_at_router();
  if (!snapshot) return std::unexpected(snapshot.error());
  const bool once = snapshot->summary() == during_.summary();
  if (auto kept = promise(once, "its kernel holds", snapshot->summary() + ": nothing twice"); !kept) return kept;
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    if (auto done = ask_for_peer(family, Through::limpid); !done) return done;
  }
  return {};
}

Status Demo::stop_limpid() {
  transcript_.heading("After: limpid run ends (SIGTERM)");
  limpid_->send(SIGTERM);
  const auto status = limpid_->wait(seconds(40));
  const std::string outcome = status ? fmt::format("ended, exit status {}", *status) : "does not end";
  if (auto kept = promise(status == 0, "limpid run", outcome); !kept) return kept;
  auto snapshot = look_at_router();
  if (!snapshot) return std::unexpected(snapshot.error());
  const bool same = *snapshot == before_;
  if (!same) show_additions(*snapshot);
  return promise(same, "its kernel holds", snapshot->summary() + (same ? ": exactly what it held before" : ""));
}

/// What the outside is told about the lab, through a pipe: the identities of its namespaces, so that it can look for
/// them afterwards. "net:[4026532177]", a line each.
Status name_namespaces(const Lab& lab, int pipe_end) {
  for (const auto& host : lab.hosts()) {
    std::error_code error;
    const std::filesystem::path link = fmt::format("/proc/self/fd/{}", host.network_namespace.get());
    const std::string line = std::filesystem::read_symlink(link, error).string() + "\n";
    if (error || ::write(pipe_end, line.data(), line.size()) < 0) return failure("name", host.name, "not possible");
  }
  return {};
}

Status play_in_lab(int pipe_end) {
  auto programs = DemoPrograms::find();
  if (!programs) return std::unexpected(programs.error());
  auto directory = DemoDirectory::create();
  if (!directory) return std::unexpected(directory.error());
  auto lab = Lab::create({});
  if (!lab) return std::unexpected(lab.error());
  if (auto named = name_namespaces(*lab, pipe_end); !named) return named;
  return Demo(*std::move(lab), *std::move(programs), *std::move(directory)).play();
}

std::set<std::string> read_names(int pipe_end) {
  std::string text;
  std::array<char, 4096> buffer{};
  for (ssize_t got = 0; (got = ::read(pipe_end, buffer.data(), buffer.size())) > 0;) {
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  std::set<std::string> names;
  for (std::size_t start = 0, end = 0; (end = text.find('\n', start)) != std::string::npos; start = end + 1) {
    names.insert(text.substr(start, end - start));
  }
  return names;
}

/// Processes (of those that we may look at) that live in one of these network namespaces.
int count_inhabitants(const std::set<std::string>& names) {
  int inhabitants = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator entry("/proc", error), end; !error && entry != end; entry.increment(error)) {
    std::error_code unreadable;
    const auto link = std::filesystem::read_symlink(entry->path() / "ns" / "net", unreadable);
    if (!unreadable && names.contains(link.string())) ++inhabitants;
  }
  return inhabitants;
}

}  // namespace

Result<int> run_demo(const std::function<int(const Error&)>& report) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) < 0) return system_error(errno, "make", "pipe");
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  const auto play = [&write_end, &report] {
    const auto outcome = play_in_lab(write_end.get());
    return outcome ? 0 : report(outcome.error());
  };
  const auto status = run_enclosed(
      [&play, &report](const Enclosure& enclosure) {
        const auto played = enclosure.supervise(play);
        return played ? *played : report(played.error());
      },
      report);
  if (!status || *status != 0) return status;

  const std::set<std::string> names = read_names(read_end.get());
  const int inhabitants = count_inhabitants(names);
  Transcript transcript;
  transcript.heading("The lab has ended");
  const bool gone = !names.empty() && inhabitants == 0;
  transcript.promise(gone, "left of it", fmt::format("{} processes in its {} namespaces", inhabitants, names.size()));
  if (!gone) return failure("demonstration", "lab", "something of it is still there");
  return 0;
}

}  // namespace limpid
