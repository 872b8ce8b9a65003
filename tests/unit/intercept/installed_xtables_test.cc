// What is read back of iptables rules is what they were made from: each golden plan as it is written, and as either variant lists it after it
// has been loaded in a namespace of its own.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "intercept/installed_scope.h"
#include "intercept/plan.h"
#include "intercept/table_writer.h"
#include "intercept/xtables.h"
#include "tests/kernel/testbed.h"

namespace limpid {
namespace {

struct Block {
  Family family = Family::ipv4;
  std::string text;
};

/// What the here-documents of a golden file load, until it undoes it.
std::vector<Block> blocks_of(const std::string& name) {
  std::ifstream file(std::string(LIMPID_TESTS_DIR) + "/golden/" + name);
  EXPECT_TRUE(file.is_open()) << name;
  std::vector<Block> blocks;
  bool inside = false;
  for (std::string line; std::getline(file, line) && line != "# Removal";) {
    if (line.ends_with("<<'END'")) {
      blocks.push_back({.family = line.starts_with("ip6") ? Family::ipv6 : Family::ipv4, .text = {}});
      inside = true;
    } else if (line == "END") {
      inside = false;
    } else if (inside) {
      blocks.back().text += line + '\n';
    }
  }
  return blocks;
}

/// A listing of what such a block loads: its jumps are inserted, and are listed like every rule.
std::string as_listing(std::string text) {
  std::istringstream lines(text);
  std::string listing;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("-I ")) line = "-A " + line.substr(3, line.find(' ', 3) - 3) + line.substr(line.find(" -j "));
    listing += line + '\n';
  }
  return listing;
}

/// The kernel takes rules only for control groups that there are; which programs are meant is not read back.
std::string without_cgroups(const std::string& text) {
  std::istringstream lines(text);
  std::string rest;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("-m cgroup") == std::string::npos) rest += line + '\n';
  }
  return rest;
}

Prefix network(std::string_view text) {
  return Prefix::parse(text).value();
}

struct Golden {
  std::string file;
  PlanInputs inputs;
};

/// As tests/golden/plan_golden_test.cc makes them.
std::vector<Golden> goldens() {
  std::vector<Golden> all;
  PlanInputs basic;
  basic.ownership = {.name = "limpid",
                     .keeper = Keeper::process,
                     .mark = {.mask = 0x03000000, .intercept = 0x01000000, .bypass = 0x02000000},
                     .table = {7676},
                     .priority = {100},
                     .listener = {1080},
                     .sysctls = {}};
  basic.ownership.heartbeat = true;
  basic.scope.tcp = *PortSet::parse("80,443,8000-8100");
  const auto add = [&](std::string file, const std::function<void(PlanInputs&)>& change) {
    all.push_back({.file = std::move(file), .inputs = basic});
    change(all.back().inputs);
  };
  add("iptables_fail_open.txt", [](PlanInputs& i) { i.scope.udp = *PortSet::parse("53"); });
  add("iptables_fail_closed.txt", [](PlanInputs& i) {
    i.scope.udp = *PortSet::parse("53");
    i.fail = FailMode::closed;
  });
  add("iptables_for_another_proxy.txt", [](PlanInputs& i) {
    i.scope.udp = *PortSet::parse("53");
    i.fail = FailMode::closed;
    i.ownership.keeper = Keeper::permanent;
    i.ownership.heartbeat = false;
  });
  add("iptables_every_kind_of_scope.txt", [](PlanInputs& i) {
    i.ownership.name = "guests_of_the_in";
    i.scope.tcp = *PortSet::parse("1,3,5,7,9,11,13,15,17,19,21,23,25,27,100-200,300-400");
    i.scope.from_interfaces = {"eth0.100", "lan", "wg0"};
    i.scope.from_prefixes = {network("10.0.0.0/8"), network("2001:db8:1::/48")};
    i.scope.to_prefixes = {network("198.51.100.0/24"), network("2001:db8::/32")};
    i.scope.excluded = {network("198.51.100.1"), network("2001:db8::1")};
  });
  const auto local = [](PlanInputs& i) {
    i.scope.udp = *PortSet::parse("53,5000-5010");
    i.scope.local = LocalScope{};
    i.ownership.local = true;
  };
  add("iptables_local_only.txt", [&](PlanInputs& i) {
    local(i);
    i.scope.forwarded = false;
  });
  add("iptables_local_programs.txt", [&](PlanInputs& i) {
    local(i);
    i.scope.ipv6 = false;
    i.fail = FailMode::closed;
    i.scope.to_prefixes = {network("198.51.100.0/24")};
  });
  const auto add_kept = [&](std::string file, bool tcp, bool udp) {
    add(std::move(file), [&](PlanInputs& i) {
      i.scope.udp = *PortSet::parse("53,443");
      i.keeps_source_port = tcp;
      i.ownership.keeps_udp_port = udp;
    });
  };
  add_kept("iptables_keeps_source_port.txt", true, false);
  add_kept("iptables_keeps_both_ports.txt", true, true);
  add_kept("iptables_keeps_udp_port.txt", false, true);
  return all;
}

