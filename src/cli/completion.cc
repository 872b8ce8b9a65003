// limpid completion: shell completions out of the very option tree that parses the command line.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "cli/verb.h"

namespace limpid {
namespace {

/// What may follow an option.
enum class ValueKind : std::uint8_t { none, words, interface, file, directory, user, group, program, unknown };

/// One word that can stand after `path` ("run", "rules show", …), with what it does.
struct Candidate {
  std::string word;
  std::string description;
  ValueKind kind = ValueKind::none;
  std::string values;  ///< with `words`: separated by spaces
};

/// The name of an option's value says what it is: open|closed are the words themselves, IFACE is an interface.
ValueKind kind_of(const CLI::Option& option) {
  if (option.get_expected_max() == 0) return ValueKind::none;
  const std::string name = option.get_type_name();
  const bool is_words =
      name.find('|') != std::string::npos && std::ranges::none_of(name, [](char c) { return c >= 'A' && c <= 'Z'; });
  if (is_words) return ValueKind::words;
  if (name.starts_with("IFACE")) return ValueKind::interface;
  if (name == "PATH" || name == "FILE") return ValueKind::file;
  if (name == "DIR") return ValueKind::directory;
  if (name == "USER") return ValueKind::user;
  if (name == "GROUP") return ValueKind::group;
  if (name == "PROGRAM" || name == "COMMAND") return ValueKind::program;
  return ValueKind::unknown;
}

Candidate candidate(const std::string& word, const CLI::Option& option) {
  Candidate made{.word = word, .description = option.get_description(), .kind = kind_of(option), .values = {}};
  if (made.kind == ValueKind::words) {
    made.values = option.get_type_name();
    std::ranges::replace(made.values, '|', ' ');
  }
  return made;
}

std::vector<Candidate> candidates(const CLI::App& app) {
  std::vector<Candidate> found;
  for (const auto* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    found.push_back({.word = verb->get_name(), .description = verb->get_description(), .kind = {}, .values = {}});
  }
  for (const auto* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) found.push_back(candidate("--" + name, *option));
    for (const auto& name : option->get_snames()) found.push_back(candidate("-" + name, *option));
  }
  return found;
}

struct Node {
  std::string path;
  std::vector<Candidate> words;
};

void collect(const CLI::App& app, const std::string& path, std::vector<Node>& nodes) {
  nodes.push_back({path, candidates(app)});
  for (const auto* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    collect(*verb, path.empty() ? verb->get_name() : path + ' ' + verb->get_name(), nodes);
  }
}

std::string joined(const std::vector<Candidate>& words) {
  std::string text;
  for (const auto& candidate : words) {
    if (!text.empty()) text += ' ';
    text += candidate.word;
  }
  return text;
}

/// For a single-quoted word of any of the three shells, in which only the quote is special once fish's backslash is
/// doubled.
std::string without_quotes(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '\'') {
      result += "'\\''";
    } else if (c == '\n') {
      result += ' ';
    } else if (c != '\\') {
      result += c;
    }
  }
  return result;
}

/// What bash's compgen is told to offer.
std::string bash_action(const Candidate& option) {
  switch (option.kind) {
    case ValueKind::words: return fmt::format("-W '{}'", option.values);
    case ValueKind::interface: return "-W \"$(command ls /sys/class/net)\"";
    case ValueKind::file: return "-f";
    case ValueKind::directory: return "-d";
    case ValueKind::user: return "-u";
    case ValueKind::group: return "-g";
    case ValueKind::program: return "-c";
    case ValueKind::none:
    case ValueKind::unknown: break;
  }
  return "-W ''";
}

std::string bash_script(const std::vector<Node>& nodes) {
  std::string text =
      R"(# bash completion for limpid; source it or put it into /usr/share/bash-completion/completions/limpid
_limpid() {
  local current=${COMP_WORDS[COMP_CWORD]} path='' word words
  local previous=${COMP_WORDS[COMP_CWORD-1]}
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$path $word" in
)";
  for (const auto& node : nodes) {
    if (!node.path.empty()) {
      const auto space = node.path.rfind(' ');
      const std::string parent = space == std::string::npos ? "" : node.path.substr(0, space);
      const std::string last = space == std::string::npos ? node.path : node.path.substr(space + 1);
      text += fmt::format("      '{} {}') path='{}' ;;\n", parent, last, node.path);
    }
  }
  text += "    esac\n  done\n  case \"$path $previous\" in\n";
  for (const auto& node : nodes) {
    for (const auto& option : node.words) {
      if (option.kind == ValueKind::none) continue;
      text += fmt::format("    '{} {}') mapfile -t COMPREPLY < <(compgen {} -- \"$current\"); return ;;\n", node.path,
                          option.word, bash_action(option));
    }
  }
  text += "  esac\n  case \"$path\" in\n";
  for (const auto& node : nodes) text += fmt::format("    '{}') words='{}' ;;\n", node.path, joined(node.words));
  text += R"(  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -o default -F _limpid limpid
)";
  return text;
}

