// Checks every answer while it comes in: status, order and number of tokens, finish, usage, `[DONE]`, JSON's shape.

import Base

/// Checks one answer at a time and notes when its tokens came.
final class AnswerCheck {
  private static let quotedBytes = 240

  private let mode: CheckMode
  private let stream: Bool
  private let expectedTokens: Int
  private let includeUsage: Bool
  private let usageMayBeMissing: Bool

  /// The first thing that was wrong with this answer.
  private(set) var failure: Failure?
  /// Tokens of this answer so far.
  private(set) var tokens = 0
  private(set) var status = 0
  private var startedAt: Nanoseconds = 0
  private var lastTokenAt: Nanoseconds = 0
  private var sawDone = false
  private var sawFinish = false
  private var usageTokens: Int?
  /// The incomplete event at the end of what came, or the body of an answer that is no stream.
  private var held = ByteBuffer()
  /// Where the token stood in the last event; most events of a stream are alike.
  private var contentOffset = 0

  init(_ options: LoadOptions) {
    mode = options.check
    stream = options.workload.stream
    expectedTokens = options.workload.tokens
    includeUsage = options.includeUsage
    usageMayBeMissing = options.check == .shape
  }

  /// Forgets the last answer; the next one's request was due at `start`.
  func begin(at start: Nanoseconds) {
    failure = nil
    tokens = 0
    status = 0
    startedAt = start
    sawDone = false
    sawFinish = false
    usageTokens = nil
    held.removeAll()
  }

  /// Takes the head of the answer.
  func head(_ lines: UnsafeRawBufferPointer) {
    status = MessageReader.status(lines) ?? 0
    guard status == 200 else { return }
    let expected: StaticString = stream ? "text/event-stream" : "application/json"
    if lines.find(expected) == nil { fail(.contentType, lines) }
  }

  /// Takes bytes of the body that came at `now`.
  func body(_ bytes: UnsafeRawBufferPointer, at now: Nanoseconds, _ measurements: Measurements) {
    guard stream, status == 200 else {
      held.append(bytes)
      return
    }
    guard !held.isEmpty else {
      let used = events(in: bytes, at: now, measurements)
      held.append(bytes.slice(used..<bytes.count))
      return
    }
    held.append(bytes)
    held.consume(events(in: held.readable, at: now, measurements))
  }

  /// The answer is complete.
  func end() {
    if status != 200 {
      fail(.status, "\(status) \(held.readable.slice(0..<min(held.count, Self.quotedBytes)).text)")
    } else if stream {
      endStream()
    } else {
      endUnary()
    }
  }

  // MARK: Streams

  private func events(
    in bytes: UnsafeRawBufferPointer, at now: Nanoseconds, _ measurements: Measurements
  ) -> Int {
    var start = 0
    while let end = bytes.find("\n\n", from: start) {
      event(bytes.slice(start..<end), at: now, measurements)
      start = end + 2
    }
    return start
  }

  private func event(_ event: UnsafeRawBufferPointer, at now: Nanoseconds, _ measurements: Measurements) {
    if event.first == UInt8(ascii: ":") { return }
    guard event.has("data: ", at: 0) else {
      fail(.event, event)
      return
    }
    let data = event.slice(6..<event.count)
    if sawDone {
      fail(.event, event)
    } else if let content = offsetOfContent(data) {
      token(data, at: content, now, measurements)
      if tokens < expectedTokens, mode == .numbered { return }
      tail(data)
    } else if data.equals("[DONE]") {
      sawDone = true
    } else {
      tail(data)
    }
  }

  private func offsetOfContent(_ data: UnsafeRawBufferPointer) -> Int? {
    let key: StaticString = "\"content\":\""
    if !data.has(key, at: contentOffset) {
      guard let found = data.find(key) else { return nil }
      contentOffset = found
    }
    return contentOffset + key.utf8CodeUnitCount
  }

