// The eBPF backend of a build without clang, bpftool or libbpf: nothing is found, nothing is installed, and each says why.
#include <utility>

#include "intercept/ebpf.h"

namespace limpid {
namespace {

std::unexpected<Error> not_built_in() {
  return unsupported("use", "--backend ebpf",
                     "it is not in this build, which was made without clang, bpftool or libbpf",
                     "install clang, bpftool and libbpf-dev and build again, or take another backend");
}

}  // namespace

Status require_ebpf_built_in() {
  return not_built_in();
}

std::string EbpfInstallation::to_string() const {
  return {};
}
Result<std::vector<EbpfInstallation>> find_ebpf() {
  return std::vector<EbpfInstallation>{};
}
std::vector<LinkInfo> links_for_programs(const std::vector<LinkInfo>& /*links*/, bool /*with_loopback*/) {
  return {};
}
Result<std::optional<std::string>> find_missing_ebpf_feature() {
  return std::optional(not_built_in().error().cause);
}
bool ebpf_takes_reuseport() {
  return true;
}
bool has_bpf_file_system() {
  return false;
}
Status check_ebpf(const Plan& /*plan*/) {
  return not_built_in();
}
Status install_ebpf(const Plan& /*plan*/) {
  return not_built_in();
}
Status drain_ebpf(const Plan& /*plan*/) {
  return not_built_in();
}
Status remove_ebpf(const EbpfInstallation& /*installation*/) {
  return {};
}
Result<std::vector<std::string>> follow_links(const Plan& /*plan*/) {
  return std::vector<std::string>{};
}
Result<std::string> planned_ebpf_listing(const Plan& /*plan*/) {
  return not_built_in();
}
Result<std::string> live_ebpf_listing(const Plan& /*plan*/) {
  return std::string();
}
Result<EbpfListings> settled_ebpf_listings(const Plan& /*plan*/) {
  return not_built_in();
}
Result<std::optional<int>> ask_ebpf(const EbpfInstallation& /*installation*/, const EbpfQuestion& /*question*/) {
  return not_built_in();
}
Result<std::map<std::string, std::uint64_t>> ebpf_counters(const std::string& /*name*/) {
  return std::map<std::string, std::uint64_t>{};
}
std::string_view decision_name(int /*decision*/) {
  return {};
}

}  // namespace limpid
