// Facts about configuration files: what they say, that all mistakes are told at once with their places, and that hostile files end in errors.
#include "config/configuration.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace limpid {
namespace {

class Files : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "limpid-config-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path write(const std::string& name, std::string_view text) const {
    const auto path = directory_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

  std::expected<Configuration, std::vector<Error>> load(std::string_view text) const {
    return load_configuration(write("limpid.toml", text));
  }

  /// "LINE FIELD: CAUSE" of each mistake.
  std::vector<std::string> mistakes(std::string_view text) const {
    const auto loaded = load(text);
    std::vector<std::string> lines;
    if (loaded) return lines;
    for (const Error& error : loaded.error()) {
      EXPECT_EQ(error.kind, ErrorKind::usage);
      lines.push_back(error.operation.substr(error.operation.rfind('/') + 1) + " " + error.object + ": " + error.cause);
    }
    return lines;
  }

  std::filesystem::path directory_;
};

TEST_F(Files, say_settings_sets_and_rules) {
  const auto loaded = load(R"(
tcp = "80,443"
udp = [53, "443"]
workers = 2
enable-forwarding = true
quiet = false
rules = ["dst(@lan) -> bypass", "domain(@ads) -> reject",
         "otherwise -> direct"]
[sets]
lan = ["192.168.0.0/16", "fd00::/8"]
ads = ["suffix: ads.example", "tracker.example.net"]
)");
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->find("tcp")->values, std::vector<std::string>{"80,443"});
  EXPECT_EQ(loaded->find("udp")->values, (std::vector<std::string>{"53", "443"}));
  EXPECT_EQ(loaded->find("workers")->place.line, 4U);
  EXPECT_TRUE(loaded->find("enable-forwarding")->is_switch);
  EXPECT_TRUE(loaded->find("quiet")->values.empty());
  ASSERT_EQ(loaded->rules.size(), 3U);
  EXPECT_EQ(loaded->rules[2].text, "otherwise -> direct");
  EXPECT_EQ(loaded->rule_places[2].line, 8U);
  EXPECT_TRUE(loaded->sets.domains.at("ads")->matches("x.ads.example"));
}

TEST_F(Files, beside_it_in_conf_d_are_read_by_name_and_override_settings) {
  write("conf.d/20-late.toml", "workers = 4\nrules = [\"otherwise -> direct\"]\n");
  write("conf.d/10-early.toml", "workers = 3\n[sets]\nlan = [\"10.0.0.0/8\"]\n");
  write("conf.d/README", "no TOML");
  const auto loaded = load("workers = 2\nrules = [\"dst(@lan) -> bypass\"]\n");
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->files.size(), 3U);
  EXPECT_EQ(loaded->find("workers")->values.front(), "4");
  ASSERT_EQ(loaded->rules.size(), 2U);
  EXPECT_TRUE(loaded->rule_places[1].file.ends_with("20-late.toml"));
}

TEST_F(Files, with_mistakes_name_all_of_them) {
  EXPECT_EQ(mistakes(R"(tcp = 1.5
rules = ["dst(10.0.0.0/8) -> bypas",
  7,
  "dst(@nobody) -> drop"]
udp = []
[relay]
workers = 2
[sets]
lan = ["10.0.0.1/8", "example.com"]
"bad name" = ["10.0.0.0/8"]
empty = []
odd = 3
)"),
            (std::vector<std::string>{
                "limpid.toml:6 relay: there is no such section",
                "limpid.toml:10 sets.bad name: a set's name has letters, digits, - and _",
                "limpid.toml:11 sets.empty: it is empty",
                "limpid.toml:9 sets.lan: '10.0.0.1/8': bits behind the prefix length are set",
                "limpid.toml:9 sets.lan: 'example.com': not an address or CIDR block",
                "limpid.toml:12 sets.odd: neither a list nor a file",
                "limpid.toml:1 tcp: neither text, number, true, false nor a list",
                "limpid.toml:5 udp: the list is empty",
                "limpid.toml:2 rules[1]: column 20: there is no action 'bypas'",
                "limpid.toml:3 rules[2]: a rule is a text",
                "limpid.toml:4 rules[3]: column 5: there is no set 'nobody'",
            }));
}

TEST_F(Files, that_are_no_toml_name_the_line) {
  const auto loaded = load("tcp = \"80\"\nudp = = 3\n");
  ASSERT_FALSE(loaded);
  EXPECT_TRUE(loaded.error().front().operation.ends_with("limpid.toml:2"));
  EXPECT_TRUE(loaded.error().front().cause.starts_with("not TOML: "));
}

TEST_F(Files, that_are_not_there_are_no_usage_error) {
  const auto loaded = load_configuration(directory_ / "nowhere.toml");
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().front().kind, ErrorKind::failure);
  EXPECT_NE(loaded.error().front().message().find("No such file"), std::string::npos);
  EXPECT_FALSE(load_configuration(directory_));
}