void expect_same(const InstalledScope& read, const PlanInputs& made) {
  EXPECT_EQ(read.scope.tcp, made.scope.tcp);
  EXPECT_EQ(read.scope.udp, made.scope.udp);
  EXPECT_EQ(read.scope.from_interfaces, made.scope.from_interfaces);
  EXPECT_EQ(read.scope.from_prefixes, made.scope.from_prefixes);
  EXPECT_EQ(read.scope.to_prefixes, made.scope.to_prefixes);
  EXPECT_EQ(read.scope.excluded, made.scope.excluded);
  EXPECT_EQ(read.scope.ipv4, made.scope.ipv4);
  EXPECT_EQ(read.scope.ipv6, made.scope.ipv6);
  EXPECT_EQ(read.scope.forwarded, made.scope.forwarded);
  EXPECT_EQ(read.scope.local.has_value(), made.scope.local.has_value());
  EXPECT_EQ(read.fail, made.fail);
  EXPECT_EQ(read.keeps_tcp_port, made.keeps_source_port);
  EXPECT_TRUE(read.complete && !read.draining);
  EXPECT_EQ(read.missing, std::vector<std::string>{});
}

std::vector<XtablesPiece> pieces_of(const std::vector<Block>& blocks) {
  std::vector<XtablesPiece> all;
  for (const Block& block : blocks)
    std::ranges::move(parse_xtables(as_listing(block.text), Backend::iptables_nft, block.family),
                      std::back_inserter(all));
  return all;
}

TEST(InstalledXtables, every_golden_plan_says_what_it_was_made_from) {
  for (Golden& golden : goldens()) {
    SCOPED_TRACE(golden.file);
    golden.inputs.ownership.backend = Backend::iptables_nft;
    expect_same(read_installed_scope(pieces_of(blocks_of(golden.file)), golden.inputs.ownership), golden.inputs);
  }
}

class InstalledXtablesTest : public testbed::NamespaceTest, public testing::WithParamInterface<Backend> {};

