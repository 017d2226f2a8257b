// The log filter, its environment, and the swift-log façade.

import Base
import Logging
import Testing

@testable import Telemetry

@Suite struct LogConfigurationTests {
  private func read(_ environment: [String: String]) -> LogConfiguration {
    LogConfiguration(environment: environment)
  }

  @Test func infoIsTheDefault() {
    let configuration = read([:])
    #expect(configuration.isEnabled(.info, target: "anything"))
    #expect(!configuration.isEnabled(.debug, target: "anything"))
    if case .jsonl = configuration.format { Issue.record("readable is the default form") }
  }

  @Test(arguments: [
    (["DYN_LOGGING_JSONL": "true"], true), (["DYN_LOGGING_JSONL": "ON"], true),
    (["DYN_LOGGING_JSONL": "1"], true),
    (["DYN_LOGGING_JSONL": "0"], false), (["DYN_LOGGING_CONSOLE_FORMAT": "jsonl"], true),
    (["DYN_LOGGING_CONSOLE_FORMAT": "readable", "DYN_LOGGING_JSONL": "true"], false),
    (["DYN_LOGGING_CONSOLE_FORMAT": "xml", "DYN_LOGGING_JSONL": "true"], true),
  ]) func theFormFollowsDynamosVariables(_ environment: [String: String], _ isJSON: Bool) {
    let configuration = read(environment)
    if case .jsonl = configuration.format { #expect(isJSON) } else { #expect(!isJSON) }
    #expect(configuration.warnings.isEmpty == (environment["DYN_LOGGING_CONSOLE_FORMAT"] != "xml"))
  }

  @Test func theLongestTargetDecides() {
    let configuration = read(["DYN_LOG": "warn, dynamo_frontend=debug,dynamo_frontend::http:error,other=off"])
    #expect(configuration.isEnabled(.warn, target: "x") && !configuration.isEnabled(.info, target: "x"))
    #expect(configuration.isEnabled(.debug, target: "dynamo_frontend::router"))
    #expect(!configuration.isEnabled(.warn, target: "dynamo_frontend::http"))
    #expect(configuration.isEnabled(.error, target: "dynamo_frontend::http"))
    #expect(!configuration.isEnabled(.error, target: "other"))
    #expect(configuration.warnings.isEmpty)
  }

  @Test func namingOnlyTargetsSilencesTheRest() {
    let configuration = read(["DYN_LOG": "dynamo_frontend=trace"])
    #expect(!configuration.isEnabled(.error, target: "other"))
    #expect(configuration.isEnabled(.trace, target: "dynamo_frontend"))
  }

  @Test(arguments: ["inof", "[span]=info", "a=loud", "=info", "a[x=y]=debug"])
  func whatCannotBeReadIsWarnedOf(_ filter: String) {
    let configuration = read(["DYN_LOG": filter])
    #expect(configuration.warnings.count == 1)
    #expect(configuration.isEnabled(.info, target: "x") && !configuration.isEnabled(.debug, target: "x"))
    #expect(read(["DYN_LOG": "debug," + filter]).isEnabled(.debug, target: "x"))
  }

  @Test func theLaterOfTwoDirectivesHoldsAndTheirNumberIsBounded() {
    #expect(read(["DYN_LOG": "a=error,a=debug"]).isEnabled(.debug, target: "a"))
    let many = (0..<100).map { "t\($0)=debug" }.joined(separator: ",")
    let configuration = read(["DYN_LOG": many])
    #expect(configuration.directives.count == 64)
    #expect(configuration.warnings.count == 36)
  }

  @Test(arguments: [
    ("1", true), ("true", true), ("On", true), ("YES", true), ("0", false), ("", false), ("2", false),
  ]) func truthIsDynamos(_ text: String, _ truth: Bool) {
    #expect(EnvironmentName.isTrue(text) == truth)
    #expect(!EnvironmentName.isTrue(nil))
  }
}

@Suite struct TelemetryLogHandlerTests {
  private struct Failure: Error, CustomStringConvertible {
    var description: String { "it broke" }
  }

