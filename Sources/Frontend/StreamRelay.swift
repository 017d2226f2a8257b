// The inner loop of a stream: whole events pass on as they come, counted, and one kind of them is withheld.

internal import Anthropic
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
  /// Puts the events into the form of another API, of which the caller gets these alone.
  private var translation: MessagesStream?
  private var translated = ByteBuffer()
  /// Keeps what another worker would need to go on; nil for almost every stream.
  var migration: Migration?
  /// A translation cannot go on, and the caller was not told yet.
  private(set) var hasGivenUp = false
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
    translation = MessagesStream(id: text.text, model: model)
  }

  /// The stream is complete.
  mutating func end(to exchange: any ServerExchange) {
    translation?.end(into: &translated)
    sendTranslated(to: exchange)
  }

  private mutating func sendTranslated(to exchange: any ServerExchange) {
    guard !translated.isEmpty else { return }
    exchange.send(translated.readable)
    translated.removeAll()
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
      if isTranslated { giveUp() }
      flush(to: exchange)
    }
    return tokenCount - before
  }

  /// Sends what never became a whole event; for the stream's end.
  mutating func flush(to exchange: any ServerExchange) {
    sendTranslated(to: exchange)
    guard !tail.isEmpty else { return }
    if !isTranslated { exchange.send(tail.readable) }
    tail.release()
  }

  private mutating func scan(
    _ bytes: UnsafeRawBufferPointer, _ position: inout Int, _ exchange: any ServerExchange
  ) {
    var unsent = position
    while position < bytes.count, let event = scanner.next(bytes, from: &position) {
      guard let data = event.data else { continue }
      translation?.receive(data, into: &translated)
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
    if isTranslated { return sendTranslated(to: exchange) }
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
    let input = tail.take()
    var position = 0
    while position < input.count, let event = scanner.next(input.readable, from: &position) {
      guard let data = event.data else {
        translated.append(input.readable.slice(event.whole))
        continue
      }
      let start = translated.count
      translated.append("data: " as StaticString)
      let payload = translated.count
      guard migration.rewrite(data, into: &translated) else {
        translated.truncate(to: start)
        continue
      }
      switch inspector.inspect(translated.readable.slice(payload..<translated.count)) {
      case .token: tokenCount += 1
      case .done:
        sawDone = true
        if holdsDone { translated.truncate(to: start) }
      case .error: sawError = true
      case .usageOnly where withholdsUsage: translated.truncate(to: start)
      case .usageOnly, .other: break
      }
      if translated.count > start { translated.append("\n\n" as StaticString) }
    }
    tail.append(input.readable.slice(position..<input.count))
    sendTranslated(to: exchange)
  }

  private var isTranslated: Bool { translation != nil }

  /// An event is too long to be held: what cannot be read cannot be translated.
  private mutating func giveUp() {
    sawError = true
    hasGivenUp = translation?.isOver == false
    tail.release()
  }
}
