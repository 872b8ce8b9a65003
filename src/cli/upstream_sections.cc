// A section's settings are the flags --upstream-… without their beginning, and those options of a URL that all its servers share.
#include "cli/upstream_sections.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "cli/upstream_values.h"
#include "net/interface_name.h"
#include "upstream/groups.h"

namespace limpid {
namespace {

constexpr std::array<std::string_view, 14> kKeys{"servers",      "choice",   "down",          "timeout", "check",
                                                 "check-target", "udp",      "interface",     "source",  "mark",
                                                 "user",         "password", "password-file", "via"};

class SectionReader {
 public:
  SectionReader(const GroupSettings& section, UpstreamGroupOptions& options) : section_(section), options_(options) {}

  std::vector<Error> read() {
    options_.name = section_.name;
    for (const Setting& setting : section_.settings) read_setting(setting);
    const Setting* servers = section_.find("servers");
    if (servers == nullptr) {
      errors_.push_back(usage_error(section_.place.to_string(), fmt::format("upstreams.{}", section_.name),
                                    "it has no servers", "write servers = [\"socks5://HOST:PORT\"]")
                            .error());
      return std::move(errors_);
    }
    if (servers->is_switch) return std::move(errors_);
    read_servers(*servers);
    if (errors_.empty()) {
      if (auto checked = check_group(options_); !checked) wrong(*servers, checked.error());
    }
    return std::move(errors_);
  }

 private:
  void wrong(const Setting& setting, std::string_view cause, std::string_view remedy,
             ErrorKind kind = ErrorKind::usage) {
    errors_.push_back({.kind = kind,
                       .code = 0,
                       .operation = setting.place.to_string(),
                       .object = fmt::format("upstreams.{}.{}", section_.name, setting.key),
                       .cause = std::string(cause),
                       .remedy = std::string(remedy)});
  }

  /// An error about a flag, or about an upstream whose name is its object. A name that nobody knows is a failure and no mistake.
  void wrong(const Setting& setting, const Error& error) {
    if (error.object.empty()) return wrong(setting, error.cause, error.remedy, error.kind);
    wrong(setting, fmt::format("{}: {}", error.object, error.cause), error.remedy, error.kind);
  }

  void note(const Setting& setting, const Status& status) {
    if (!status) wrong(setting, status.error());
  }

  void read_setting(const Setting& setting) {
    if (std::ranges::find(kKeys, setting.key) == kKeys.end())
      return wrong(setting, "there is no such setting of a group", fmt::format("one of: {}", fmt::join(kKeys, ", ")));
    if (setting.is_switch) return wrong(setting, "it takes a value, not true or false", "write it in \"quotes\"");
    if (setting.key == "servers") return;
    if (setting.key == "source") return read_sources(setting);
    if (setting.values.size() != 1) return wrong(setting, "it takes one value, not a list", "write one in \"quotes\"");
    const std::string& value = setting.values.front();
    if (setting.key == "choice") {
      note(setting, read_choice(value, options_));
    } else if (setting.key == "down") {
      note(setting, read_down(value, options_));
    } else if (setting.key == "timeout") {
      note(setting, read_timeout(value, options_));
    } else if (setting.key == "check") {
      note(setting, read_check(value, options_));
    } else if (setting.key == "check-target") {
      note(setting, read_check_target(value, options_));
    } else if (setting.key == "udp") {
      note(setting, read_datagrams(value, options_));
    } else if (setting.key == "via") {
      options_.via = value;
    } else if (setting.key == "interface") {
      const auto name = validate_interface_name(value);
      if (!name) return wrong(setting, name.error());
      interface_ = *name;
    } else if (setting.key == "mark") {
      const auto mark = parse_upstream_mark(value);
      if (!mark) return wrong(setting, fmt::format("'{}': {}", value, mark.error().cause), mark.error().remedy);
      mark_ = *mark;
    }
  }

  void read_sources(const Setting& setting) {
    for (const std::string& value : setting.values) {
      const auto address = IpAddress::parse(value);
      if (!address || address->is_unspecified() || address->is_multicast() || address->is_broadcast()) {
        wrong(setting, fmt::format("'{}' cannot be a source", value),
              "an address of this host: source = \"192.0.2.1\"");
        continue;
      }
      auto& source = sources_.at(address->family() == Family::ipv4 ? 0 : 1);
      if (source) wrong(setting, "a second source of one family", "one of IPv4 and one of IPv6");
      source = *address;
    }
  }

