// Where values come from, which source wins, and what is refused.

import Base
import Testing

@testable import Settings

private let table = SettingsTable(
  program: "sample", summary: "a sample", subcommands: [.init("doctor", "Check.")],
  definitions: [
    SettingDefinition("port", "S_PORT", .integer(0...65535), fallback: "8000", group: "A", "Port."),
    SettingDefinition("host", "S_HOST", .string, group: "A", olderEnvironment: ["S_OLD_HOST"], "Host."),
    SettingDefinition("ratio", "S_RATIO", .number(0...1), fallback: "0.5", group: "A", "Ratio."),
    SettingDefinition("events", "S_EVENTS", .boolean, fallback: "true", group: "B", "Events."),
    SettingDefinition("wait", "S_WAIT", .duration(unit: second), fallback: "2", group: "B", "Wait."),
    SettingDefinition("worker", "S_WORKERS", .list, group: "B", "Workers."),
    SettingDefinition(
      "mode", "S_MODE", .choice(["kv", "round-robin"]), fallback: "kv", group: "B", olderFlags: ["policy"],
      "Mode."),
    SettingDefinition(nil, "S_ONLY", .integer(1...9), group: "B", lenient: true, "Only by variable."),
    SettingDefinition(nil, "S_KEY", .string, group: "B", secret: true, "A secret."),
  ],
  foreign: [
    ForeignFlag("plane", "S_PLANE"), ForeignFlag("chatty", short: "c", takesValue: false),
    ForeignFlag("eager", takesValue: false, answer: .pass), ForeignFlag("dtype", answer: .pass),
    ForeignFlag("tls", "S_TLS", answer: .refuse("not safe")),
  ],
  passThroughHelp: "More.")

private func parse(
  _ arguments: [String], _ environment: [String: String] = [:], file: String? = nil
) throws(SettingsError) -> SettingsValues {
  try SettingsParser.parse(table, arguments: arguments, environment: environment) { path in
    guard let file, path == "conf" else { return .failed("no such file") }
    return .text(file)
  }
}

private func faults(
  _ arguments: [String], _ environment: [String: String] = [:], file: String? = nil
) -> [String] {
  do throws(SettingsError) {
    _ = try parse(arguments, environment, file: file)
    return []
  } catch { return error.faults.map(\.description) }
}

@Suite struct SettingsSources {
  @Test func defaultsHoldWhenNothingIsGiven() throws {
    let values = try parse([])
    #expect(values.int("port") == 8000)
    #expect(values.optionalString("host") == nil)
    #expect(values.double("ratio") == 0.5)
    #expect(values.bool("events"))
    #expect(values.duration("wait") == 2 * second)
    #expect(values.list("worker") == [])
    #expect(values.string("mode") == "kv")
    #expect(values.optionalInt("S_ONLY") == nil)
    #expect(!values.isGiven("port"))
    #expect(values.request == .run)
  }

  @Test func flagBeatsEnvironmentBeatsFileBeatsDefault() throws {
    let file = "S_PORT=1\nS_RATIO=0.1\nS_HOST=file\n"
    let values = try parse(
      ["--config", "conf", "--port=3"], ["S_PORT": "2", "S_RATIO": "0.2"], file: file)
    #expect(values.int("port") == 3)
    #expect(values.origin("port") == .flag("port"))
    #expect(values.double("ratio") == 0.2)
    #expect(values.origin("ratio") == .environment("S_RATIO"))
    #expect(values.string("host") == "file")
    #expect(values.origin("host") == .file(path: "conf", line: 3))
    #expect(values.origin("wait") == .fallback)
    #expect(values.configurationPath == "conf")
  }

  @Test func bothWritingsOfAFlagWork() throws {
    #expect(try parse(["--port", "1"]).int("port") == 1)
    #expect(try parse(["--port=1"]).int("port") == 1)
    #expect(try parse(["--host=a=b"]).string("host") == "a=b")
    #expect(try parse(["--port", "1", "--port", "2"]).int("port") == 2)
  }

