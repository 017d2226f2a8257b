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

/// Records what the cache gains and loses, all events of a step together.
final class BlockRecorder: BlockObserver {
  enum Event: Equatable {
    case stored(StoredBlocks), removed(UInt64), cleared
  }

  private(set) var events: [Event] = []
  /// The events of each step that had any.
  private(set) var batches: [[Event]] = []
  private var open: [Event] = []

  var stored: [StoredBlocks] {
    events.compactMap { if case .stored(let blocks) = $0 { blocks } else { nil } }
  }
  var removed: [UInt64] {
    events.compactMap { if case .removed(let hash) = $0 { hash } else { nil } }
  }

  func stored(_ blocks: StoredBlocks) { take(.stored(blocks)) }
  func removed(hash: UInt64) { take(.removed(hash)) }
  func cleared() { take(.cleared) }

  func stepScheduled() {
    if !open.isEmpty { batches.append(open) }
    open = []
  }

  private func take(_ event: Event) {
    events.append(event)
    open.append(event)
  }
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
