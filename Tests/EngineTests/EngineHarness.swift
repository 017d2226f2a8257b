// Drives a simulated engine by hand: prompts by token count, clients that write down what they hear.

import Base

@testable import Engine

/// Records one sequence's output.
final class Recorder: SequenceClient {
  private(set) var pieces: [String] = []
  private(set) var summary: SequenceSummary?
  var onToken: (() -> Void)?

  var text: String { pieces.joined() }
  var isFinished: Bool { summary != nil }

  func produced(_ text: UnsafeRawBufferPointer) {
    pieces.append(text.text)
    onToken?()
  }

  func finished(_ summary: SequenceSummary) { self.summary = summary }
}

/// Records block events.
final class BlockRecorder: BlockObserver {
  private(set) var stored: [(hash: UInt64, parent: UInt64?)] = []
  private(set) var removed: [UInt64] = []

  func stored(hash: UInt64, parent: UInt64?) { stored.append((hash, parent)) }
  func removed(hash: UInt64) { removed.append(hash) }
}

extension SimulatedEngine {
  /// A prompt of `tokens` tokens: the first `shared` the same for all, the rest told apart by `name`.
  static func prompt(_ tokens: Int, shared: Int = 0, name: UInt8 = 65) -> [UInt8] {
    (0..<tokens * 4).map { $0 < shared * 4 ? UInt8(97 + $0 % 26) : name &+ UInt8($0 % 7) }
  }

  @discardableResult
  func submit(
    _ prompt: [UInt8], to client: Recorder, at now: Nanoseconds = 0,
    _ edit: (inout EngineRequest) -> Void = { _ in }
  ) throws -> EngineSequence {
    let bytes = prompt.withUnsafeBytes { source in
      let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, source.count), alignment: 1)
      copy.copyMemory(from: source)
      return UnsafeRawBufferPointer(rebasing: copy[..<source.count])
    }
    defer { bytes.deallocate() }
    var request = EngineRequest(prompt: bytes)
    edit(&request)
    return try submit(request, client: client, now: now)
  }

  /// Advances from deadline to deadline until nothing is left to do; returns the last time.
  @discardableResult
  func drain(from now: Nanoseconds = 0) -> Nanoseconds {
    var now = now
    var turns = 0
    while let deadline = nextDeadline, turns < 100_000 {
      now = max(now, deadline)
      advance(to: now)
      turns += 1
    }
    return now
  }
}
