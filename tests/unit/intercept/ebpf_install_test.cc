// The eBPF backend where programs of another version are attached: they are found, replaced in place, and removed with what belongs to them.
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "intercept/ebpf.h"
#include "tests/kernel/testbed.h"

namespace limpid {
namespace {

using testbed::must;

/// By tcx and by clsact: nobody else in this process looks at the variable.
class EbpfInstall : public testing::TestWithParam<AttachMode> {
 protected:
  void SetUp() override {
    if (auto built = require_ebpf_built_in(); !built) GTEST_SKIP() << built.error().message();
    if (::geteuid() != 0) GTEST_SKIP() << "needs root, to make a network namespace and load programs";
    if (GetParam() == AttachMode::tcx && !has_tcx()) GTEST_SKIP() << "this kernel has no tcx (Linux 6.6)";
    ASSERT_TRUE(host_.exists()) << host_.error();
    if (GetParam() == AttachMode::clsact) ::setenv("LIMPID_EBPF_ATTACH", "clsact", 1);
    host_.run([&] {
      auto socket = must(RouteSocket::open(), "rtnetlink");
      must(socket.add_veth("lan", "peer", host_.descriptor()), "veth");
    });
    inputs_.scope.tcp = *PortSet::parse("80");
    inputs_.ownership.name = "limpid";
    inputs_.ownership.backend = Backend::ebpf;
    inputs_.ownership.mark = *MarkField::from({.value = 0x1000000, .mask = 0x3000000});
    inputs_.ownership.table = TableId{7676};
    inputs_.ownership.priority = RulePriority{100};
    inputs_.ownership.listener = Port{1080};
  }
  void TearDown() override { ::unsetenv("LIMPID_EBPF_ATTACH"); }

  void install() const {
    host_.run([&] { must(install_ebpf(make_plan(inputs_)), "install"); });
  }
  [[nodiscard]] std::vector<EbpfInstallation> found() const {
    return host_.run([&] { return must(find_ebpf(), "find"); });
  }
  /// As another version of Limpid would have written it.
  void write_other_version() const {
    host_.run([&] {
      const auto installed = must(find_ebpf(), "find");
      auto programs = EbpfPrograms::find(installed.at(0).attachments.at(0).program);
      ASSERT_TRUE(programs);
      limpid_owner owner = must(programs->owner(), "owner");
      owner.version = LIMPID_BPF_VERSION + 1;
      const auto objects = programs->objects();
      const auto map = std::ranges::find(objects, "owner", &std::pair<int, std::string>::second);
      const std::uint32_t zero = 0;
      ASSERT_EQ(bpf_map_update_elem(map->first, &zero, &owner, BPF_ANY), 0);
    });
  }
  [[nodiscard]] std::string qdiscs() const { return host_.command("iproute2", {"tc", "qdisc", "show"}); }

  testbed::Namespace host_;
  PlanInputs inputs_;
};

TEST_P(EbpfInstall, another_version_is_replaced_in_place) {
  install();
  const auto before = found();
  ASSERT_EQ(before.size(), 1U);
  ASSERT_TRUE(before[0].policy);
  write_other_version();
  const auto other = found();
  ASSERT_EQ(other.size(), 1U);
  EXPECT_EQ(other[0].version, LIMPID_BPF_VERSION + 1U);
  EXPECT_FALSE(other[0].policy) << "its maps mean something else";
  install();
  const auto after = found();
  ASSERT_EQ(after.size(), 1U) << "one in place of the other";
  EXPECT_EQ(after[0].version, LIMPID_BPF_VERSION + 0U);
  ASSERT_TRUE(after[0].policy);
  ASSERT_EQ(after[0].attachments.size(), before[0].attachments.size());
  for (std::size_t i = 0; i < after[0].attachments.size(); ++i) {
    EXPECT_EQ(after[0].attachments[i].link, before[0].attachments[i].link);
    EXPECT_NE(after[0].attachments[i].program, before[0].attachments[i].program);
  }
  install();
  EXPECT_EQ(found().at(0).attachments, after[0].attachments) << "of the same version, only maps are rewritten";
}

TEST_P(EbpfInstall, another_version_is_removed_with_its_qdiscs) {
  const std::string before = qdiscs();
  install();
  write_other_version();
  host_.run([&] { must(remove_ebpf(must(find_ebpf(), "find").at(0)), "remove"); });
  EXPECT_TRUE(found().empty());
  EXPECT_EQ(qdiscs(), before);
}

TEST_P(EbpfInstall, qdiscs_of_another_version_go_after_it_was_replaced) {
  const std::string before = qdiscs();
  install();
  write_other_version();
  install();
  host_.run([&] { must(remove_ebpf(must(find_ebpf(), "find").at(0)), "remove"); });
  EXPECT_EQ(qdiscs(), before);
}

INSTANTIATE_TEST_SUITE_P(Both, EbpfInstall, testing::Values(AttachMode::tcx, AttachMode::clsact),
                         [](const auto& mode) { return std::string(to_string(mode.param)); });

}  // namespace
}  // namespace limpid
