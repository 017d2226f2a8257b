// The inner loop of a stream: whole events pass on as they come, counted, and one kind of them is withheld.

internal import Base
internal import HTTP
internal import OpenAI
internal import Transport

/// Finds the events in a worker's stream and gives the caller its bytes. An incomplete event waits for its rest, so that
/// a comment or an error can always go between events.
struct StreamRelay: ~Copyable {
  /// Longest event that is held back until it is whole; from a longer one on the stream passes unread.
  static let eventBytesMax = 1 << 20

  private var scanner = SSEScanner()
  private var inspector = ChunkInspector()
  private var tail = ByteBuffer()
  /// True once an event was too long to follow.
  private(set) var isBlind = false
  /// Whether a usage-only chunk was asked for by us and not by the caller.
  var withholdsUsage = false
  /// The stream's end is not passed on: something is to be said before it.
  var holdsDone = false
  /// Token-bearing chunks so far.
  private(set) var tokenCount = 0
  private(set) var sawDone = false
  /// True when the worker itself reported an error in the stream.
  private(set) var sawError = false

  /// The usage that the worker told last.
  var usage: Usage? { inspector.usage }

  /// True when some choice said why it ended.
  var hasFinished: Bool {
    if case .none = inspector.finishReason { return false }
    return true
  }

  /// The finish reason that the worker told last.
  var finishReason: CompletionFinish { inspector.finishReason }

  /// Takes decoded body bytes and sends what the caller gets of them. Returns how many tokens they brought.
  mutating func relay(_ bytes: UnsafeRawBufferPointer, to exchange: any ServerExchange) -> Int {
    let before = tokenCount
    var position = 0
    if isBlind {
      exchange.send(bytes)
    } else if tail.isEmpty {
      scan(bytes, &position, exchange)
      if position < bytes.count { tail.append(bytes.slice(position..<bytes.count)) }
    } else {
      tail.append(bytes)
      scan(tail.readable, &position, exchange)
      tail.consume(position)
      if tail.isEmpty { tail.release() }
    }
    if tail.count > Self.eventBytesMax {
      isBlind = true
      flush(to: exchange)
    }
    return tokenCount - before
  }

  /// Sends what never became a whole event; for the stream's end.
  mutating func flush(to exchange: any ServerExchange) {
    guard !tail.isEmpty else { return }
    exchange.send(tail.readable)
    tail.release()
  }

  private mutating func scan(
    _ bytes: UnsafeRawBufferPointer, _ position: inout Int, _ exchange: any ServerExchange
  ) {
    var unsent = position
    while position < bytes.count, let event = scanner.next(bytes, from: &position) {
      guard let data = event.data else { continue }
      switch inspector.inspect(data) {
      case .token:
        tokenCount += 1
      case .done:
        sawDone = true
        if holdsDone {
          exchange.send(bytes.slice(unsent..<event.whole.lowerBound))
          unsent = position
        }
      case .error:
        sawError = true
      case .usageOnly where withholdsUsage:
        exchange.send(bytes.slice(unsent..<event.whole.lowerBound))
        unsent = position
      case .usageOnly, .other:
        break
      }
    }
    if unsent < position { exchange.send(bytes.slice(unsent..<position)) }
  }
}
