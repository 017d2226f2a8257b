// Looks into each event of a stream: is it a token, is it the usage report, has the stream ended. Runs once a token.

internal import Base
internal import CBytes
internal import Glibc
internal import JSON

/// What the payload of one SSE `data:` line is.
package enum ChunkKind: UInt8, Sendable {
  /// `[DONE]`, or the event that ends a stream of typed events.
  case done

  /// A chunk with text, reasoning or a tool call in at least one choice.
  case token

  /// A chunk with `usage` and an empty list of choices.
  case usageOnly

  /// An object with `error`.
  case error

  /// Anything else: the role chunk, an empty delta, a finish reason alone, bytes that are no JSON.
  case other
}

/// Classifies the chunks of one stream and keeps the last usage and finish reason they told.
///
/// Successive chunks of a stream differ only in one string. The bytes before and behind that string in the chunk that
/// was last read in full are remembered; a chunk with the same bytes around one whole string has the same structure,
/// so it is again a token and nothing else, and needs no reading. Anything that differs is read in full.
package struct ChunkInspector: ~Copyable {
  /// Which API's stream it is.
  package var form = AnswerForm.chat

  /// The usage told last.
  package private(set) var usage: Usage?

  /// The id of the response that the stream tells of, in its bytes; empty before it is told.
  package private(set) var responseID: [UInt8] = []

  /// Number of the typed event that was read last in full; nil where events have none.
  package private(set) var sequence: Int?

  /// What several events of one message tell together.
  private var counts = UsageCounts()

  /// The finish reason told last.
  package private(set) var finishReason = CompletionFinish.none

  /// Bytes around the text of the last token chunk: `prefixCount` up to its opening quote, then `tailCount` from its
  /// closing quote on. `prefixCount` is 0 while nothing is remembered.
  private var pattern: UnsafeMutablePointer<UInt8>?
  private var patternCapacity = 0
  private var prefixCount = 0
  private var tailCount = 0

  /// Longer surroundings are not remembered, so that a stream holds at most this much.
  private static let patternBytesMax = 1_024

  package init() {}

  deinit { free(pattern) }

  /// Makes the inspector ready for another stream; keeps its memory.
  package mutating func reset() {
    usage = nil
    finishReason = .none
    responseID = []
    sequence = nil
    counts = UsageCounts()
    forgetPattern()
  }

  /// Classifies one payload, without the line's end.
  package mutating func inspect(_ data: UnsafeRawBufferPointer) -> ChunkKind {
    let textCount = data.count &- prefixCount &- tailCount
    if prefixCount > 0, textCount > 0, let pattern, let start = data.baseAddress,
      memcmp(start, pattern, prefixCount) == 0,
      memcmp(start + (prefixCount &+ textCount), pattern + prefixCount, tailCount) == 0,
      isWholeText((start + prefixCount).assumingMemoryBound(to: UInt8.self), textCount)
    {
      return .token
    }
    if data.equals("[DONE]") { return .done }
    return inspectWhole(data)
  }

  /// The end of the event that begins at `start`, when it is whole and a token like the last one: `data: `, the bytes
  /// around one text, and an empty line. Nil says nothing: any other event is found by reading lines. This finds and
  /// classifies the usual event in one pass, for nothing that is remembered has a line's end in it.
  package func tokenEventEnd(_ input: UnsafeRawBufferPointer, from start: Int) -> Int? {
    let textStart = start &+ Self.dataField.utf8CodeUnitCount &+ prefixCount
    guard prefixCount > 0, let pattern, let base = input.baseAddress,
      textStart &+ tailCount &+ Self.emptyLine.utf8CodeUnitCount < input.count,
      memcmp(base + start, Self.dataField.utf8Start, Self.dataField.utf8CodeUnitCount) == 0,
      memcmp(base + (textStart &- prefixCount), pattern, prefixCount) == 0
    else { return nil }
    let text = (base + textStart).assumingMemoryBound(to: UInt8.self)
    let count = input.count &- textStart
    var textCount = cbytes_json_string_run(text, count)
    while textCount &+ 1 < count, text[textCount] == UInt8(ascii: "\\"), text[textCount &+ 1] >= 0x20 {
      textCount &+= 2
      if textCount < count { textCount &+= cbytes_json_string_run(text + textCount, count &- textCount) }
    }
    let end = textCount &+ tailCount &+ Self.emptyLine.utf8CodeUnitCount
    guard textCount > 0, end <= count,
      memcmp(text + textCount, pattern + prefixCount, tailCount) == 0,
      memcmp(text + (textCount &+ tailCount), Self.emptyLine.utf8Start, Self.emptyLine.utf8CodeUnitCount) == 0
    else { return nil }
    return textStart &+ end
  }

  private static let dataField: StaticString = "data: "
  private static let emptyLine: StaticString = "\n\n"

  /// True when the text ends where the tail's quote stands, not before, and that quote is not an escaped one. The
  /// search is given the tail too, so that its vector steps have room.
  @inline(__always)
  private func isWholeText(_ text: UnsafePointer<UInt8>, _ textCount: Int) -> Bool {
    var index = cbytes_json_string_run(text, textCount &+ tailCount)
    while index < textCount {
      guard text[index] == UInt8(ascii: "\\") else { return false }
      index &+= 2
      if index < textCount { index &+= cbytes_json_string_run(text + index, textCount &+ tailCount &- index) }
    }
    return index == textCount
  }

  private mutating func inspectWhole(_ data: UnsafeRawBufferPointer) -> ChunkKind {
    switch form {
    case .chat, .plain: inspectChunk(data)
    case .responses, .messages: inspectTyped(data)
    }
  }

  private mutating func inspectTyped(_ data: UnsafeRawBufferPointer) -> ChunkKind {
    var reader = TypedEventReader(data, form: form)
    do throws(JSONError) {
      try reader.read()
    } catch {
      return .other
    }
    if let number = reader.sequence { sequence = number }
    if let id = reader.response.id, responseID.isEmpty { responseID = Array(data.slice(id)) }
    counts.update(reader.counts)
    if let told = reader.response.usage ?? counts.usage { usage = told }
    if let told = reader.finishReason { finishReason = told }
    let kind = reader.kind
    switch (kind, form) {
    case (.done, .responses), (.error, .responses): finishReason = reader.response.finish
    case (.token, .messages): if let text = reader.text { remember(data, around: text) }
    default: break
    }
    return kind
  }

  private mutating func inspectChunk(_ data: UnsafeRawBufferPointer) -> ChunkKind {
    var reader = ChunkReader(data)
    do throws(JSONError) {
      try reader.read()
    } catch {
      return .other
    }
    if let told = reader.usage { usage = told }
    if let told = reader.finishReason { finishReason = told }
    if reader.isError { return .error }
    guard let text = reader.text else {
      if reader.hasOtherToken { return .token }
      return reader.choices == 0 && reader.usage != nil ? .usageOnly : .other
    }
    // A match must mean that nothing but a token was told; and usage, where it comes with each chunk, never repeats.
    if reader.usage == nil, reader.finishReason == nil {
      remember(data, around: text)
    } else {
      forgetPattern()
    }
    return .token
  }

  private mutating func remember(_ data: UnsafeRawBufferPointer, around text: Range<Int>) {
    let prefix = text.lowerBound
    let tail = data.count - text.upperBound
    guard prefix + tail <= ChunkInspector.patternBytesMax, let start = data.baseAddress else {
      return forgetPattern()
    }
    if prefix + tail > patternCapacity {
      free(pattern)
      // Rounded up, since the surroundings of one stream differ by a few bytes only.
      patternCapacity = (prefix + tail + 63) & ~63
      pattern = malloc(patternCapacity)?.assumingMemoryBound(to: UInt8.self)
    }
    guard let pattern else {
      patternCapacity = 0
      return forgetPattern()
    }
    memcpy(pattern, start, prefix)
    memcpy(pattern + prefix, start + text.upperBound, tail)
    prefixCount = prefix
    tailCount = tail
  }

  private mutating func forgetPattern() {
    prefixCount = 0
    tailCount = 0
  }
}
