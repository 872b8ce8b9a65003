// What a configuration makes the process that relays keep: docs/privileges.md has the same table.
#include "service/relay_rights.h"

#include <gtest/gtest.h>
#include <linux/capability.h>

#include <algorithm>

namespace limpid {
namespace {

using Capabilities = std::vector<unsigned>;

Capabilities kept(const ServiceOptions& options, const RelaySurroundings& surroundings = {}) {
  auto capabilities = choose_relay_rights(options, surroundings).capabilities;
  std::ranges::sort(capabilities);
  return capabilities;
}

ServiceOptions plain() {
  ServiceOptions options;
  options.interception.scope.tcp = *PortSet::parse("80");
  return options;
}

TEST(RelayRights, tcp_takes_one) {
  EXPECT_EQ(kept(plain()), (Capabilities{CAP_NET_RAW}));
  EXPECT_FALSE(choose_relay_rights(plain(), {}).keeps_user);
}

TEST(RelayRights, clients_ports_take_the_right_to_bind_them) {
  auto options = plain();
  options.source = SourceMode::address_and_port;
  EXPECT_EQ(kept(options), (Capabilities{CAP_NET_BIND_SERVICE, CAP_NET_RAW}));
  options = plain();
  options.load = [] { return std::unexpected(std::vector<Error>{}); };
  EXPECT_EQ(kept(options), (Capabilities{CAP_NET_BIND_SERVICE, CAP_NET_RAW})) << "rules may ask for them";
}

TEST(RelayRights, what_the_surroundings_ask_for) {
  EXPECT_EQ(kept(plain(), {.raw_may_mark = false}), (Capabilities{CAP_NET_ADMIN, CAP_NET_RAW}));
  EXPECT_EQ(kept(plain(), {.reads_settings = false}), (Capabilities{CAP_DAC_READ_SEARCH, CAP_NET_RAW}));
  EXPECT_EQ(kept(plain(), {.handles_programs = true}),
            (Capabilities{CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF}));
  EXPECT_TRUE(choose_relay_rights(plain(), {.handles_programs = true}).keeps_user);
}

}  // namespace
}  // namespace limpid
