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
}
