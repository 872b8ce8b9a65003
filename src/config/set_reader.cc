// A list says by its first entry what it holds; a file is told by its key. Lines of files are as long as names can be, and are read one at a time.
#include "config/set_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <optional>
#include <string_view>

#include "config/toml_file.h"

namespace limpid {
namespace {

constexpr std::size_t kMostErrorsOfOneFile = 10;

bool is_set_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  return first == std::string_view::npos ? std::string_view()
                                         : text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

/// What one set is made of while it is read.
class Members {
 public:
  Status add_network(std::string_view text) {
    const auto prefix = Prefix::parse(text);
    if (!prefix) return std::unexpected(prefix.error());
    append_network(*prefix, ranges_);
    return {};
  }

  /// "example.com", "suffix: example.com".
  Status add_name(std::string_view text) {
    for (const DomainMatch match :
         {DomainMatch::exact, DomainMatch::suffix, DomainMatch::keyword, DomainMatch::regex}) {
      const auto key = to_string(match);
      if (text.starts_with(key) && text.substr(key.size()).starts_with(':'))
        return names_.add(match, trimmed(text.substr(key.size() + 1)));
    }
    return names_.add(DomainMatch::exact, text);
  }

  [[nodiscard]] std::shared_ptr<const RangeSet> networks() && {
    return std::make_shared<const RangeSet>(std::move(ranges_));
  }
  Result<std::shared_ptr<const DomainSet>> domains() && {
    auto set = std::move(names_).build();
    if (!set) return std::unexpected(set.error());
    return std::make_shared<const DomainSet>(std::move(*set));
  }

 private:
  std::vector<WideRange> ranges_;
  DomainSet::Builder names_;
};

class SetReader {
 public:
  SetReader(const std::filesystem::path& file, NamedSets& sets, std::vector<Error>& errors)
      : file_(file), sets_(sets), errors_(errors) {}

  void read(std::string_view name, const toml::node& node) {
    const std::string field = fmt::format("sets.{}", name);
    const auto wrong = [&](const toml::node& at, std::string_view cause, std::string_view remedy) {
      errors_.push_back(wrong_at(place_of(file_, at.source()), field, cause, remedy));
    };
    if (!is_set_name(name)) {
      sets_.unusable.emplace(name);
      return wrong(node, "a set's name has letters, digits, - and _", "rename it");
    }
    if (sets_.addresses.contains(name) || sets_.domains.contains(name) || sets_.unusable.contains(name))
      return wrong(node, "an earlier file has a set of this name", "rename one of them");
    const std::size_t before = errors_.size();
    read_members(name, field, node);
    if (errors_.size() != before) sets_.unusable.emplace(name);
  }

 private:
  void read_members(std::string_view name, const std::string& field, const toml::node& node) {
    if (const auto* list = node.as_array()) return read_list(name, field, *list);
    if (const auto* table = node.as_table()) {
      const auto networks = (*table)["networks"].value<std::string>();
      const auto domains = (*table)["domains"].value<std::string>();
      if (table->size() == 1 && (networks || domains))
        return read_file(name, field, networks ? *networks : *domains, networks.has_value(), node);
    }
    errors_.push_back(
        wrong_at(place_of(file_, node.source()), field, "neither a list nor a file",
                 R"(write ["10.0.0.0/8"], ["suffix: example.com"], { networks = "FILE" } or { domains = "FILE" })"));
  }

  void read_list(std::string_view name, const std::string& field, const toml::array& list) {
    Members members;
    std::optional<bool> holds_networks;
    bool failed = false;
    const auto wrong = [&](const toml::node& at, std::string_view cause, std::string_view remedy) {
      errors_.push_back(wrong_at(place_of(file_, at.source()), field, cause, remedy));
      failed = true;
    };
    if (list.empty()) return wrong(list, "it is empty", "leave it out, or name a network or a domain");
    for (const toml::node& node : list) {
      const auto* text = node.as_string();
      if (text == nullptr) {
        wrong(node, "a set holds texts", "write it in \"quotes\"");
        continue;
      }
      const std::string_view value = trimmed(text->get());
      if (!holds_networks) holds_networks = Prefix::parse(value) || value.contains('/');
      const auto added = *holds_networks ? members.add_network(value) : members.add_name(value);
      if (!added) wrong(node, fmt::format("'{}': {}", value, added.error().cause), added.error().remedy);
    }
    if (!failed) finish(name, field, std::move(members), *holds_networks, list);
  }

  void read_file(std::string_view name, const std::string& field, const std::filesystem::path& path, bool networks,
                 const toml::node& node) {
    const auto full = path.is_absolute() ? path : file_.parent_path() / path;
    std::error_code code;
    errno = 0;
    std::ifstream file(full, std::ios::binary);
    if (!file || std::filesystem::is_directory(full, code)) {
      const Error cause = system_error(file ? EISDIR : errno, "read", full.string()).error();
      errors_.push_back(wrong_at(place_of(file_, node.source()), field, cause.message(), ""));
      return;
    }
    Members members;
    std::size_t number = 0;
    std::size_t wrong_lines = 0;
    for (std::string line; std::getline(file, line);) {
      ++number;
      const std::string_view value = trimmed(std::string_view(line).substr(0, line.find('#')));
      if (value.empty()) continue;
      const auto added = networks ? members.add_network(value) : members.add_name(value);
      if (added) continue;
      if (++wrong_lines <= kMostErrorsOfOneFile)
        errors_.push_back(wrong_at({.file = full.string(), .line = number}, field,
                                   fmt::format("'{}': {}", value.substr(0, 100), added.error().cause),
                                   added.error().remedy));
    }
    if (wrong_lines > kMostErrorsOfOneFile)
      errors_.push_back(wrong_at({.file = full.string()}, field,
                                 fmt::format("{} more lines are wrong", wrong_lines - kMostErrorsOfOneFile), ""));
    if (wrong_lines == 0) finish(name, field, std::move(members), networks, node);
  }

  void finish(std::string_view name, const std::string& field, Members members, bool networks, const toml::node& node) {
    if (networks) {
      sets_.addresses.emplace(name, std::move(members).networks());
      return;
    }
    auto set = std::move(members).domains();
    if (set) {
      sets_.domains.emplace(name, std::move(*set));
    } else {
      errors_.push_back(wrong_at(place_of(file_, node.source()), field, set.error().cause, set.error().remedy));
    }
  }

  const std::filesystem::path& file_;
  NamedSets& sets_;
  std::vector<Error>& errors_;
};

}  // namespace

void read_sets(const std::filesystem::path& file, const toml::table& table, NamedSets& sets,
               std::vector<Error>& errors) {
  SetReader reader(file, sets, errors);
  for (const auto& [key, node] : table) reader.read(key.str(), node);
}

}  // namespace limpid
