// Walks the search tree of a MaxMind DB (https://maxmind.github.io/MaxMind-DB/): every leaf is a network, and names a place by its data. A damaged file is an error, and
// takes no longer than a sound one: no node is visited twice.
#include "config/place_database.h"

#include <maxminddb.h>

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

namespace limpid {
namespace {

constexpr unsigned kAddressBits = 128;
constexpr unsigned kIpv4Bits = 32;
/// Where IPv4 begins in a tree of IPv6, and where it is in a Wide.
constexpr unsigned kIpv4Depth = kAddressBits - kIpv4Bits;
constexpr Wide kIpv4Mapped = Wide{0xffff} << kIpv4Bits;
constexpr std::size_t kMostNodes = std::size_t{1} << 26U;  // of the format's largest there are not as many

class Database {
 public:
  Database() = default;
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  Database(Database&&) = delete;
  Database& operator=(Database&&) = delete;
  ~Database() {
    if (open_) MMDB_close(&file_);
  }
  int open(const std::filesystem::path& path) {
    const int code = MMDB_open(path.c_str(), MMDB_MODE_MMAP, &file_);
    open_ = code == MMDB_SUCCESS;
    return code;
  }
  [[nodiscard]] const MMDB_s& file() const noexcept { return file_; }

 private:
  MMDB_s file_{};
  bool open_ = false;
};

std::string text_of(const MMDB_entry_data_s& data) {
  if (!data.has_data || data.type != MMDB_DATA_TYPE_UTF8_STRING) return {};
  return {data.utf8_string, data.data_size};
}

std::string number_of(const MMDB_entry_data_s& data) {
  if (!data.has_data) return {};
  switch (data.type) {
    case MMDB_DATA_TYPE_UINT16: return std::to_string(data.uint16);
    case MMDB_DATA_TYPE_UINT32: return std::to_string(data.uint32);
    case MMDB_DATA_TYPE_UINT64: return std::to_string(data.uint64);
    default: return {};
  }
}

/// Empty: it does not say.
std::string place_of(MMDB_entry_s entry, PlaceKind kind) {
  MMDB_entry_data_s data{};
  if (kind == PlaceKind::autonomous_system) {
    const int code = MMDB_get_value(&entry, &data, "autonomous_system_number", nullptr);
    return code == MMDB_SUCCESS ? number_of(data) : std::string();
  }
  // Where nobody is said to be, for example in a satellite's network, the registration tells.
  for (const char* key : {"country", "registered_country"}) {
    if (MMDB_get_value(&entry, &data, key, "iso_code", nullptr) != MMDB_SUCCESS) continue;
    if (auto code = text_of(data); code.size() == 2) return code;
  }
  return {};
}

class Walk {
 public:
  Walk(const MMDB_s& file, PlaceKind kind) : file_(file), kind_(kind) {}

  /// False: the file is damaged.
  bool run() {
    if (file_.metadata.node_count > kMostNodes) return false;
    waiting_.push_back({.node = 0, .depth = file_.metadata.ip_version == 4 ? kIpv4Depth : 0, .prefix = 0});
    std::size_t visited = 0;
    while (!waiting_.empty()) {
      const Step step = waiting_.back();
      waiting_.pop_back();
      MMDB_search_node_s node{};
      if (++visited > file_.metadata.node_count || MMDB_read_node(&file_, step.node, &node) != MMDB_SUCCESS)
        return false;
      if (!follow(step, 0, node.left_record_type, node.left_record, node.left_record_entry)) return false;
      if (!follow(step, 1, node.right_record_type, node.right_record, node.right_record_entry)) return false;
    }
    return true;
  }

  PlaceNetworks result() && {
    PlaceNetworks networks;
    for (auto& [place, ranges] : ranges_) networks.emplace(place, std::make_shared<const RangeSet>(std::move(ranges)));
    return networks;
  }

 private:
  struct Step {
    std::uint32_t node;
    unsigned depth;
    Wide prefix;
  };

  bool follow(const Step& from, unsigned bit, std::uint8_t type, std::uint64_t record, const MMDB_entry_s& entry) {
    if (type == MMDB_RECORD_TYPE_EMPTY) return true;
    const unsigned depth = from.depth + 1;
    if (type == MMDB_RECORD_TYPE_INVALID || depth > kAddressBits) return false;
    const Wide prefix = from.prefix | (Wide{bit} << (kAddressBits - depth));
    if (type == MMDB_RECORD_TYPE_DATA) {
      add(prefix, depth, entry);
      return true;
    }
    // The subtree of IPv4 is hung up several times in a tree of IPv6 (::ffff:0:0/96, 2002::/16, …): it counts once, at ::/96.
    const bool alias = file_.metadata.ip_version == 6 && record == file_.ipv4_start_node.node_value && prefix != 0;
    if (!alias && depth < kAddressBits)
      waiting_.push_back({.node = static_cast<std::uint32_t>(record), .depth = depth, .prefix = prefix});
    return alias || depth < kAddressBits;
  }

  void add(Wide prefix, unsigned depth, const MMDB_entry_s& entry) {
    auto known = places_.find(entry.offset);
    if (known == places_.end()) known = places_.emplace(entry.offset, place_of(entry, kind_)).first;
    if (known->second.empty()) return;
    const Wide hosts = depth == kAddressBits ? Wide{0} : (Wide{1} << (kAddressBits - depth)) - 1;
    const bool ipv4 = depth >= kIpv4Depth && (prefix >> kIpv4Bits) == 0;
    const Wide first = ipv4 ? prefix | kIpv4Mapped : prefix;
    ranges_[known->second].push_back({.first = first, .last = first | hosts});
  }

  const MMDB_s& file_;
  PlaceKind kind_;
  std::vector<Step> waiting_;
  std::unordered_map<std::uint32_t, std::string> places_;  ///< by where the data stand
  std::map<std::string, std::vector<WideRange>> ranges_;
};

}  // namespace

Result<PlaceNetworks> read_place_database(const std::filesystem::path& file, PlaceKind kind) {
  constexpr std::string_view kRemedy = "a MaxMind DB file, for example GeoLite2-Country.mmdb or GeoLite2-ASN.mmdb";
  Database database;
  if (const int code = database.open(file); code != MMDB_SUCCESS)
    return failure("read", file.string(), MMDB_strerror(code), kRemedy);
  Walk walk(database.file(), kind);
  if (!walk.run()) return failure("read", file.string(), "it is damaged", "fetch it again");
  PlaceNetworks networks = std::move(walk).result();
  if (networks.empty())
    return failure("read", file.string(),
                   kind == PlaceKind::country ? "it names no countries" : "it names no autonomous systems", kRemedy);
  return networks;
}

}  // namespace limpid