  @Test func emptyEnvironmentValueIsUnset() throws {
    let values = try parse([], ["S_PORT": "", "S_OLD_HOST": "old"])
    #expect(values.int("port") == 8000)
    #expect(values.string("host") == "old")
    #expect(values.warnings == ["environment variable S_OLD_HOST is an older name of S_HOST"])
  }

  @Test func booleansTurnOnAndOff() throws {
    #expect(try !parse(["--no-events"]).bool("events"))
    #expect(try parse(["--events"], ["S_EVENTS": "off"]).bool("events"))
    #expect(try !parse(["--events=No"]).bool("events"))
    #expect(try !parse([], ["S_EVENTS": "FALSE"]).bool("events"))
    #expect(faults([], ["S_EVENTS": "maybe"]) == ["environment S_EVENTS: 'maybe' is neither true nor false"])
  }

  @Test func listFlagsAddUpAndBeatTheEnvironment() throws {
    let values = try parse(["--worker", "a", "--worker=b,c"], ["S_WORKERS": "x, y"])
    #expect(values.list("worker") == ["a", "b", "c"])
    #expect(try parse([], ["S_WORKERS": " x, ,y "]).list("worker") == ["x", "y"])
  }

  @Test(arguments: [
    ("5", 5 * second), ("0.5", second / 2), ("250ms", 250 * millisecond), ("2m", 120 * second),
    ("1h", 3600 * second),
    ("0", 0),
  ])
  func durationsTakeUnits(_ text: String, _ expected: Nanoseconds) throws {
    #expect(try parse(["--wait", text]).duration("wait") == expected)
  }

  @Test func foreignFlagsAreAcceptedWithOneWarningEach() throws {
    let values = try parse(["--plane", "tcp", "--plane=nats", "--chatty", "-c", "--no-chatty", "--port", "1"])
    #expect(
      values.warnings == [
        "flag --plane is accepted and has no effect here", "flag --chatty is accepted and has no effect here",
      ])
    #expect(values.int("port") == 1)
    #expect(try parse([], ["S_PLANE": "x"]).warnings == ["S_PLANE is accepted and has no effect here"])
  }

  @Test func engineFlagsAndTheRestArePassedThrough() throws {
    let values = try parse(["--eager", "--dtype", "half", "--dtype=bf16", "--", "--port", "x"])
    #expect(values.passThrough == ["--eager", "--dtype", "half", "--dtype=bf16", "--port", "x"])
    #expect(values.warnings == [])
    #expect(values.int("port") == 8000)
  }

  @Test func subcommandAndRequestsAreRecognised() throws {
    #expect(try parse(["doctor", "--port", "1"]).subcommand == "doctor")
    #expect(try parse(["--help", "--bad"]).request == .help)
    #expect(try parse(["-h"]).request == .help)
    #expect(try parse(["--version"]).request == .version)
    #expect(try parse(["--dump"]).request == .dump)
  }

  @Test func olderFlagNamesWorkWithAWarning() throws {
    let values = try parse(["--policy", "ROUND-robin"])
    #expect(values.string("mode") == "round-robin")
    #expect(values.warnings == ["flag --policy is an older name of --mode"])
  }

  @Test func badLenientValueIsIgnoredWithAWarning() throws {
    let values = try parse([], ["S_ONLY": "12"])
    #expect(values.optionalInt("S_ONLY") == nil)
    #expect(values.warnings == ["environment S_ONLY: 12 is not from 1 to 9; ignored"])
  }
}

