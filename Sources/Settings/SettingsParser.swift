// Command line, environment and configuration file read against one table: flag beats environment beats file.

/// What reading the configuration file gave; the reader is handed in, for this module opens nothing.
package enum ConfigurationText: Sendable {
  case text(String)
  /// The reason in words, such as "no such file".
  case failed(String)
}

/// Reads settings against a table. All faults are gathered before any is thrown.
package struct SettingsParser {
  private let table: SettingsTable
  private var values = SettingsValues()
  private var faults: [SettingsFault] = []
  private var warned: Set<String> = []
  private var configurationFlag: String?

  /// The variable that names the configuration file, as `--config` does.
  package static let configurationVariable = "DYN_CONFIG"

  private init(_ table: SettingsTable) {
    self.table = table
    values.reloads = table.reloads
    for definition in table.definitions {
      values.order.append(definition.name)
      values.entries[definition.name] = SettingsValues.Entry(
        definition: definition, value: nil, origin: .fallback)
    }
  }

  /// Reads everything.
  ///
  /// - Parameters:
  ///   - arguments: the command line without the program's name.
  ///   - readFile: gives the text of the configuration file; called at most once.
  /// - Throws: every fault of all three sources together. `--help`, `--version` and `--dump` win over faults.
  package static func parse(
    _ table: SettingsTable, arguments: [String], environment: [String: String],
    readFile: (String) -> ConfigurationText = { _ in .failed("no files here") }
  ) throws(SettingsError) -> SettingsValues {
    var parser = SettingsParser(table)
    parser.readDefaults()
    // The command line comes first only to learn of --config; weaker sources never replace its values.
    parser.readArguments(arguments)
    parser.readEnvironment(environment)
    parser.readConfiguration(environment: environment, readFile)
    if parser.values.request != .run { return parser.values }
    guard parser.faults.isEmpty else { throw SettingsError(faults: parser.faults) }
    return parser.values
  }

  // MARK: Sources

  private mutating func readDefaults() {
    for definition in table.definitions {
      guard let text = definition.fallback else { continue }
      switch Result(catching: { () throws(ValueFault) in try definition.kind.read(text) }) {
      case .success(let value): values.entries[definition.name]?.value = value
      case .failure(let fault):
        preconditionFailure("the default of \(definition.name) is no value of its kind: \(fault.message)")
      }
    }
  }

  private mutating func readArguments(_ arguments: [String]) {
    var index = 0
    var engineFlags: [String] = []
    while index < arguments.count {
      let argument = arguments[index]
      index += 1
      if argument == "--" {
        if table.passThroughHelp == nil { fault(nil, "nothing may follow '--' here") }
        values.passThrough = engineFlags + arguments[index...]
        return
      }
      if argument.hasPrefix("-"), argument != "-" {
        index += readFlag(argument, arguments[index...], &engineFlags)
      } else {
        readPositional(argument)
      }
    }
    values.passThrough = engineFlags
  }

  private mutating func readPositional(_ argument: String) {
    let names = table.subcommands.map(\.name)
    if values.subcommand == nil, names.contains(argument) {
      values.subcommand = argument
      if argument == "help" { values.request = .help }
      if argument == "version" { values.request = .version }
      return
    }
    fault(nil, "unexpected argument '\(argument)'" + hint(argument, among: names))
  }

  /// Reads one flag and returns how many of `rest` it took.
  private mutating func readFlag(
    _ argument: String, _ rest: ArraySlice<String>, _ engineFlags: inout [String]
  ) -> Int {
    let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    let isLong = argument.hasPrefix("--")
    let name = String(parts[0].dropFirst(isLong ? 2 : 1))
    let inline = parts.count == 2 ? String(parts[1]) : nil
    if isLong, let definition = definition(flag: name) {
      return readDefined(definition, as: name, inline, rest)
    }
    if isLong, name.hasPrefix("no-"), let definition = definition(flag: String(name.dropFirst(3))),
      case .boolean = definition.kind
    {
      if inline != nil { fault(nil, "--\(name) takes no value") }
      set(definition, .boolean(false), from: .flag(name))
      return 0
    }
    if let taken = readBuiltIn(name, isLong, inline, rest) { return taken }
    if let foreign = foreign(name, isLong: isLong) {
      return readForeign(foreign, argument, inline, rest, &engineFlags)
    }
    fault(nil, "unknown flag \(parts[0])" + hint(name, among: flagNames, prefix: "--"))
    // Whatever follows was meant for the unknown flag: reporting it too would only hide the cause.
    return inline == nil && rest.first.map { !$0.hasPrefix("-") } == true ? 1 : 0
  }

  private mutating func readDefined(
    _ definition: SettingDefinition, as flag: String, _ inline: String?, _ rest: ArraySlice<String>
  ) -> Int {
    if definition.flag != flag, let newer = definition.flag {
      warn("flag --\(flag) is an older name of --\(newer)")
    }
    if case .boolean = definition.kind {
      guard let inline else {
        set(definition, .boolean(true), from: .flag(flag))
        return 0
      }
      read(definition, inline, from: .flag(flag))
      return 0
    }
    if let inline {
      if inline.isEmpty { fault(nil, "--\(flag) needs a value") }
      read(definition, inline, from: .flag(flag))
      return 0
    }
    guard let next = rest.first, !next.hasPrefix("--"), !next.isEmpty else {
      fault(nil, "--\(flag) needs a value")
      return rest.first?.isEmpty == true ? 1 : 0
    }
    read(definition, next, from: .flag(flag))
    return 1
  }

  private mutating func readBuiltIn(
    _ name: String, _ isLong: Bool, _ inline: String?, _ rest: ArraySlice<String>
  ) -> Int? {
    switch (name, isLong) {
    case ("help", true), ("h", false): values.request = .help
    case ("version", true): values.request = .version
    case ("dump", true): values.request = .dump
    case ("config", true):
      guard let path = inline ?? rest.first, !path.isEmpty, inline != nil || !path.hasPrefix("--") else {
        fault(nil, "--config needs a value")
        return 0
      }
      configurationFlag = path
      return inline == nil ? 1 : 0
    default: return nil
    }
    return 0
  }

  private mutating func readForeign(
    _ foreign: ForeignFlag, _ argument: String, _ inline: String?, _ rest: ArraySlice<String>,
    _ engineFlags: inout [String]
  ) -> Int {
    var taken: [String] = []
    if foreign.takesValue, inline == nil, let next = rest.first, !next.hasPrefix("--") { taken.append(next) }
    switch foreign.answer {
    case .warn: warn("flag --\(foreign.flag) is accepted and has no effect here")
    case .pass: engineFlags += [argument] + taken
    case .refuse(let reason): fault(.flag(foreign.flag), reason)
    }
    return taken.count
  }

  private mutating func readEnvironment(_ environment: [String: String]) {
    for definition in table.definitions {
      for name in [definition.environment] + definition.olderEnvironment {
        guard let text = environment[name], !text.isEmpty else { continue }
        if name != definition.environment {
          warn("environment variable \(name) is an older name of \(definition.environment)")
        }
        read(definition, text, from: .environment(name))
        break
      }
    }
    for foreign in table.foreign {
      guard let name = foreign.environment, let text = environment[name], !text.isEmpty else { continue }
      answerForeign(foreign, name: name, from: .environment(name))
    }
    for warning in MisspeltVariables.warnings(in: environment, of: table) { warn(warning) }
  }

  private mutating func readConfiguration(
    environment: [String: String], _ readFile: (String) -> ConfigurationText
  ) {
    let variable = environment[Self.configurationVariable].flatMap { $0.isEmpty ? nil : $0 }
    guard let path = configurationFlag ?? variable else { return }
    values.configurationPath = path
    switch readFile(path) {
    case .failed(let reason):
      fault(nil, "configuration file \(path): \(reason)")
    case .text(let text):
      let file = ConfigurationFile(text)
      for (line, message) in file.faults { fault(.file(path: path, line: line), message) }
      // Backwards, because the last assignment of a key counts and the first one seen here wins.
      for line in file.lines.reversed() { readLine(line, path) }
    }
  }

  private mutating func readLine(_ line: ConfigurationLine, _ path: String) {
    let origin = SettingOrigin.file(path: path, line: line.line)
    if let definition = table.definitions.first(where: {
      $0.environment == line.key || $0.olderEnvironment.contains(line.key)
    }) {
      if !line.value.isEmpty { read(definition, line.value, from: origin) }
    } else if let foreign = table.foreign.first(where: { $0.environment == line.key }) {
      if !line.value.isEmpty { answerForeign(foreign, name: line.key, from: origin) }
    } else {
      // Rooms read some variables by themselves: OpenTelemetry's, and the buckets of metrics.
      if values.otherVariables[line.key] == nil { values.otherVariables[line.key] = line.value }
      guard !line.key.hasPrefix("OTEL_"), !line.key.hasPrefix("DYN_METRICS_") else { return }
      // The file may serve several programs, so a name that is not ours is no fault.
      warn(
        "\(origin): \(line.key) is no setting" + hint(line.key, among: table.definitions.map(\.environment)))
    }
  }

  private mutating func answerForeign(_ foreign: ForeignFlag, name: String, from origin: SettingOrigin) {
    switch foreign.answer {
    case .warn: warn("\(name) is accepted and has no effect here")
    case .pass: break
    case .refuse(let reason): fault(origin, reason)
    }
  }

  // MARK: Values

  private mutating func read(_ definition: SettingDefinition, _ text: String, from origin: SettingOrigin) {
    if text.isEmpty || isDecided(definition, against: origin) { return }
    do throws(ValueFault) {
      set(definition, try definition.kind.read(text), from: origin)
    } catch {
      let shown = definition.isSecret ? "the value is not understood" : error.message
      if definition.isLenient {
        warn("\(origin): \(shown); ignored")
      } else {
        fault(origin, shown)
      }
    }
  }

  /// True when a stronger source has spoken, so that weaker text is not even read: a flag mends a bad variable.
  private func isDecided(_ definition: SettingDefinition, against origin: SettingOrigin) -> Bool {
    if case .flag = origin { return false }
    if case .fallback = values.origin(definition.name) { return false }
    return true
  }

  /// Stores a value; flags of a list add up, of the rest the last one counts.
  private mutating func set(
    _ definition: SettingDefinition, _ value: SettingValue, from origin: SettingOrigin
  ) {
    var value = value
    if case .flag = origin, case .flag = values.origin(definition.name),
      case .list(let items) = value, case .list(let earlier)? = values.value(definition.name)
    {
      value = .list(earlier + items)
    }
    values.entries[definition.name]?.value = value
    values.entries[definition.name]?.origin = origin
  }

  private mutating func fault(_ origin: SettingOrigin?, _ message: String) {
    faults.append(SettingsFault(origin: origin, message: message))
  }

  private mutating func warn(_ text: String) {
    if warned.insert(text).inserted { values.warnings.append(text) }
  }

  // MARK: Names

  private func definition(flag: String) -> SettingDefinition? {
    table.definitions.first { $0.flag == flag || $0.olderFlags.contains(flag) }
  }

  private func foreign(_ name: String, isLong: Bool) -> ForeignFlag? {
    table.foreign.first { foreign in
      guard isLong else { return foreign.short == name }
      return foreign.flag == name || !foreign.takesValue && "no-\(foreign.flag)" == name
    }
  }

  private var flagNames: [String] {
    table.definitions.flatMap { definition -> [String] in
      guard let flag = definition.flag else { return [] }
      if case .boolean = definition.kind { return [flag, "no-\(flag)"] }
      return [flag]
    } + ["help", "version", "config", "dump"]
  }
}
