// Patterns form trees (an interface or a MAC address is below nothing, a cgroup below its parent, a program's path below its file name), which is what
// makes intersections exact.
#include "policy/client_set.h"

#include <algorithm>
#include <utility>

namespace limpid {
namespace {

bool is_same(std::string_view narrow, std::string_view wide) noexcept {
  return narrow == wide;
}

bool is_cgroup_below(std::string_view narrow, std::string_view wide) noexcept {
  return wide == "/" || (narrow.starts_with(wide) && (narrow.size() == wide.size() || narrow[wide.size()] == '/'));
}

bool is_program_named(std::string_view narrow, std::string_view wide) noexcept {
  return narrow == wide || narrow.substr(narrow.find_last_of('/') + 1) == wide;
}

struct ClientsOfTest {
  bool negated;
  ClientSet operator()(const InterfaceIn& test) const {
    ClientSet set;
    set.interfaces = PatternSet(test.names, negated, is_same);
    return set;
  }
  ClientSet operator()(const DscpIn& test) const {
    ClientSet set;
    set.dscp = negated ? ~test.values : test.values;
    return set;
  }
  ClientSet operator()(const MacIn& test) const {
    std::vector<std::string> addresses;
    addresses.reserve(test.addresses.size());
    for (const MacAddress& address : test.addresses) addresses.push_back(to_string(address));
    ClientSet set;
    set.hardware = PatternSet(std::move(addresses), negated, is_same);
    return set;
  }
  ClientSet operator()(const UserIn& test) const {
    ClientSet set;
    set.users = negated ? test.users.complement(ClientSet::kNobody) : test.users;
    return set;
  }
  ClientSet operator()(const CgroupIn& test) const {
    ClientSet set;
    set.cgroups = PatternSet(test.paths, negated, is_cgroup_below);
    return set;
  }
  ClientSet operator()(const GroupIn& test) const {
    ClientSet set;
    set.groups = negated ? test.groups.complement(ClientSet::kNobody) : test.groups;
    return set;
  }
  ClientSet operator()(const ProcessIn& test) const {
    ClientSet set;
    set.programs = PatternSet(test.programs, negated, is_program_named);
    return set;
  }
};

}  // namespace

PatternSet::PatternSet(std::vector<std::string> patterns, bool negated, Within within) : within_(within) {
  if (negated) {
    excluded_ = std::move(patterns);
  } else {
    some_ = std::move(patterns);
  }
}

bool PatternSet::is_excluded(std::string_view pattern) const noexcept {
  return std::ranges::any_of(excluded_, [&](const std::string& wide) { return within_(pattern, wide); });
}

void PatternSet::drop_excluded() {
  if (some_) std::erase_if(*some_, [this](const std::string& pattern) { return is_excluded(pattern); });
}

bool PatternSet::covers(const PatternSet& other) const noexcept {
  if (within_ == nullptr || other.empty()) return true;
  if (other.within_ == nullptr) return false;
  if (some_) {
    if (!other.some_) return false;
    for (const std::string& narrow : *other.some_) {
      if (std::ranges::none_of(*some_, [&](const std::string& wide) { return within_(narrow, wide); })) return false;
    }
  }
  return std::ranges::all_of(excluded_, [&](const std::string& out) {
    if (other.is_excluded(out)) return true;
    return other.some_ && std::ranges::none_of(*other.some_, [&](const std::string& pattern) {
             return within_(pattern, out) || within_(out, pattern);
           });
  });
}

PatternSet PatternSet::intersected(const PatternSet& other) const {
  if (within_ == nullptr) return other;
  PatternSet both = *this;
  both.excluded_.insert(both.excluded_.end(), other.excluded_.begin(), other.excluded_.end());
  if (!some_) {
    both.some_ = other.some_;
  } else if (other.some_) {
    both.some_->clear();
    for (const std::string& mine : *some_) {
      for (const std::string& theirs : *other.some_) {
        if (within_(mine, theirs)) {
          both.some_->push_back(mine);
        } else if (within_(theirs, mine)) {
          both.some_->push_back(theirs);
        }
      }
    }
  }
  both.drop_excluded();
  return both;
}

bool ClientSet::empty() const noexcept {
  return interfaces.empty() || dscp == 0 || hardware.empty() || users.empty() || cgroups.empty() || groups.empty() ||
         programs.empty();
}

bool ClientSet::covers(const ClientSet& other) const noexcept {
  return interfaces.covers(other.interfaces) && (other.dscp & ~dscp) == 0 && hardware.covers(other.hardware) &&
         users.covers(other.users) && cgroups.covers(other.cgroups) && groups.covers(other.groups) &&
         programs.covers(other.programs);
}

ClientSet ClientSet::intersected(const ClientSet& other) const {
  ClientSet both;
  both.interfaces = interfaces.intersected(other.interfaces);
  both.dscp = dscp & other.dscp;
  both.hardware = hardware.intersected(other.hardware);
  both.users = users.intersected(other.users);
  both.cgroups = cgroups.intersected(other.cgroups);
  both.groups = groups.intersected(other.groups);
  both.programs = programs.intersected(other.programs);
  return both;
}

ClientSet clients_of(const ClientTest& test, bool negated) {
  return std::visit(ClientsOfTest{negated}, test);
}

}  // namespace limpid
