// Help text and documentation, both written from the table.

extension SettingsTable {
  /// The text of `--help`: groups in the table's order, aligned, at most 100 columns wide.
  package var helpText: String {
    var text = "\(program): \(summary)\n\nUsage: \(program)"
    if !subcommands.isEmpty { text += " [\(subcommands.map(\.name).joined(separator: "|"))]" }
    text += " [flags]\(passThroughHelp == nil ? "" : " [-- arguments]")\n"
    text += Self.wrapped(
      "A flag beats its environment variable, which beats the configuration file.", indent: 0)
    if !subcommands.isEmpty {
      text += "\nSubcommands\n"
      for command in subcommands { text += Self.row("  \(command.name)", command.help) }
    }
    text += "\nGeneral\n"
    text += Self.row(
      "  --config FILE",
      "Read KEY=VALUE lines under the environment's names. "
        + "Environment \(SettingsParser.configurationVariable)."
        + (reloads ? " Read again on SIGHUP; what is marked live changes at once." : ""))
    text += Self.row("  -h, --help", "Print this text.")
    text += Self.row("  --version", "Print the version.")
    text += Self.row("  --dump", "Print all settings as a Markdown table.")
    if let passThroughHelp { text += Self.row("  -- …", passThroughHelp) }
    for group in groups {
      text += "\n\(group)\n"
      for definition in definitions where definition.group == group {
        text += Self.row("  \(definition.usage)", definition.help + " " + definition.facts(reloads))
      }
    }
    return text
  }

  /// The settings as Markdown, one table a group, for docs/configuration.md.
  package var markdown: String {
    var text = ""
    for group in groups {
      text += "### \(group)\n\n| Flag | Environment | Default |\(reloads ? " SIGHUP |" : "") Meaning |\n"
      text += "|---|---|---|---|\(reloads ? "---|" : "")\n"
      for definition in definitions where definition.group == group {
        let flag = definition.flag == nil ? "" : "`\(definition.usage)`"
        let fallback = definition.fallback.map { "`\($0)`" } ?? definition.unsetMeaning ?? "unset"
        var cells = [flag, "`\(definition.environment)`", fallback]
        if reloads { cells.append(definition.isLive ? "live" : "") }
        cells.append(definition.help + definition.olderNames)
        text += "| " + cells.map { $0.escapedForTable }.joined(separator: " | ") + " |\n"
      }
      text += "\n"
    }
    return text + foreignMarkdown
  }

  private var foreignMarkdown: String {
    guard !foreign.isEmpty else { return "" }
    var text = "### Accepted for compatibility\n\n| Flag | Environment | What happens |\n|---|---|---|\n"
    for flag in foreign {
      let answer =
        switch flag.answer {
        case .warn: "one warning, no effect"
        case .pass: "goes to the engine's command line"
        case .refuse(let reason): "refused: \(reason)"
        }
      let environment = flag.environment.map { "`\($0)`" } ?? ""
      text += "| `--\(flag.flag)` | \(environment) | \(answer.escapedForTable) |\n"
    }
    return text + "\n"
  }

  private var groups: [String] {
    var result: [String] = []
    for definition in definitions where !result.contains(definition.group) { result.append(definition.group) }
    return result
  }

  private static let helpColumn = 34
  private static let width = 100

  /// A left cell and its help, which begins on the next line when the cell is too wide.
  private static func row(_ cell: String, _ help: String) -> String {
    let body = wrapped(help, indent: helpColumn)
    if cell.count + 2 > helpColumn { return cell + "\n" + body }
    return cell.padded(to: helpColumn) + String(body.dropFirst(helpColumn))
  }

  private static func wrapped(_ text: String, indent: Int) -> String {
    let margin = String(repeating: " ", count: indent)
    var result = ""
    var line = margin
    for word in text.split(separator: " ") {
      if line.count > indent, line.count + 1 + word.count > width {
        result += line + "\n"
        line = margin
      }
      line += line.count > indent ? " \(word)" : String(word)
    }
    return result + line + "\n"
  }
}

extension SettingDefinition {
  /// How the setting is written: `--flag VALUE`, or `NAME=VALUE` when it has no flag.
  fileprivate var usage: String {
    guard let flag else {
      if case .boolean = kind { return "\(environment)=BOOL" }
      return "\(environment)=\(placeholder)"
    }
    guard case .boolean = kind else { return "--\(flag) \(placeholder)" }
    return fallback == "true" ? "--[no-]\(flag)" : "--\(flag)"
  }

  /// The environment's name and the default, as a sentence; whether it is live where the program `reloads`.
  fileprivate func facts(_ reloads: Bool) -> String {
    var parts: [String] = []
    if flag != nil { parts.append("environment \(environment)") }
    if case .list = kind, flag != nil { parts.append("repeatable") }
    if let fallback {
      parts.append("default \(fallback)")
    } else if let unsetMeaning {
      parts.append("default: \(unsetMeaning)")
    }
    if reloads, isLive { parts.append("live") }
    return parts.isEmpty ? "" : "[\(parts.joined(separator: ", "))]"
  }

  fileprivate var olderNames: String {
    let names = olderFlags.map { "`--\($0)`" } + olderEnvironment.map { "`\($0)`" }
    return names.isEmpty ? "" : " Older names: \(names.joined(separator: ", "))."
  }
}

extension String {
  fileprivate var escapedForTable: String {
    reduce(into: "") { $1 == "|" ? $0 += "\\|" : $0.append($1) }
  }
}
