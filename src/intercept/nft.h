// Runs the nft program (it is never linked: libnftables aborts at descriptors from 1024 on, and is GPL-2-only) and says
// in one line what it did not like. Only our own tables are ever listed: newer programs' sets can crash an older nft.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "intercept/plan.h"
#include "limpid/error.h"

namespace limpid {

enum class NftMode : std::uint8_t {
  apply,
  check,  ///< nft --check: the kernel validates the transaction and forgets it
};

/// Has nft read `input`, one atomic transaction. `object` names it in the error. A crash of nft, a missing nft, and
/// missing privileges each have their own message.
[[nodiscard]] Status feed_nft(NftMode mode, std::string_view input, std::string_view object);

/// nft's own listing of a table, numeric and without counters; empty when there is no such table.
[[nodiscard]] Result<std::optional<std::string>> list_nft_table(const NftTableName& table);

/// What a set of ours holds, as it stands between the braces of nft's language, with what is left of each element's time; empty: nothing, or there is no such set.
[[nodiscard]] std::string list_nft_elements(const NftTableName& table, std::string_view set);

/// Everybody's tables as JSON, numeric, without the elements of sets. Unlike the listing of a table of ours it may crash an older
/// nft, which is an error.
[[nodiscard]] Result<std::string> list_nft_ruleset();
/// nft's listing with each rule's handle, in words, without counters and without what sets hold: of one chain, or of the whole table when
/// `chain` is empty. A name that nft's language cannot have is an error.
[[nodiscard]] Result<std::string> list_nft_rules(const NftTableName& table, std::string_view chain);

/// What there is under names that instances of ours have.
struct NftTables {
  std::vector<Ownership> ours;           ///< in family inet, with a comment that is ours
  std::vector<NftTableName> companions;  ///< in families ip and ip6, with a comment that is ours
  std::vector<NftTableName> foreign;     ///< such names without such a comment: somebody else's
};
[[nodiscard]] Result<NftTables> find_nft_tables();

/// The first thing that this kernel lacks of what a plan needs, in words ("nftables' `tproxy` statement,
/// CONFIG_NFT_TPROXY"); empty when each works on its own. `local`: a plan for this host's own traffic too.
[[nodiscard]] std::optional<std::string> find_missing_nft_feature(bool local);

}  // namespace limpid