std::string zsh_action(const Candidate& option) {
  switch (option.kind) {
    case ValueKind::words: return "compadd " + option.values;
    case ValueKind::interface: return "_net_interfaces";
    case ValueKind::file: return "_files";
    case ValueKind::directory: return "_files -/";
    case ValueKind::user: return "_users";
    case ValueKind::group: return "_groups";
    case ValueKind::program: return "_command_names -e";
    case ValueKind::none:
    case ValueKind::unknown: break;
  }
  return fmt::format("_message '{}'", without_quotes(option.description));
}

std::string zsh_script(const std::vector<Node>& nodes) {
  std::string text = R"(#compdef limpid
# zsh completion for limpid; put it into a directory of $fpath as _limpid
_limpid() {
  local at='' word
  local -a choices
  for word in ${words[2,CURRENT-1]}; do
    case "$at $word" in
)";
  for (const auto& node : nodes) {
    if (node.path.empty()) continue;
    const auto space = node.path.rfind(' ');
    const std::string parent = space == std::string::npos ? "" : node.path.substr(0, space);
    const std::string last = space == std::string::npos ? node.path : node.path.substr(space + 1);
    text += fmt::format("      '{} {}') at='{}' ;;\n", parent, last, node.path);
  }
  text += "    esac\n  done\n  case \"$at ${words[CURRENT-1]}\" in\n";
  for (const auto& node : nodes) {
    for (const auto& option : node.words) {
      if (option.kind == ValueKind::none) continue;
      text += fmt::format("    '{} {}') {}; return ;;\n", node.path, option.word, zsh_action(option));
    }
  }
  text += "  esac\n  case \"$at\" in\n";
  for (const auto& node : nodes) {
    text += fmt::format("    '{}') choices=(\n", node.path);
    for (const auto& candidate : node.words) {
      std::string description = without_quotes(candidate.description);
      std::erase(description, ':');
      text += fmt::format("      '{}:{}'\n", candidate.word, description);
    }
    text += "    ) ;;\n";
  }
  text += "  esac\n  _describe 'limpid' choices || _files\n}\n_limpid \"$@\"\n";
  return text;
}

/// What fish is told about an option's value: -x takes one, and no file names.
std::string fish_value(const Candidate& option) {
  switch (option.kind) {
    case ValueKind::none: return "";
    case ValueKind::words: return fmt::format(" -x -a '{}'", option.values);
    case ValueKind::interface: return " -x -a '(command ls /sys/class/net)'";
    case ValueKind::file: return " -r -F";
    case ValueKind::directory: return " -x -a '(__fish_complete_directories)'";
    case ValueKind::user: return " -x -a '(__fish_complete_users)'";
    case ValueKind::group: return " -x -a '(__fish_complete_groups)'";
    case ValueKind::program: return " -x -a '(__fish_complete_command)'";
    case ValueKind::unknown: break;
  }
  return " -x";
}

std::string fish_script(const std::vector<Node>& nodes) {
  std::string text = "# fish completion for limpid; put it into ~/.config/fish/completions/limpid.fish\n";
  for (const auto& node : nodes) {
    std::string condition = "__fish_use_subcommand";
    if (!node.path.empty()) {
      condition.clear();
      std::size_t begin = 0;
      while (begin <= node.path.size()) {
        const auto space = std::min(node.path.find(' ', begin), node.path.size());
        if (!condition.empty()) condition += "; and ";
        condition += "__fish_seen_subcommand_from " + node.path.substr(begin, space - begin);
        begin = space + 1;
      }
    }
    for (const auto& candidate : node.words) {
      std::string what = " -a '" + candidate.word + "' -f";
      if (candidate.word.starts_with("--")) {
        what = " -l '" + candidate.word.substr(2) + "'" + fish_value(candidate);
      } else if (candidate.word.starts_with("-")) {
        what = " -s '" + candidate.word.substr(1) + "'" + fish_value(candidate);
      }
      text +=
          fmt::format("complete -c limpid -n '{}'{} -d '{}'\n", condition, what, without_quotes(candidate.description));
    }
  }
  return text;
}

int complete(const CLI::App& app, const std::string& shell) {
  std::vector<Node> nodes;
  collect(app, "", nodes);
  std::string script;
  if (shell == "bash") script = bash_script(nodes);
  if (shell == "zsh") script = zsh_script(nodes);
  if (shell == "fish") script = fish_script(nodes);
  if (script.empty()) {
    return report(usage_error("completion", shell, "no such shell", "bash, zsh or fish").error());
  }
  std::fputs(script.c_str(), stdout);
  return kExitDone;
}

}  // namespace

void add_completion_verb(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("completion", "Print completions for a shell");
  auto shell = std::make_shared<std::string>();
  verb->add_option("SHELL", *shell, "bash, zsh or fish")->required();
  verb->callback([shell, &app, &action] { action = [shell, &app] { return complete(app, *shell); }; });
}

}  // namespace limpid