  private func output(_ filter: String = "trace") -> (LogOutput, Collector) {
    let sink = Collector()
    var configuration = LogConfiguration(format: .jsonl)
    configuration.apply(filter: filter)
    return (LogOutput(configuration: configuration, sink: sink) { 1_763_634_662_000_000_000 }, sink)
  }

  @Test func metadataBecomesSortedTypedFields() {
    let (output, sink) = output()
    var logger = output.logger("dynamo_frontend")
    logger[metadataKey: "zone"] = "eu"
    logger.warning(
      "worker \"w\" left",
      metadata: [
        "count": .stringConvertible(3), "share": .stringConvertible(0.5), "ok": .stringConvertible(true),
        "large": .stringConvertible(UInt64.max), "small": .stringConvertible(UInt8(7)), "list": ["a", "b"],
        "message": "taken", "level": .stringConvertible(Failure()), "zone": "us",
      ])
    #expect(
      sink.text == """
        {"time":"2025-11-20T10:31:02.000000Z","level":"WARN","target":"dynamo_frontend",\
        "message":"worker \\"w\\" left","count":3,"field.level":"it broke","field.message":"taken",\
        "large":"18446744073709551615","list":"[\\"a\\", \\"b\\"]","ok":true,"share":0.5,"small":7,"zone":"us"}

        """)
  }

  @Test func levelsMapToDynamosFive() {
    let (output, sink) = output()
    let logger = output.logger("t")
    for level in Logger.Level.allCases { logger.log(level: level, "m") }
    let levels = sink.text.split(separator: "\n").compactMap { $0.split(separator: "\"").dropFirst(7).first }
    #expect(levels == ["TRACE", "DEBUG", "INFO", "INFO", "WARN", "ERROR", "ERROR"])
  }

  @Test func theFilterHoldsForTheFacade() {
    let (output, sink) = output("info,quiet=error,silent=off")
    output.logger("t").debug("no")
    output.logger("quiet").warning("no")
    output.logger("silent").critical("no")
    #expect(sink.text.isEmpty)
    output.logger("quiet").error("yes")
    #expect(sink.text.contains("\"yes\""))
  }

  @Test func loggersFollowANewFilterAndKeepTheirForm() {
    let (output, sink) = output("warn")
    let logger = output.logger("t")
    var chosen = output.logger("t")
    chosen.logLevel = .error
    logger.info("no")
    var configuration = LogConfiguration(format: .readable)
    configuration.apply(filter: "debug,quiet=off")
    output.adoptFilter(of: configuration)
    logger.debug("yes")
    #expect(sink.text.contains("\"message\":\"yes\""))
    #expect(output.isEnabled(.debug, target: "t") && !output.isEnabled(.error, target: "quiet"))
    #expect(logger.logLevel == .debug)
    chosen.warning("below what was chosen")
    output.logger("quiet").critical("silenced")
    configuration.apply(filter: "off")
    output.adoptFilter(of: configuration)
    logger.critical("silenced")
    #expect(!sink.text.contains("no\"") && !sink.text.contains("silenced") && !sink.text.contains("below"))
  }

  @Test func errorsAndProvidedMetadataAppear() {
    let (output, sink) = output()
    var handler = TelemetryLogHandler(target: "t", output: output)
    handler.metadataProvider = Logger.MetadataProvider { ["provided": "p"] }
    handler[metadataKey: "own"] = "o"
    #expect(handler[metadataKey: "own"] == "o")
    let logger = Logger(label: "t") { _ in handler }
    logger.error("m", error: Failure())
    #expect(sink.text.contains("\"error\":\"it broke\",\"own\":\"o\",\"provided\":\"p\"}"))
  }

  @Test func lostLinesAreReportedAsALine() {
    let line = LogOutput.droppedLine(3, configuration: LogConfiguration(format: .jsonl), at: 0)
    #expect(
      String(decoding: line, as: UTF8.self) == """
        {"time":"1970-01-01T00:00:00.000000Z","level":"WARN","target":"dynamo_telemetry::logging",\
        "message":"log lines were dropped","count":3}

        """)
  }
}
