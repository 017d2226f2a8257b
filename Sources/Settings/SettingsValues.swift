// What the parser found: every setting's value and where it came from, plus the rest of the command line.

package import Base

/// A setting's value in its own type.
package enum SettingValue: Sendable, Equatable {
  case string(String)
  case integer(Int)
  case number(Double)
  case boolean(Bool)
  case duration(Nanoseconds)
  case list([String])
}

/// Where a setting's value came from, strongest last.
package enum SettingOrigin: Sendable, Equatable, CustomStringConvertible {
  case fallback
  case file(path: String, line: Int)
  case environment(String)
  case flag(String)

  package var description: String {
    switch self {
    case .fallback: "default"
    case .file(let path, let line): "\(path):\(line)"
    case .environment(let name): "environment \(name)"
    case .flag(let flag): "flag --\(flag)"
    }
  }
}

/// One thing that is wrong with the configuration.
package struct SettingsFault: Sendable, Equatable, CustomStringConvertible {
  /// Where the faulty text stands; nil for the command line itself.
  package let origin: SettingOrigin?
  package let message: String

  package var description: String { origin.map { "\($0): \(message)" } ?? message }
}

/// Everything that is wrong with the configuration, in the order in which it was met.
package struct SettingsError: Error, Sendable, CustomStringConvertible {
  package let faults: [SettingsFault]

  package init(faults: [SettingsFault]) { self.faults = faults }

  /// One line a fault.
  package var description: String { faults.map(\.description).joined(separator: "\n") }
}

/// The settings of one run. Immutable: a new reading of the file makes new values.
///
/// The getters take a setting's name. Asking for a name that the table lacks, for a wrong type, or for a certain value
/// of a setting that can be unset is our own bug, and stops the program with a message that says so.
package struct SettingsValues: Sendable {
  struct Entry: Sendable {
    let definition: SettingDefinition
    var value: SettingValue?
    var origin: SettingOrigin
  }

  /// What the command line asks the program to do.
  package enum Request: Sendable, Equatable {
    case run
    case help
    case version
    /// Print the settings table as Markdown.
    case dump
  }

  package internal(set) var request: Request = .run
  /// The subcommand; nil when none was given.
  package internal(set) var subcommand: String?
  /// Flags that go to the engine's command line: known engine flags first, then everything after `--`.
  package internal(set) var passThrough: [String] = []
  /// Complete sentences, one a warning, to be logged once at start.
  package internal(set) var warnings: [String] = []
  /// The program reads its file again, so that some settings are live.
  var reloads = false
  /// The configuration file that was read.
  package internal(set) var configurationPath: String?
  /// What the configuration file assigns to names that are no settings.
  package internal(set) var otherVariables: [String: String] = [:]
  var entries: [String: Entry] = [:]
  var order: [String] = []

  private func entry(_ name: String) -> Entry {
    guard let entry = entries[name] else { preconditionFailure("no setting is named \(name)") }
    return entry
  }

  private func wrong(_ name: String, _ wanted: String) -> Never {
    preconditionFailure("setting \(name) is not \(wanted), or is unset and has no default")
  }

  /// The value, untyped; nil when unset.
  package func value(_ name: String) -> SettingValue? { entry(name).value }

  /// Where the value came from.
  package func origin(_ name: String) -> SettingOrigin { entry(name).origin }

  /// True when somebody chose the value, so that it is not merely the default.
  package func isGiven(_ name: String) -> Bool {
    if case .fallback = entry(name).origin { false } else { true }
  }

  /// The text of a string or choice setting that has a default.
  package func string(_ name: String) -> String {
    guard let text = optionalString(name) else { wrong(name, "text") }
    return text
  }

  /// The text of a string or choice setting; nil when unset.
  package func optionalString(_ name: String) -> String? {
    guard let value = entry(name).value else { return nil }
    guard case .string(let text) = value else { wrong(name, "text") }
    return text
  }

  /// The number of an integer setting that has a default.
  package func int(_ name: String) -> Int {
    guard let number = optionalInt(name) else { wrong(name, "an integer") }
    return number
  }

  /// The number of an integer setting; nil when unset.
  package func optionalInt(_ name: String) -> Int? {
    guard let value = entry(name).value else { return nil }
    guard case .integer(let number) = value else { wrong(name, "an integer") }
    return number
  }

  /// The number of a decimal setting that has a default.
  package func double(_ name: String) -> Double {
    guard let number = optionalDouble(name) else { wrong(name, "a decimal number") }
    return number
  }

  /// The number of a decimal setting; nil when unset.
  package func optionalDouble(_ name: String) -> Double? {
    guard let value = entry(name).value else { return nil }
    guard case .number(let number) = value else { wrong(name, "a decimal number") }
    return number
  }

  /// The state of a boolean setting; false when it is unset and has no default.
  package func bool(_ name: String) -> Bool {
    guard let value = entry(name).value else { return false }
    guard case .boolean(let state) = value else { wrong(name, "a boolean") }
    return state
  }

  /// The length of a duration setting that has a default, in nanoseconds.
  package func duration(_ name: String) -> Nanoseconds {
    guard let length = optionalDuration(name) else { wrong(name, "a duration") }
    return length
  }

  /// The length of a duration setting in nanoseconds; nil when unset.
  package func optionalDuration(_ name: String) -> Nanoseconds? {
    guard let value = entry(name).value else { return nil }
    guard case .duration(let length) = value else { wrong(name, "a duration") }
    return length
  }

  /// The items of a list setting; empty when unset.
  package func list(_ name: String) -> [String] {
    guard let value = entry(name).value else { return [] }
    guard case .list(let items) = value else { wrong(name, "a list") }
    return items
  }
}

/// One line of the list that `doctor` prints.
package struct SettingReport: Sendable, Equatable {
  package let name: String
  package let environment: String
  /// The value as text, masked when it is a secret, empty when unset.
  package let value: String
  package let origin: String
  /// A new value in the file takes effect on SIGHUP.
  package let isLive: Bool
}

extension SettingsValues {
  /// Every effective setting in the table's order.
  package var report: [SettingReport] {
    order.map { name in
      let entry = entry(name)
      let text = entry.value.map(\.text) ?? ""
      return SettingReport(
        name: entry.definition.flag.map { "--\($0)" } ?? entry.definition.environment,
        environment: entry.definition.environment,
        value: entry.definition.isSecret && !text.isEmpty ? "(set, not shown)" : text,
        origin: entry.value == nil ? "unset" : entry.origin.description,
        isLive: reloads && entry.definition.isLive)
    }
  }

  /// ``report`` as aligned text, one setting a line; live ones say so.
  package var reportText: String {
    let lines = report
    let nameWidth = lines.map(\.name.count).max() ?? 0
    let valueWidth = min(lines.map(\.value.count).max() ?? 0, 40)
    return lines.map { line in
      line.name.padded(to: nameWidth) + "  " + (line.value.isEmpty ? "-" : line.value).padded(to: valueWidth)
        + "  " + line.origin + (line.isLive ? "  (live)" : "") + "\n"
    }.joined()
  }
}

extension SettingValue {
  /// The value in the form in which it could be given again.
  package var text: String {
    switch self {
    case .string(let text): text
    case .integer(let number): String(number)
    case .number(let number): String(number)
    case .boolean(let state): state ? "true" : "false"
    case .duration(let length):
      length % second == 0 ? "\(length / second)s" : "\(Double(length) / Double(millisecond))ms"
    case .list(let items): items.joined(separator: ",")
    }
  }
}

extension String {
  /// The text with spaces after it up to `width` characters.
  func padded(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
