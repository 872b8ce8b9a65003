// Cut-through of a build without clang, bpftool or libbpf: nothing is found, nothing is opened, and open() says why.
#include <cstdlib>

#include "cutthrough/cut_through.h"

namespace limpid {
namespace {

std::unexpected<Error> not_built_in() {
  return unsupported("use", "cut-through", "it is not in this build, which was made without clang, bpftool or libbpf",
                     "install clang, bpftool and libbpf-dev and build again");
}

}  // namespace

struct CutThrough::Kernel {};

CutThrough::CutThrough(std::unique_ptr<Kernel> kernel) : kernel_(std::move(kernel)) {}
CutThrough::~CutThrough() = default;

Result<std::unique_ptr<CutThrough>> CutThrough::open(const CutThroughOptions& /*options*/) {
  return not_built_in();
}
Result<CutThroughId> CutThrough::begin(const CutThroughFlow& /*flow*/) {
  return not_built_in();
}
Status CutThrough::settle(CutThroughId /*id*/, CutThroughFins /*fins*/) {
  return not_built_in();
}
Status CutThrough::release(CutThroughId /*id*/) {
  return not_built_in();
}
Status CutThrough::end(CutThroughId /*id*/, bool /*leaves_record*/) {
  return not_built_in();
}
Result<CutThroughState> CutThrough::look(CutThroughId /*id*/) const {
  return not_built_in();
}
bool CutThrough::taken(const SocketAddress& /*source*/, const SocketAddress& /*destination*/) const {
  return false;
}
std::vector<CutThroughRecord> CutThrough::list() const {
  return {};
}
Status CutThrough::collect(const std::function<void(const CutThroughRecord&)>& /*sink*/) {
  return {};
}
std::uint64_t CutThrough::flows() const noexcept {
  return 0;
}
Result<std::vector<std::string>> CutThrough::on_link_change() {
  return std::vector<std::string>{};
}
Result<std::vector<std::pair<std::string, std::uint64_t>>> CutThrough::counters() const {
  return std::vector<std::pair<std::string, std::uint64_t>>{};
}
Status CutThrough::close(const std::function<void(const CutThroughRecord&)>& /*sink*/) {
  return {};
}

// Never made: there is no CutThrough that could have one.
CutDatagrams& CutThrough::datagrams() noexcept {
  std::abort();
}
Status CutDatagrams::begin(const CutThroughSession& /*session*/) {
  return not_built_in();
}
std::optional<CutThroughTraffic> CutDatagrams::look(const SocketAddress& /*client*/,
                                                    const SocketAddress& /*original_destination*/) const {
  return std::nullopt;
}
void CutDatagrams::add(const SocketAddress& /*client*/, const SocketAddress& /*original_destination*/,
                       std::uint64_t /*bytes_up*/, std::uint64_t /*bytes_down*/) {}
std::optional<CutThroughTraffic> CutDatagrams::end(const SocketAddress& /*client*/,
                                                   const SocketAddress& /*original_destination*/) {
  return std::nullopt;
}
std::vector<CutThroughSessionRecord> CutDatagrams::list() const {
  return {};
}
bool CutDatagrams::expire(const SocketAddress& /*client*/, const SocketAddress& /*original_destination*/) {
  return false;
}
bool CutDatagrams::taken(const SocketAddress& /*source*/, const SocketAddress& /*destination*/) const {
  return false;
}
void CutDatagrams::collect(const Sink& /*sink*/) {}
void CutDatagrams::end_if(const std::function<bool(const CutThroughSessionRecord&)>& /*wanted*/, const Sink& /*sink*/) {
}
void CutDatagrams::close(const Sink& /*sink*/) {}

Result<std::vector<std::string>> find_cut_through() {
  return std::vector<std::string>{};
}
Result<bool> remove_cut_through(const std::string& /*name*/) {
  return false;
}

}  // namespace limpid
