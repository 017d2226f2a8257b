// The supervised engine: started with its arguments, started again, ended with all its children.

import Base
import Foundation
import Telemetry
import Testing

@testable import WorkerServer

@Suite struct EngineProcessTests {
  /// A named pipe: a reader waits for each writer, so nothing sleeps.
  private final class Pipe {
    let path = NSTemporaryDirectory() + "engine-\(UInt64.random(in: 0...UInt64.max))"

    init() { mkfifo(path, 0o600) }

    deinit { unlink(path) }

    func read() -> String {
      let descriptor = open(path, O_RDONLY)
      defer { close(descriptor) }
      var text: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 256)
      while true {
        let count = Foundation.read(descriptor, &buffer, buffer.count)
        if count <= 0 { return String(decoding: text, as: UTF8.self) }
        text += buffer[..<count]
      }
    }
  }

  private let lines = LineCollector()

  private func engine(
    _ command: String, _ arguments: [String] = [], _ edit: (inout EngineProcess.Limits) -> Void = { _ in }
  ) throws -> EngineProcess {
    var limits = EngineProcess.Limits()
    limits.backoffFirst = millisecond
    limits.backoffMax = millisecond
    edit(&limits)
    let logs = LogOutput(configuration: LogConfiguration(format: .jsonl), sink: lines) { 0 }
    return try EngineProcess(
      command: command, arguments: arguments, logger: logs.logger("test"), limits: limits)
  }

  @Test func theCommandGetsItsArgumentsUnread() throws {
    let pipe = Pipe()
    let engine = try engine(
      "sh -c 'echo \"$@\" > \(pipe.path); exec sleep 1000' sh", ["--flag", "a b", "$HOME"])
    try engine.start()
    #expect(pipe.read() == "--flag a b $HOME\n")
    engine.stop()
  }

  @Test func anEngineThatDiesIsStartedAgain() throws {
    let pipe = Pipe()
    let engine = try engine("sh -c 'echo up > \(pipe.path); exit 3'")
    try engine.start()
    // Two starts may meet one reader.
    var seen = ""
    while seen.count < 3 * 3 { seen += pipe.read() }
    engine.stop()
    #expect(
      lines.lines.contains { $0.contains("engine ended and is started again") && $0.contains("exit 3") })
  }

  @Test func stopEndsTheWholeGroupOnce() throws {
    let pipe = Pipe()
    // The grandchild holds the writing end: its end is the pipe's end.
    let engine = try engine("sh -c 'sleep 1000 > \(pipe.path) & wait'")
    try engine.start()
    let descriptor = open(pipe.path, O_RDONLY)
    defer { close(descriptor) }
    engine.stop()
    engine.stop()
    var byte: UInt8 = 0
    #expect(Foundation.read(descriptor, &byte, 1) == 0)
  }

  @Test func anEngineThatIgnoresTheSignalIsKilled() throws {
    let pipe = Pipe()
    let engine = try engine(
      "sh -c 'trap \"\" TERM; echo up > \(pipe.path); while :; do read x; done' < /dev/zero"
    ) {
      $0.endTimeout = 50 * millisecond
    }
    try engine.start()
    _ = pipe.read()
    engine.stop()
    #expect(lines.lines.contains { $0.contains("killed") })
  }

  @Test func whatTheEngineWritesBecomesLinesOfTheLog() throws {
    let pipe = Pipe()
    let engine = try engine(
      "sh -c 'echo INFO 11-22 up; echo \"WARNING: slow\" >&2; printf \"no end\"; echo x > \(pipe.path); exec sleep 1000'"
    )
    try engine.start()
    _ = pipe.read()
    engine.stop()
    let written = lines.lines
    #expect(written.contains { $0.contains("INFO 11-22 up") && $0.contains("\"level\":\"INFO\"") })
    #expect(written.contains { $0.contains("WARNING: slow") && $0.contains("\"level\":\"WARN") })
    #expect(written.contains { $0.contains("no end") })
  }

  @Test func whatADeadEngineLeftBehindIsEndedBeforeTheNextStart() throws {
    let pipe = Pipe()
    // Opened before there is a child: only the end of the child that it left closes the pipe.
    let engine = try engine("sh -c 'exec 3> \(pipe.path); sleep 1000 & exit 3'") {
      $0.backoffFirst = 1_000 * second
    }
    try engine.start()
    #expect(pipe.read() == "")
    engine.stop()
  }

  @Test func whatADeadEngineLeftBehindMayPutThingsInOrder() throws {
    let pipe = Pipe()
    let ready = Pipe()
    // The child tells that its trap is set before its leader ends, and writes its last words from the trap.
    let engine = try engine(
      "sh -c '(trap \"echo saved >&3; exit\" TERM; exec 3> \(pipe.path); echo up > \(ready.path); while :; do sleep 0.01; done) & read x < \(ready.path); exit 3'"
    ) {
      $0.backoffFirst = 1_000 * second
    }
    try engine.start()
    #expect(pipe.read() == "saved\n")
    engine.stop()
    #expect(!lines.lines.contains { $0.contains("is killed") })
  }

  @Test func whatADeadEngineLeftBehindIsKilledWhenItDoesNotEnd() throws {
    let pipe = Pipe()
    let ready = Pipe()
    let engine = try engine(
      "sh -c '(trap \"\" TERM; exec 3> \(pipe.path); echo up > \(ready.path); while :; do sleep 0.01; done) & read x < \(ready.path); exit 3'"
    ) {
      $0.backoffFirst = 1_000 * second
      $0.endTimeout = 50 * millisecond
    }
    try engine.start()
    #expect(pipe.read() == "")
    engine.stop()
    #expect(lines.lines.contains { $0.contains("left behind did not end") })
  }
}

@Suite struct EngineLinesTests {
  private func lines(_ pieces: [String]) -> [String] {
    var lines = EngineLines()
    var told: [String] = []
    for piece in pieces { Array(piece.utf8).withUnsafeBytes { lines.receive($0) { told.append($0) } } }
    lines.end { told.append($0) }
    return told
  }

  @Test func linesAreTheSameHoweverTheyCome() {
    let text = "one\r\n\ntwo 25%\rtwo 50%\nlast"
    for split in 0...text.count {
      #expect(
        lines([String(text.prefix(split)), String(text.dropFirst(split))])
          == ["one", "two 25%", "two 50%", "last"])
    }
  }

  @Test func aLongLineIsCut() {
    let told = lines([String(repeating: "x", count: EngineLines.lineBytesMax + 9) + "\nnext\n"])
    #expect(told == [String(repeating: "x", count: EngineLines.lineBytesMax) + "…", "next"])
  }

  @Test(arguments: [
    ("INFO 11-22 10:00:00 [api_server.py:1] up", "info"),
    ("(EngineCore_0 pid=1) ERROR 11-22 [core.py] no", "error"),
    ("[2026-11-22 10:00:00] WARNING server", "warning"), ("DEBUG: x", "debug"), ("an ERRORLESS line", "info"),
    ("plain", "info"), ("", "info"),
  ])
  func theLevelIsTheOneThatTheLineNames(line: String, level: String) {
    #expect("\(EngineLines.level(of: line))" == level)
  }
}