TEST_F(Files, of_sets_hold_one_entry_on_each_line) {
  write("lan.txt", "# ours\n10.0.0.0/8\n\n  2001:db8::/32   # documentation\r\n");
  write("ads.txt", "ads.example\nsuffix: spam.example\n");
  const auto loaded = load("[sets]\nlan = { networks = \"lan.txt\" }\nads = { domains = \"ads.txt\" }\n");
  ASSERT_TRUE(loaded) << loaded.error().front().message();
  EXPECT_EQ(loaded->sets.addresses.at("lan")->ranges().size(), 2U);
  EXPECT_TRUE(loaded->sets.domains.at("ads")->matches("x.spam.example"));

  write("lan.txt", "10.0.0.0/8\n10.0.0.1/8\nx\n");
  EXPECT_EQ(mistakes("[sets]\nlan = { networks = \"lan.txt\" }\n"),
            (std::vector<std::string>{"lan.txt:2 sets.lan: '10.0.0.1/8': bits behind the prefix length are set",
                                      "lan.txt:3 sets.lan: 'x': not an address or CIDR block"}));
  EXPECT_EQ(mistakes("[sets]\nlan = { networks = \"nowhere.txt\" }\n").size(), 1U);
  EXPECT_EQ(mistakes("[sets]\nlan = { networks = \".\" }\n").size(), 1U);
}

TEST_F(Files, with_a_set_twice_are_refused) {
  write("conf.d/10.toml", "[sets]\nlan = [\"10.0.0.0/8\"]\n");
  const auto found = mistakes("[sets]\nlan = [\"192.168.0.0/16\"]\n");
  ASSERT_EQ(found.size(), 1U);
  EXPECT_TRUE(found[0].starts_with("10.toml:2 sets.lan: an earlier file"));
}

TEST_F(Files, groups_of_upstreams_are_sections_of_their_own) {
  write("conf.d/more.toml", "[upstreams.lab]\nservers = \"http://10.0.0.2\"\n");
  const auto loaded = load(R"toml(
tcp = 80
rules = ["otherwise -> via(office)"]
[upstreams.office]
servers = ["socks5://10.0.0.1", "socks5://10.0.0.3"]
choice = "round-robin"
mark = 0x20
)toml");
  ASSERT_TRUE(loaded);
  ASSERT_EQ(loaded->groups.size(), 2U);
  const GroupSettings& office = loaded->groups[0];
  EXPECT_EQ(office.name, "office");
  EXPECT_EQ(office.place.line, 4U);
  EXPECT_EQ(office.find("servers")->values.size(), 2U);
  EXPECT_EQ(office.find("mark")->values.front(), "32");
  EXPECT_EQ(office.find("choice")->place.line, 6U);
  EXPECT_EQ(office.find("down"), nullptr);
  EXPECT_EQ(loaded->groups[1].name, "lab");
  EXPECT_EQ(loaded->settings.size(), 1U) << "none of theirs is a setting of the whole";
}

TEST_F(Files, of_a_wrong_group_every_mistake_is_told_and_the_rest_is_read) {
  write("conf.d/more.toml", "[upstreams.office]\nservers = \"http://10.0.0.2\"\n");
  const auto path = write("limpid.toml", R"(upstreams.flat = 1
upstreams."no name" = {}
[upstreams.office]
servers = []
check = 1.5
choice = "order"
)");
  const auto read = read_configuration(path);
  std::vector<std::string> lines;
  for (const Error& error : read.errors)
    lines.push_back(error.operation.substr(error.operation.rfind('/') + 1) + " " + error.object + ": " + error.cause);
  EXPECT_TRUE(read.is_complete);
  std::ranges::sort(lines);
  EXPECT_EQ(lines, (std::vector<std::string>{
                       "limpid.toml:1 upstreams.flat: this is a section",
                       "limpid.toml:2 upstreams.no name: a group's name has up to 64 letters, digits, - and _",
                       "limpid.toml:4 upstreams.office.servers: the list is empty",
                       "limpid.toml:5 upstreams.office.check: neither text, number, true, false nor a list",
                       "more.toml:1 upstreams.office: an earlier file has a group of this name"}));
  ASSERT_EQ(read.configuration.groups.size(), 1U);
  EXPECT_NE(read.configuration.groups[0].find("choice"), nullptr);
}

TEST_F(Files, a_file_that_is_no_toml_leaves_the_rest_unsaid) {
  write("conf.d/more.toml", "x = [\n");
  const auto read = read_configuration(write("limpid.toml", "tcp = 80\n"));
  EXPECT_FALSE(read.is_complete);
  EXPECT_EQ(read.errors.size(), 1U);
}

}  // namespace
}  // namespace limpid
