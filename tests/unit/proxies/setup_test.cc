// What is printed for every proxy, in every mode that it has. That the lines work is shown with the real programs, in
// tests/netns/test_proxies.py.
#include "proxies/setup.h"

#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <set>
#include <string>

namespace limpid {
namespace {

constexpr std::array kModes = {SourceMode::none, SourceMode::address, SourceMode::address_and_port,
                               SourceMode::prefer_port};

ProxyRequest request(SourceMode source = SourceMode::address) {
  return {.listener = {3129}, .ipv4 = true, .ipv6 = true, .source = source, .bypass_mark = 0x02000000};
}

/// Everything that is to be pasted or typed, without the notes.
std::string pasted(const ProxySetup& setup) {
  std::string text = setup.command;
  for (const ProxyLines& file : setup.files) {
    for (const std::string& line : file.lines) text += '\n' + line;
  }
  return text + '\n';
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST(ProxyProfiles, are_found_by_their_names) {
  std::set<std::string_view> names;
  for (const ProxyProfile& profile : proxy_profiles()) {
    EXPECT_EQ(find_proxy(profile.name), &profile);
    EXPECT_TRUE(names.insert(profile.name).second) << profile.name;
    EXPECT_TRUE(has(proxy_names(), profile.name));
    EXPECT_TRUE(can_be(profile, default_source(profile))) << profile.name;
    EXPECT_FALSE(profile.asks_conntrack && profile.keeps_port) << "both legs would be kept out of what it asks";
  }
  EXPECT_EQ(find_proxy("squi"), nullptr);
  EXPECT_EQ(find_proxy(""), nullptr);
  EXPECT_EQ(find_proxy("squid;"), nullptr);
}

TEST(ProxyProfiles, each_has_its_page) {
  for (const ProxyProfile& profile : proxy_profiles()) {
    EXPECT_TRUE(std::filesystem::exists(std::string(LIMPID_TESTS_DIR) + "/../docs/" + std::string(profile.page)))
        << profile.page;
  }
}

TEST(ProxySetup, every_line_is_one_line_and_every_note_a_sentence) {
  for (const ProxyProfile& profile : proxy_profiles()) {
    for (const SourceMode mode : kModes) {
      if (!can_be(profile, mode)) continue;
      const ProxySetup setup = describe_setup(profile, request(mode));
      EXPECT_TRUE(has(pasted(setup), "3129") || profile.kind == ProxyKind::custom) << profile.name;
      EXPECT_FALSE(setup.notes.empty()) << profile.name;
      for (const std::string& note : setup.notes) {
        EXPECT_EQ(note.back(), '.') << note;
        EXPECT_FALSE(has(note, "\n")) << note;
      }
      for (const ProxyLines& file : setup.files) {
        for (const std::string& line : file.lines) EXPECT_FALSE(has(line, "\n")) << line;
      }
    }
  }
}

TEST(ProxySetup, text_is_the_lines_and_comments) {
  for (const ProxyProfile& profile : proxy_profiles()) {
    const ProxySetup setup = describe_setup(profile, request(default_source(profile)));
    std::string expected;
    for (const ProxyLines& file : setup.files) {
      for (const std::string& line : file.lines) expected += line + '\n';
    }
    std::string found;
    const std::string text = render_setup(profile, setup);
    for (std::size_t at = 0; at < text.size();) {
      const auto end = text.find('\n', at);
      const std::string line = text.substr(at, end - at);
      if (!line.empty() && line.front() != '#') found += line + '\n';
      at = end + 1;
    }
    EXPECT_EQ(found, expected) << profile.name;
  }
}

TEST(ProxySetup, a_family_that_is_left_out_is_not_listened_for) {
  for (const ProxyProfile& profile : proxy_profiles()) {
    ProxyRequest wanted = request(default_source(profile));
    wanted.ipv6 = false;
    const std::string ipv4 = pasted(describe_setup(profile, wanted));
    wanted.ipv6 = true;
    wanted.ipv4 = false;
    const std::string ipv6 = pasted(describe_setup(profile, wanted));
    EXPECT_FALSE(has(ipv4, "::1]:") || has(ipv4, "[::]") || has(ipv4, ":ipv6") || has(ipv4, "\"::1\"")) << ipv4;
    EXPECT_FALSE(has(ipv6, "127.0.0.1:") || has(ipv6, "listen 3129") || has(ipv6, "\"127.0.0.1\"")) << ipv6;
    if (profile.kind != ProxyKind::custom) {
      EXPECT_NE(ipv4, ipv6) << profile.name;
    }
  }
}

TEST(ProxySetup, own_source_address_leaves_out_what_makes_it_the_clients) {
  const auto text = [](std::string_view name, SourceMode mode) {
    return pasted(describe_setup(*find_proxy(name), request(mode)));
  };
  EXPECT_TRUE(has(text("squid", SourceMode::none), "spoof_client_ip deny all"));
  EXPECT_FALSE(has(text("squid", SourceMode::address), "spoof_client_ip"));
  EXPECT_TRUE(has(text("haproxy", SourceMode::address), "usesrc clientip\n"));
  EXPECT_TRUE(has(text("haproxy", SourceMode::address_and_port), "usesrc client\n"));
  EXPECT_FALSE(has(text("haproxy", SourceMode::none), "usesrc"));
  for (const std::string_view name : {"nginx", "nginx-http"}) {
    EXPECT_TRUE(has(text(name, SourceMode::address), "proxy_bind $remote_addr transparent;"));
    EXPECT_TRUE(has(text(name, SourceMode::address_and_port), "proxy_bind [$remote_addr]:$remote_port transparent;"));
    EXPECT_FALSE(has(text(name, SourceMode::none), "proxy_bind"));
  }
  EXPECT_TRUE(has(text("envoy", SourceMode::address), "mark: 33554432"));
  EXPECT_FALSE(has(text("envoy", SourceMode::none), "original_src"));
}

TEST(ProxySetup, who_keeps_the_port_gets_the_bypass_mark) {
  for (const ProxyProfile& profile : proxy_profiles()) {
    if (!can_be(profile, SourceMode::address_and_port)) continue;
    const ProxySetup setup = describe_setup(profile, request(SourceMode::address_and_port));
    EXPECT_TRUE(setup.command.starts_with("limpid exec --transparent --mark 0x2000000 -- ")) << setup.command;
  }
}

TEST(ProxySetup, who_needs_limpid_exec_is_told_in_every_place) {
  for (const ProxyProfile& profile : proxy_profiles()) {
    if (!profile.needs_exec) continue;
    EXPECT_TRUE(describe_setup(profile, request(default_source(profile))).command.starts_with("limpid exec -- "));
    EXPECT_TRUE(has(listener_remedy(profile, request(default_source(profile)), Family::ipv6), "`limpid exec -- "));
  }
}

TEST(ProxySetup, a_remedy_names_a_line_that_is_printed) {
  for (const std::string_view name : {"squid", "haproxy", "nginx", "nginx-http", "trafficserver"}) {
    const ProxyProfile& profile = *find_proxy(name);
    for (const Family family : {Family::ipv4, Family::ipv6}) {
      const std::string remedy = listener_remedy(profile, request(), family);
      const auto begin = remedy.find('`') + 1;
      const std::string line = remedy.substr(begin, remedy.find('`', begin) - begin);
      EXPECT_TRUE(has(pasted(describe_setup(profile, request())), line)) << remedy;
    }
  }
}

}  // namespace
}  // namespace limpid
