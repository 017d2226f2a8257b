// The log thread, with a pipe for its terminal.

import Base
import Glibc
import Testing

@testable import EventLoop

/// A pipe whose ends are closed with it.
private final class Pipe {
  let reading: Int32
  private(set) var writing: Int32

  init(nonBlocking: Bool = false) {
    var ends: [Int32] = [-1, -1]
    _ = pipe(&ends)
    reading = ends[0]
    writing = ends[1]
    if nonBlocking { _ = fcntl(writing, F_SETFL, O_NONBLOCK) }
  }

  deinit {
    close(reading)
    closeWriting()
  }

  /// Fills the pipe, so that the next write waits for a reader; returns the number of bytes it took.
  func fill() -> Int {
    let flags = fcntl(writing, F_GETFL)
    _ = fcntl(writing, F_SETFL, flags | O_NONBLOCK)
    defer { _ = fcntl(writing, F_SETFL, flags) }
    let page = [UInt8](repeating: UInt8(ascii: "f"), count: 4_096)
    var total = 0
    while true {
      let written = Glibc.write(writing, page, page.count)
      guard written > 0 else { return total }
      total += written
    }
  }

  func closeWriting() {
    if writing >= 0 { close(writing) }
    writing = -1
  }

  /// Waits for `count` bytes, or for the end when there are fewer.
  func read(_ count: Int) -> String {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while bytes.count < count {
      let received = Glibc.read(reading, &chunk, min(chunk.count, count - bytes.count))
      if received <= 0 { break }
      bytes += chunk[..<received]
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}

private func limits(_ bytes: Int = 1_048_576) -> LogWriter.Limits {
  var limits = LogWriter.Limits()
  limits.bufferBytesMax = bytes
  limits.gatherMilliseconds = 0
  return limits
}

private func write(_ text: String, to writer: LogWriter) {
  Array(text.utf8).withUnsafeBytes { writer.write($0) }
}

private let report: @Sendable (Int) -> [UInt8] = { Array("lost \($0)\n".utf8) }

@Suite struct LogWriterTests {
  @Test func linesArriveInOrderAndFlushWaitsForThem() throws {
    let pipe = Pipe()
    let writer = try LogWriter(descriptor: pipe.writing, limits: limits(), report: report)
    var expected = ""
    for index in 0..<100 {
      write("line \(index)\n", to: writer)
      expected += "line \(index)\n"
    }
    #expect(writer.flush(within: 10 * second))
    #expect(pipe.read(expected.utf8.count) == expected)
    write("again\n", to: writer)
    #expect(writer.stop(within: 10 * second))
    #expect(pipe.read(6) == "again\n")
    #expect(writer.droppedLines == 0)
  }

  @Test func aStalledReaderBlocksNobodyAndTheLossIsCountedAndReported() throws {
    let pipe = Pipe()
    let filled = pipe.fill()
    let writer = try LogWriter(descriptor: pipe.writing, limits: limits(1_000), report: report)
    let line = String(repeating: "x", count: 99) + "\n"
    // The pipe takes nothing and the buffer 1,000 bytes, twice; all else must be dropped without waiting.
    for _ in 0..<5_000 { write(line, to: writer) }
    let dropped = writer.droppedLines
    #expect(dropped >= 5_000 - 20)
    #expect(writer.flush(within: 20 * millisecond) == false)
    #expect(pipe.read(filled).utf8.count == filled)
    let text = pipe.read((5_000 - dropped) * 100)
    #expect(text.utf8.count >= (5_000 - dropped) * 100)
    write("after\n", to: writer)
    #expect(writer.stop(within: 10 * second))
    pipe.closeWriting()
    let rest = text + pipe.read(.max)
    #expect(rest.hasSuffix("after\n"))
    let reported = rest.split(separator: "\n").filter { $0.hasPrefix("lost ") }
    #expect(reported.compactMap { Int($0.dropFirst(5)) }.reduce(0, +) == dropped)
    #expect(rest.split(separator: "\n").filter { $0.hasPrefix("x") }.count == 5_000 - dropped)
  }

  @Test func aReaderThatWentAwayKillsNobody() throws {
    let pipe = Pipe()
    var ends: [Int32] = [-1, -1]
    _ = Glibc.pipe(&ends)
    close(ends[0])
    let writer = try LogWriter(descriptor: ends[1], limits: limits(), report: report)
    write("a\nb\n", to: writer)
    #expect(writer.flush(within: 10 * second))
    #expect(writer.droppedLines == 2)
    write("c\n", to: writer)
    #expect(writer.stop(within: 10 * second))
    #expect(writer.droppedLines >= 3)
    close(ends[1])
    _ = pipe
  }

  @Test func aDescriptorThatWouldBlockIsWaitedFor() throws {
    let pipe = Pipe(nonBlocking: true)
    let writer = try LogWriter(descriptor: pipe.writing, limits: limits(), report: report)
    let line = String(repeating: "y", count: 999) + "\n"
    for _ in 0..<200 { write(line, to: writer) }
    #expect(pipe.read(200_000).utf8.count == 200_000)
    #expect(writer.stop(within: 10 * second))
    #expect(writer.droppedLines == 0)
  }

  @Test func linesFromManyThreadsStayWhole() throws {
    let pipe = Pipe()
    let writer = try LogWriter(descriptor: pipe.writing, limits: limits(), report: report)
    let threads = try (0..<4).map { index in
      try Thread(name: "producer") {
        for _ in 0..<200 { write(String(repeating: "\(index)", count: 50) + "\n", to: writer) }
      }
    }
    for thread in threads { thread.join() }
    #expect(writer.stop(within: 10 * second))
    let lines = pipe.read(800 * 51).split(separator: "\n")
    #expect(lines.count == 800)
    #expect(lines.allSatisfy { $0.count == 50 && Set($0).count == 1 })
  }
}