TEST_P(InstalledXtablesTest, every_golden_plan_comes_back_from_the_kernel) {
  for (Golden& golden : goldens()) {
    SCOPED_TRACE(golden.file);
    golden.inputs.ownership.backend = GetParam();
    const testbed::Namespace where;
    where.run([&] {
      const auto lacks = testbed::must(find_missing_xtables_feature(GetParam(), golden.inputs.scope), "features");
      if (lacks) GTEST_SKIP() << *lacks;
      for (const Block& block : blocks_of(golden.file)) {
        const auto fed = feed_xtables(GetParam(), block.family, without_cgroups(block.text), golden.file);
        ASSERT_TRUE(fed) << fed.error().message();
      }
      expect_same(read_installed_scope(testbed::must(find_xtables(), "list"), golden.inputs.ownership), golden.inputs);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, InstalledXtablesTest,
                         testing::Values(Backend::iptables_nft, Backend::iptables_legacy), [](const auto& variant) {
                           return std::string(variant.param == Backend::iptables_nft ? "nft" : "legacy");
                         });

TEST(InstalledXtables, knows_what_is_prepared_for_a_drain) {
  for (const FailMode fail : {FailMode::open, FailMode::closed}) {
    for (Golden& golden : goldens()) {
      if (golden.inputs.ownership.keeper == Keeper::permanent) continue;
      SCOPED_TRACE(golden.file);
      golden.inputs.fail = fail;
      golden.inputs.ownership.backend = Backend::iptables_nft;
      const Plan plan = make_plan(golden.inputs);
      std::vector<XtablesPiece> pieces;
      for (const XtablesRuleset& rules : plan.xtables) {
        std::ranges::move(parse_xtables(as_listing(render_restore(rules)), Backend::iptables_nft, rules.family),
                          std::back_inserter(pieces));
      }
      for (const XtablesRuleset& rules : draining_xtables(plan)) {
        for (const XtablesTable& table : rules.tables) {
          const auto piece = std::ranges::find_if(
              pieces, [&](const XtablesPiece& p) { return p.family == rules.family && p.table == table.name; });
          ASSERT_NE(piece, pieces.end());
          // Naming a chain empties it.
          for (const std::string& chain : table.chains)
            std::erase_if(piece->rules, [&](const std::string& rule) { return rule.starts_with("-A " + chain + ' '); });
          for (const std::string& rule : table.rules) piece->rules.push_back("-A " + rule);
        }
      }
      const InstalledScope read = read_installed_scope(pieces, golden.inputs.ownership);
      EXPECT_TRUE(read.draining);
      EXPECT_EQ(read.missing, std::vector<std::string>{});
      EXPECT_EQ(read.fail, fail);
    }
  }
}

TEST(InstalledXtables, names_what_is_gone) {
  for (Golden& golden : goldens()) {
    golden.inputs.ownership.backend = Backend::iptables_nft;
    const auto whole = pieces_of(blocks_of(golden.file));
    for (std::size_t i = 0; i < whole.size(); ++i) {
      for (std::size_t j = 0; j < whole[i].jumps.size(); ++j) {
        auto pieces = whole;
        pieces[i].jumps.erase(pieces[i].jumps.begin() + static_cast<std::ptrdiff_t>(j));
        EXPECT_EQ(read_installed_scope(pieces, golden.inputs.ownership).missing.size(), 1U)
            << golden.file << ": " << whole[i].jumps[j];
      }
      for (std::size_t j = 0; j < whole[i].rules.size(); ++j) {
        const std::string& rule = whole[i].rules[j];
        if (rule.find("--dport") == std::string::npos && rule.find("-j TPROXY") == std::string::npos) continue;
        if (rule.find("-p udp --dport 32768") != std::string::npos) continue;  // not of the scope
        auto pieces = whole;
        pieces[i].rules.erase(pieces[i].rules.begin() + static_cast<std::ptrdiff_t>(j));
        const bool one_family = !golden.inputs.scope.ipv6;
        const InstalledScope read = read_installed_scope(pieces, golden.inputs.ownership);
        EXPECT_TRUE(one_family || !read.missing.empty()) << golden.file << ": " << rule;
      }
    }
  }
}

TEST(InstalledXtables, knows_what_a_proxy_has_beside_a_scope) {
  for (const bool guards : {true, false}) {
    PlanInputs made = goldens().front().inputs;
    made.ownership.backend = Backend::iptables_nft;
    made.guards_listener = guards;
    made.needs_conntrack = !guards;
    std::vector<Block> blocks;
    for (const XtablesRuleset& rules : make_plan(made).xtables)
      blocks.push_back({.family = rules.family, .text = render_restore(rules)});
    const InstalledScope read = read_installed_scope(pieces_of(blocks), made.ownership);
    EXPECT_FALSE(read.complete);
    EXPECT_EQ(read.missing, std::vector<std::string>{});
  }
}

TEST(InstalledXtables, survives_what_is_no_rule) {
  XtablesPiece piece{
      .backend = Backend::iptables_nft,
      .table = "mangle",
      .name = "limpid",
      .chains = {"", "-", "limpid-"},
      .rules = {"", "-A", "-A limpid-pre -p", "-A limpid-pre --dport x -g limpid-dst", "-A limpid-dst -d y -g -"},
      .jumps = {""},
      .ownership = std::nullopt};
  const InstalledScope read = read_installed_scope({piece}, goldens().front().inputs.ownership);
  EXPECT_TRUE(read.scope.tcp.empty());
}

}  // namespace
}  // namespace limpid
