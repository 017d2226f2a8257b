// The inner loop of a stream: whole events pass on as they come, counted, and one kind of them is withheld.

internal import Anthropic
internal import Base
internal import HTTP
internal import OpenAI
internal import Transport

/// Why a stream cannot be told in the form of another API.
enum TranslationObstacle: String {
  case eventTooLong = "event_too_long"
  case tooManyCalls = "too_many_tool_calls"

  /// What the caller is told of the worker.
  var text: StaticString {
    switch self {
    case .eventTooLong: "an event of its stream is too long to be translated"
    case .tooManyCalls: "it called more than 128 tools in one message"
    }
  }
}

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
  /// Puts the events into the form of another API, of which the caller gets these alone; nil for almost every stream.
  private var translation: Translation?
  /// Why a translation cannot go on, which the caller was not told yet.
  private(set) var obstacle: TranslationObstacle?
  /// Keeps what another worker would need to go on; nil for almost every stream.
  var migration: Migration?
  /// Token-bearing chunks so far.
  private(set) var tokenCount = 0
  private(set) var sawDone = false
  /// True when the worker itself reported an error in the stream.
  private(set) var sawError = false

  /// Which API's stream it is.
  var form: AnswerForm {
    get { inspector.form }
    set { inspector.form = newValue }
  }

  /// The response that the stream tells of, and the number of its last event, where it is of the Responses API.
  var responseID: [UInt8] { inspector.responseID }
  var sequence: Int? { inspector.sequence }

  /// From here on the caller gets the chunks as events of Anthropic's Messages API.
  mutating func translate(id: UUID, model: String) {
    var text = ByteBuffer(capacity: 36)
    text.append(id)
    translation = Translation(MessagesStream(id: text.text, model: model))
  }

  /// The stream is complete.
  mutating func end(to exchange: any ServerExchange) {
    translation?.end()
    translation?.send(to: exchange)
  }

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
      if !isTranslated { exchange.send(bytes) }
    } else if let migration, migration.isContinuing {
      relayContinued(bytes, migration, exchange)
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
      if isTranslated { giveUp(.eventTooLong) }
      flush(to: exchange)
    }
    return tokenCount - before
  }

  /// Sends what never became a whole event; for the stream's end.
  mutating func flush(to exchange: any ServerExchange) {
    translation?.send(to: exchange)
    guard !tail.isEmpty else { return }
    if !isTranslated { exchange.send(tail.readable) }
    tail.release()
  }

  private mutating func scan(
    _ bytes: UnsafeRawBufferPointer, _ position: inout Int, _ exchange: any ServerExchange
  ) {
    var unsent = position
    while true {
      while passesUnread, scanner.isBetweenEvents, let end = inspector.tokenEventEnd(bytes, from: position) {
        tokenCount += 1
        position = end
      }
      guard position < bytes.count, let event = scanner.next(bytes, from: &position) else { break }
      guard let data = event.data else { continue }
      if let translation {
        translation.receive(data)
        if translation.hasTooManyCalls { giveUp(.tooManyCalls) }
      }
      migration?.observe(data)
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
    if let translation { return translation.send(to: exchange) }
    if unsent < position { exchange.send(bytes.slice(unsent..<position)) }
  }

  // MARK: Another worker's stream

  /// What follows is another worker's stream, which goes on where this one broke off. An event that never became whole was
  /// not passed on, and is no part of it.
  mutating func restart() {
    scanner = SSEScanner()
    tail.release()
  }

  /// As ``relay(_:to:)``, with each event made one of the first worker's.
  private mutating func relayContinued(
    _ bytes: UnsafeRawBufferPointer, _ migration: Migration, _ exchange: any ServerExchange
  ) {
    tail.append(bytes)
    var output = ByteBuffer(capacity: bytes.count)
    let input = tail.take()
    var position = 0
    while position < input.count, let event = scanner.next(input.readable, from: &position) {
      guard let data = event.data else {
        output.append(input.readable.slice(event.whole))
        continue
      }
      let start = output.count
      output.append("data: " as StaticString)
      let payload = output.count
      guard migration.rewrite(data, into: &output) else {
        output.truncate(to: start)
        continue
      }
      switch inspector.inspect(output.readable.slice(payload..<output.count)) {
      case .token: tokenCount += 1
      case .done:
        sawDone = true
        if holdsDone { output.truncate(to: start) }
      case .error: sawError = true
      case .usageOnly where withholdsUsage: output.truncate(to: start)
      case .usageOnly, .other: break
      }
      if output.count > start { output.append("\n\n" as StaticString) }
    }
    tail.append(input.readable.slice(position..<input.count))
    if !output.isEmpty { exchange.send(output.readable) }
  }

  private var isTranslated: Bool { translation != nil }

  /// Nothing of a token but that it is one is of interest.
  private var passesUnread: Bool { translation == nil && migration == nil }

  /// What cannot be read, or told, cannot be translated.
  private mutating func giveUp(_ obstacle: TranslationObstacle) {
    sawError = true
    if translation?.isOver == false { self.obstacle = obstacle }
    translation?.abandon()
  }
}

/// A translation and what it has to send. An object, so that streams without one carry a reference alone.
private final class Translation {
  private var stream: MessagesStream
  private var output = ByteBuffer()

  init(_ stream: consuming MessagesStream) { self.stream = stream }

  var isOver: Bool { stream.isOver }
  var hasTooManyCalls: Bool { stream.hasTooManyCalls }

  func abandon() { stream.abandon() }

  func receive(_ data: UnsafeRawBufferPointer) { stream.receive(data, into: &output) }

  func end() { stream.end(into: &output) }

  func send(to exchange: any ServerExchange) {
    guard !output.isEmpty else { return }
    exchange.send(output.readable)
    output.removeAll()
  }
}