@Suite struct SettingsFaults {
  @Test func allFaultsAreReportedTogetherWithTheirOrigin() {
    let file = "S_MODE=fast\nnonsense\nS_WAIT='1\n"
    #expect(
      faults(["--prot", "1", "--config=conf", "stop", "--ratio"], ["S_PORT": "70000"], file: file) == [
        "unknown flag --prot (did you mean --port?)",
        "unexpected argument 'stop'",
        "--ratio needs a value",
        "environment S_PORT: 70000 is not from 0 to 65535",
        "conf:2: not KEY=VALUE",
        "conf:3: S_WAIT: the quote is not closed",
        "conf:1: 'fast' is none of kv, round-robin",
      ])
  }

  @Test func hintsNameTheNearestFlag() {
    #expect(faults(["--no-evnets"]) == ["unknown flag --no-evnets (did you mean --no-events?)"])
    #expect(faults(["--zzzzzz=1"]) == ["unknown flag --zzzzzz"])
    #expect(faults(["doctro"]) == ["unexpected argument 'doctro' (did you mean doctor?)"])
  }

  @Test func missingAndEmptyValuesAreRefused() {
    #expect(faults(["--port"]) == ["--port needs a value"])
    #expect(faults(["--port", "--host", "x"]) == ["--port needs a value"])
    #expect(faults(["--port="]) == ["--port needs a value"])
    #expect(faults(["--port", ""]) == ["--port needs a value"])
    #expect(faults(["--config"]) == ["--config needs a value"])
    #expect(faults(["--no-events=1"]) == ["--no-events takes no value"])
  }

  @Test func wrongValuesNameTheirKind() {
    #expect(faults(["--port", "-1"]) == ["flag --port: -1 is not from 0 to 65535"])
    #expect(faults(["--port", "8x"]) == ["flag --port: '8x' is not a whole number"])
    #expect(faults(["--ratio", "nan"]) == ["flag --ratio: 'nan' is not a number"])
    #expect(faults(["--ratio", "2"]) == ["flag --ratio: 2 is not from 0.0 to 1.0"])
    #expect(faults(["--wait", "5 parsecs"]).count == 1)
    #expect(faults(["--wait", "-1"]).count == 1)
    #expect(faults(["--wait", "999999999h"]) == ["flag --wait: '999999999h' is too long"])
  }

  @Test func unreadableFileIsAFault() {
    #expect(faults(["--config", "gone"]) == ["configuration file gone: no such file"])
    #expect(faults([], ["DYN_CONFIG": "gone"]) == ["configuration file gone: no such file"])
  }

  @Test func unsafeFlagsAreRefusedFromEverySource() {
    #expect(faults(["--tls", "x"]) == ["flag --tls: not safe"])
    #expect(faults([], ["S_TLS": "x"]) == ["environment S_TLS: not safe"])
    #expect(faults(["--config=conf"], file: "S_TLS=x") == ["conf:1: not safe"])
  }

  @Test func flagMendsABadVariable() {
    #expect(faults(["--port", "1"], ["S_PORT": "x"]) == [])
  }

  @Test func secretsAreNeverPrinted() throws {
    let values = try parse([], ["S_KEY": "hunter2"])
    #expect(!values.reportText.contains("hunter2"))
    #expect(values.report.last?.value == "(set, not shown)")
  }
}

@Suite struct ConfigurationFiles {
  @Test func quotesCommentsAndExportsAreUnderstood() {
    let file = ConfigurationFile(
      """
      # comment
      export A=1

      B = two words # comment
      C="a \\"b\\" \\\\ \\$x # no comment" # comment
      D='raw \\n "x"'
      E=
      F=http://h/#frag
      """)
    #expect(file.faults.isEmpty)
    #expect(file.lines.map(\.key) == ["A", "B", "C", "D", "E", "F"])
    #expect(
      file.lines.map(\.value) == [
        "1", "two words", "a \"b\" \\ $x # no comment", "raw \\n \"x\"", "", "http://h/#frag",
      ])
    #expect(file.lines.map(\.line) == [2, 4, 5, 6, 7, 8])
  }

  @Test func brokenLinesAreFaultsWithTheirNumber() {
    let file = ConfigurationFile("A\n1B=2\nC=\"x\nD='y' z\r\nE=5")
    #expect(file.faults.map(\.line) == [1, 2, 3, 4])
    #expect(file.lines == [ConfigurationLine(key: "E", value: "5", line: 5)])
  }

  @Test func lastAssignmentCountsAndUnknownKeysWarn() throws {
    let values = try parse(["--config=conf"], file: "S_PORT=1\nS_PROT=7\nS_PORT=2\n")
    #expect(values.int("port") == 2)
    #expect(values.warnings == ["conf:2: S_PROT is no setting (did you mean S_PORT?)"])
  }
}