  void read_servers(const Setting& servers) {
    for (const std::string& url : servers.values) {
      auto upstream = read_upstream(url);
      if (!upstream) {
        wrong(servers, upstream.error());
        continue;
      }
      add_shared(*upstream);
      if (add_credentials(*upstream)) note(servers, finish_upstream(*upstream));
      options_.members.push_back(std::move(*upstream));
    }
    const Setting* user = section_.find("user");
    if (user != nullptr && errors_.empty() && !used_credentials_)
      wrong(*user, "none of the servers takes a user, or each has its own", "leave it out");
    for (const std::string_view key : {"password", "password-file"}) {
      const Setting* secret = section_.find(key);
      if (secret == nullptr) continue;
      if (user == nullptr) wrong(*secret, "there is no user", "add user = \"NAME\"");
      if (key == "password-file" && section_.find("password") != nullptr)
        wrong(*secret, "there is a password already", "leave out one of them");
    }
  }

  /// What the URL does not say itself.
  void add_shared(Upstream& upstream) {
    if (upstream.interface.empty()) upstream.interface = interface_;
    if (upstream.mark == 0) upstream.mark = mark_;
    if (upstream.source) return;
    const auto& [ipv4, ipv6] = sources_;
    if (upstream.server) {
      upstream.source = upstream.server->family() == Family::ipv4 ? ipv4 : ipv6;
      if (!upstream.source) upstream.source = ipv4 ? ipv4 : ipv6;  // the other family, which is told as a mistake
    } else if (ipv4 && ipv6 && upstream.host.empty()) {
      wrong(*section_.find("source"), fmt::format("{}: it can have one source only", upstream.name),
            "write one server for each family: direct://?source=192.0.2.1&name=ipv4");
    } else {
      upstream.source = ipv4 ? ipv4 : ipv6;
    }
  }

  /// False where that is a mistake, told already.
  bool add_credentials(Upstream& upstream) {
    const Setting* user = section_.find("user");
    if (user == nullptr || user->values.size() != 1 || !upstream.credentials.user.empty() || !is_proxy(upstream.kind))
      return true;
    const Setting* password = section_.find("password");
    const Setting* file = section_.find("password-file");
    Credentials credentials{.user = user->values.front(), .password = {}};
    if (password != nullptr && password->values.size() == 1) credentials.password = password->values.front();
    used_credentials_ = true;
    const std::size_t before = errors_.size();
    note(*user, set_credentials(upstream, credentials));
    if (file != nullptr && file->values.size() == 1 && password == nullptr) {
      if (upstream.kind == UpstreamKind::socks4) wrong(*file, "SOCKS4 has no passwords", "leave it out");
      const std::filesystem::path path(file->values.front());
      const auto beside = std::filesystem::path(file->place.file).parent_path();
      upstream.password_file = path.is_absolute() ? path : beside / path;
    }
    return errors_.size() == before;
  }

  const GroupSettings& section_;
  UpstreamGroupOptions& options_;
  std::vector<Error> errors_;
  std::string interface_;
  std::uint32_t mark_ = 0;
  std::array<std::optional<IpAddress>, 2> sources_;  ///< IPv4, IPv6
  bool used_credentials_ = false;
};

}  // namespace

std::vector<Error> read_upstream_section(const GroupSettings& section, UpstreamGroupOptions& options) {
  return SectionReader(section, options).read();
}

std::vector<Error> check_upstream_sections(const std::vector<GroupSettings>& sections,
                                           const std::vector<UpstreamGroupOptions>& groups) {
  std::vector<Error> errors;
  for (const GroupSettings& section : sections) {
    if (section.name == "upstream" && std::ranges::count(groups, section.name, &UpstreamGroupOptions::name) > 1) {
      errors.push_back(usage_error(section.place.to_string(), "upstreams.upstream",
                                   "this is the name of the group that the setting upstream makes", "rename it")
                           .error());
    }
    const Setting* via = section.find("via");
    const auto group = std::ranges::find(groups, section.name, &UpstreamGroupOptions::name);
    if (via == nullptr || group == groups.end()) continue;
    if (auto checked = check_via(*group, groups); !checked)
      errors.push_back(usage_error(via->place.to_string(),
                                   fmt::format("upstreams.{}.via = {}", section.name, checked.error().object),
                                   checked.error().cause, checked.error().remedy)
                           .error());
  }
  return errors;
}

/// Folded: so short that it fits every 65,536th guess, because whoever may ask for the configuration sees it.
std::uint64_t fingerprint_of_secrets(const UpstreamGroupOptions& options) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a
  for (const Upstream& member : options.members) {
    for (const std::string* text : {&member.credentials.user, &member.credentials.password}) {
      for (const char c : *text + '\0') hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001b3ULL;
    }
  }
  return (hash ^ (hash >> 16U) ^ (hash >> 32U) ^ (hash >> 48U)) & 0xffffU;
}

GroupDescription describe_section(const GroupSettings& section, const UpstreamGroupOptions& options) {
  GroupDescription description{.settings = {}, .secrets = fingerprint_of_secrets(options)};
  for (const Setting& setting : section.settings) {
    if (setting.key == "password") continue;
    auto& values = description.settings[setting.key];
    for (const std::string& value : setting.values)
      values.push_back(setting.key == "servers" ? without_password(value) : value);
  }
  return description;
}

}  // namespace limpid
