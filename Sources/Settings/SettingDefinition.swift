// What one setting is: its names, its kind, its default, its help. A table of these is all a program declares.

package import Base

/// What values a setting takes, and how their text is read.
package enum SettingKind: Sendable, Equatable {
  /// Any text.
  case string
  /// A whole number within the range, ends included.
  case integer(ClosedRange<Int>)
  /// A decimal number within the range, ends included.
  case number(ClosedRange<Double>)
  /// On or off. As a flag: `--x`, `--no-x`, `--x=on`. As text: 1, true, on, yes, 0, false, off, no in any case.
  case boolean
  /// A length of time: a number with `ms`, `s`, `m` or `h`, or a bare number in `unit` nanoseconds.
  case duration(unit: Nanoseconds)
  /// Items separated by commas; the flag may be given several times.
  case list
  /// One of the words, in any case; the value is the word as written here.
  case choice([String])
}

/// One setting of a program.
package struct SettingDefinition: Sendable {
  /// The name by which code asks for the value: the flag without dashes, else the environment name.
  package let name: String
  /// The flag without its dashes; nil when only the environment and the file can set it.
  package let flag: String?
  /// The documented environment name, which is the configuration file's key too.
  package let environment: String
  /// Older flags that still work and are answered with a warning.
  package let olderFlags: [String]
  /// Older environment names that still work and are answered with a warning; the first that is set counts.
  package let olderEnvironment: [String]
  package let kind: SettingKind
  /// The default in the setting's own text form; nil when the setting is unset by default.
  package let fallback: String?
  /// What happens when the setting is unset, for help and documents.
  package let unsetMeaning: String?
  /// What stands for the value in help, such as `URL`.
  package let placeholder: String
  package let help: String
  package let group: String
  /// The value is never printed.
  package let isSecret: Bool
  /// A bad value is answered with a warning and the default instead of refused, as OpenTelemetry's rules ask.
  package let isLenient: Bool
  /// A program that reads its file again takes a new value over at once; else it takes effect at the next start.
  package let isLive: Bool

  package init(
    _ flag: String?, _ environment: String, _ kind: SettingKind, fallback: String? = nil,
    unset: String? = nil, placeholder: String? = nil, group: String, olderFlags: [String] = [],
    olderEnvironment: [String] = [], secret: Bool = false, lenient: Bool = false, live: Bool = false,
    _ help: String
  ) {
    name = flag ?? environment
    self.flag = flag
    self.environment = environment
    self.olderFlags = olderFlags
    self.olderEnvironment = olderEnvironment
    self.kind = kind
    self.fallback = fallback
    unsetMeaning = unset
    self.placeholder = placeholder ?? kind.placeholder
    self.help = help
    self.group = group
    isSecret = secret
    isLenient = lenient
    isLive = live
  }
}

extension SettingKind {
  /// The usual stand-in for a value of this kind.
  var placeholder: String {
    switch self {
    case .string: "TEXT"
    case .integer, .number: "N"
    case .boolean: ""
    case .duration(let unit): unit == second ? "SECONDS" : "MS"
    case .list: "A,B"
    case .choice(let words): words.joined(separator: "|")
    }
  }
}

/// A flag that belongs to another program: known by name, so that existing command lines carry over.
package struct ForeignFlag: Sendable {
  /// What the parser does when the flag, or its environment name, is met.
  package enum Answer: Sendable {
    /// Accepted; one warning says that nothing follows from it.
    case warn
    /// Handed on in ``SettingsValues/passThrough``, for the engine's command line.
    case pass
    /// Refused with this reason, because ignoring it would do harm.
    case refuse(String)
  }

  package let flag: String
  /// One-letter form with one dash, such as `i`.
  package let short: String?
  package let environment: String?
  package let takesValue: Bool
  package let answer: Answer

  package init(
    _ flag: String, short: String? = nil, _ environment: String? = nil, takesValue: Bool = true,
    answer: Answer = .warn
  ) {
    self.flag = flag
    self.short = short
    self.environment = environment
    self.takesValue = takesValue
    self.answer = answer
  }
}

/// Everything that a program's command line, environment and configuration file may hold.
package struct SettingsTable: Sendable {
  /// A word that may come first on the command line, and what it does.
  package struct Subcommand: Sendable {
    package let name: String
    package let help: String

    package init(_ name: String, _ help: String) {
      self.name = name
      self.help = help
    }
  }

  package let program: String
  package let summary: String
  package let subcommands: [Subcommand]
  package let definitions: [SettingDefinition]
  package let foreign: [ForeignFlag]
  /// What arguments after `--` are for; nil refuses them.
  package let passThroughHelp: String?
  /// The program reads its configuration file again on SIGHUP.
  package let reloads: Bool

  package init(
    program: String, summary: String, subcommands: [Subcommand] = [], definitions: [SettingDefinition],
    foreign: [ForeignFlag] = [], passThroughHelp: String? = nil, reloads: Bool = false
  ) {
    self.program = program
    self.summary = summary
    self.subcommands = subcommands
    self.definitions = definitions
    self.foreign = foreign
    self.passThroughHelp = passThroughHelp
    self.reloads = reloads
  }
}
