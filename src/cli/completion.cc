// limpid completion: shell completions out of the very option tree that parses the command line.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "cli/verb.h"

namespace limpid {
namespace {

/// One word that can stand after `path` ("run", "rules show", …), with what it does.
struct Candidate {
  std::string word;
  std::string description;
};

std::vector<Candidate> candidates(const CLI::App& app) {
  std::vector<Candidate> found;
  for (const auto* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    found.push_back({verb->get_name(), verb->get_description()});
  }
  for (const auto* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) found.push_back({"--" + name, option->get_description()});
    for (const auto& name : option->get_snames()) found.push_back({"-" + name, option->get_description()});
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

std::string bash_script(const std::vector<Node>& nodes) {
  std::string text =
      R"(# bash completion for limpid; source it or put it into /usr/share/bash-completion/completions/limpid
_limpid() {
  local current=${COMP_WORDS[COMP_CWORD]} path='' word words
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
  text += "    esac\n  done\n  case \"$path\" in\n";
  for (const auto& node : nodes) text += fmt::format("    '{}') words='{}' ;;\n", node.path, joined(node.words));
  text += R"(  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -o default -F _limpid limpid
)";
  return text;
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
  text += "    esac\n  done\n  case \"$at\" in\n";
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
        what = " -l '" + candidate.word.substr(2) + "'";
      } else if (candidate.word.starts_with("-")) {
        what = " -s '" + candidate.word.substr(1) + "'";
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
