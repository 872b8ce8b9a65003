// The list of ALPN ids: what is kept, in which order, and what is left out.
#include <gtest/gtest.h>

#include <string>

#include "sniff/sniffed.h"

namespace limpid {
namespace {

TEST(AlpnList, keeps_ids_in_their_order) {
  AlpnList list;
  EXPECT_TRUE(list.empty());
  EXPECT_TRUE(list.add("h2"));
  EXPECT_TRUE(list.add("http/1.1"));
  EXPECT_EQ(list.view(), "h2,http/1.1");
  EXPECT_TRUE(list.contains("h2"));
  EXPECT_TRUE(list.contains("http/1.1"));
  for (const char* id : {"", "h", "http/1.0", "h2,http/1.1", "2", ","}) EXPECT_FALSE(list.contains(id)) << id;
}

TEST(AlpnList, leaves_out_what_could_act) {
  AlpnList list;
  for (const std::string id : {"", "a,b", "a b", "a\nb", "\x1b[2J", "\x8a\x8a", "a\"b", "a\\b", "a'b", "a$b"})
    EXPECT_FALSE(list.add(id));
  EXPECT_TRUE(list.empty());
  EXPECT_FALSE(list.truncated());
}

TEST(AlpnList, says_when_there_is_no_room) {
  AlpnList list;
  EXPECT_FALSE(list.add(std::string(255, 'a')));
  EXPECT_TRUE(list.truncated());
  AlpnList full;
  EXPECT_TRUE(full.add(std::string(AlpnList::kMostBytes, 'a')));
  EXPECT_FALSE(full.add("b"));
  EXPECT_TRUE(full.truncated());
  EXPECT_EQ(full.view(), std::string(AlpnList::kMostBytes, 'a'));
}

}  // namespace
}  // namespace limpid