  private func token(
    _ data: UnsafeRawBufferPointer, at content: Int, _ now: Nanoseconds, _ measurements: Measurements
  ) {
    // The first chunk of many engines names the role and has empty content.
    guard content < data.count, data[content] != UInt8(ascii: "\"") else { return }
    tokens += 1
    measurements.tokens += 1
    if tokens == 1 {
      measurements.firstToken.record(now > startedAt ? now - startedAt : 0)
    } else {
      measurements.tokenGap.record(now > lastTokenAt ? now - lastTokenAt : 0)
    }
    lastTokenAt = now
    if mode == .numbered, !isToken(tokens, data, at: content) { fail(.order, data) }
  }

  /// Looks at what only the last events of a stream have.
  private func tail(_ data: UnsafeRawBufferPointer) {
    if data.find("\"finish_reason\":\"") != nil { sawFinish = true }
    if data.find("\"usage\":{") != nil { usageTokens = number("\"completion_tokens\":", in: data) ?? -1 }
    if data.find("\"choices\":") == nil { fail(.streamError, data) }
  }

  private func endStream() {
    if !held.isEmpty { fail(.event, held.readable) }
    if !sawDone { fail(.done, "stream ended without [DONE] after \(tokens) tokens") }
    checkCount()
    if !sawFinish { fail(.shape, "no finish_reason") }
    if includeUsage, usageTokens == nil { fail(.usage, "usage was asked for and did not come") }
    if !includeUsage, usageTokens != nil { fail(.usage, "usage came and was not asked for") }
  }

  private func checkCount() {
    guard mode != .shape else { return }
    let found = mode == .count ? usageTokens ?? tokens : tokens
    if found != expectedTokens { fail(.count, "\(found) tokens instead of \(expectedTokens)") }
    if let usageTokens, usageTokens != expectedTokens {
      fail(.usage, "usage says \(usageTokens) tokens instead of \(expectedTokens)")
    }
  }

  // MARK: Whole answers

  private func endUnary() {
    let body = held.readable
    guard body.first == UInt8(ascii: "{"), body.last == UInt8(ascii: "}"),
      body.find("\"object\":\"chat.completion\"") != nil, body.find("\"finish_reason\":\"") != nil,
      let start = body.find("\"content\":\"")
    else {
      fail(.shape, body)
      return
    }
    if body.find("\"usage\":{") != nil { usageTokens = number("\"completion_tokens\":", in: body) }
    if usageTokens == nil, !usageMayBeMissing { fail(.usage, body) }
    if mode == .numbered {
      var content = start + 11
      while tokens < expectedTokens, isToken(tokens + 1, body, at: content) {
        tokens += 1
        content += 1 + AnswerTemplates.tokenDigits
      }
      if !body.has("\"", at: content) { fail(.order, body) }
    } else {
      tokens = usageTokens ?? 0
    }
    checkCount()
  }

  // MARK: Helpers

  /// True when the token that begins at `offset` is the fake worker's number `token`.
  private func isToken(_ token: Int, _ bytes: UnsafeRawBufferPointer, at offset: Int) -> Bool {
    let end = offset + 1 + AnswerTemplates.tokenDigits
    guard end <= bytes.count, bytes[offset] == UInt8(ascii: " ") else { return false }
    return bytes.slice((offset + 1)..<end).decimal == token % 1_000_000
  }

  private func number(_ key: StaticString, in bytes: UnsafeRawBufferPointer) -> Int? {
    guard let start = bytes.find(key).map({ $0 + key.utf8CodeUnitCount }) else { return nil }
    let digits = bytes.slice(start..<bytes.count).prefix { (0x30...0x39).contains($0) }
    return bytes.slice(start..<(start + digits.count)).decimal
  }

  private func fail(_ kind: FailureKind, _ bytes: UnsafeRawBufferPointer) {
    guard failure == nil else { return }
    fail(kind, bytes.slice(0..<min(bytes.count, Self.quotedBytes)).text)
  }

  /// Notes a failure unless the answer has one already.
  func fail(_ kind: FailureKind, _ detail: String) {
    guard failure == nil else { return }
    failure = Failure(kind: kind, detail: detail)
  }
}
