// One verifier for head parsers: the same bytes whole, byte by byte and cut at every point must give the same outcome.

import Base
import HTTP
import Testing

/// What a parsed head said, copied out of its view.
struct HeadSnapshot: Equatable {
  var method = ""
  var target = ""
  var path = ""
  var query: String?
  var isAbsolute = false
  var status = 0
  var minorVersion = 0
  var keepAlive = false
  var expectsContinue = false
  var framing = ""
  var fields: [Field] = []
  var length = 0

  struct Field: Equatable {
    let known: KnownHeader
    let name: String
    let value: String
  }
}

/// What a parse came to.
enum HeadOutcome: Equatable {
  case needMore
  case head(HeadSnapshot)
  case failed(HTTP1ParseError)
}

enum HeadVerifier {
  /// Parses a request in every way and expects one outcome, which it returns.
  static func request(
    _ bytes: [UInt8], limits: HTTP1Limits = HTTP1Limits(), sourceLocation: SourceLocation = #_sourceLocation
  ) -> HeadOutcome {
    verify(bytes, limits, sourceLocation) { parser, input, scanned in
      switch parser.parseRequest(input, alreadyScanned: &scanned) {
      case .needMore: .needMore
      case .failed(let error): .failed(error)
      case .head(let head, let length): .head(snapshot(head, length))
      }
    }
  }

  /// Parses a response in every way and expects one outcome, which it returns.
  static func response(
    _ bytes: [UInt8], to method: HTTP.Method = .post, limits: HTTP1Limits = HTTP1Limits(),
    sourceLocation: SourceLocation = #_sourceLocation
  ) -> HeadOutcome {
    verify(bytes, limits, sourceLocation) { parser, input, scanned in
      switch parser.parseResponse(input, alreadyScanned: &scanned, toMethod: method) {
      case .needMore: .needMore
      case .failed(let error): .failed(error)
      case .head(let head, let length): .head(snapshot(head, length))
      }
    }
  }

  typealias Parse = (HTTP1HeadParser, UnsafeRawBufferPointer, inout Int) -> HeadOutcome

  private static func verify(
    _ bytes: [UInt8], _ limits: HTTP1Limits, _ sourceLocation: SourceLocation, _ parse: Parse
  ) -> HeadOutcome {
    let memory = GuardedMemory(capacity: bytes.count)
    let parser = HTTP1HeadParser(limits: limits)
    let whole = drive(parser, memory, bytes, ends: [bytes.count], parse)
    let single = drive(
      parser, memory, bytes, ends: Array(stride(from: 1, through: bytes.count, by: 1)), parse)
    #expect(single == whole, "byte by byte", sourceLocation: sourceLocation)
    // Every cut of short inputs, and a spread of cuts of long ones.
    for cut in stride(from: 1, to: bytes.count, by: max(1, bytes.count / 600)) {
      let split = drive(parser, memory, bytes, ends: [cut, bytes.count], parse)
      if split != whole {
        #expect(split == whole, "cut at \(cut)", sourceLocation: sourceLocation)
        break
      }
    }
    return whole
  }

  /// Offers ever longer prefixes, as a connection does, until the parser decides.
  static func drive(
    _ parser: HTTP1HeadParser, _ memory: GuardedMemory, _ bytes: [UInt8], ends: [Int], _ parse: Parse
  ) -> HeadOutcome {
    var scanned = 0
    for end in ends {
      let outcome = memory.with(bytes[..<end]) { parse(parser, $0, &scanned) }
      if outcome != .needMore { return outcome }
    }
    return .needMore
  }

  private static func snapshot(_ head: RequestHead, _ length: Int) -> HeadSnapshot {
    HeadSnapshot(
      method: head.methodText.text, target: head.target.text, path: head.path.text, query: head.query?.text,
      isAbsolute: head.isAbsolute, minorVersion: Int(head.minorVersion), keepAlive: head.keepAlive,
      expectsContinue: head.expectsContinue, framing: "\(head.framing)", fields: fields(head.fields),
      length: length)
  }

  private static func snapshot(_ head: ResponseHead, _ length: Int) -> HeadSnapshot {
    HeadSnapshot(
      status: head.status, minorVersion: Int(head.minorVersion), keepAlive: head.keepAlive,
      framing: "\(head.framing)", fields: fields(head.fields), length: length)
  }

  private static func fields(_ fields: HeaderFields) -> [HeadSnapshot.Field] {
    (0..<fields.count).map { index in
      let field = fields[index]
      return HeadSnapshot.Field(known: field.known, name: field.name.text, value: field.value.text)
    }
  }
}

/// Parses `text` as a request in every way; its snapshot, or nil when it is no whole valid head.
func requestHead(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) -> HeadSnapshot? {
  let outcome = HeadVerifier.request(Array(text.utf8), sourceLocation: sourceLocation)
  guard case .head(let head) = outcome else {
    Issue.record("no head but \(outcome)", sourceLocation: sourceLocation)
    return nil
  }
  return head
}

/// Parses `text` as a response in every way; its snapshot, or nil when it is no whole valid head.
func responseHead(
  _ text: String, to method: HTTP.Method = .post, sourceLocation: SourceLocation = #_sourceLocation
) -> HeadSnapshot? {
  let outcome = HeadVerifier.response(Array(text.utf8), to: method, sourceLocation: sourceLocation)
  guard case .head(let head) = outcome else {
    Issue.record("no head but \(outcome)", sourceLocation: sourceLocation)
    return nil
  }
  return head
}

/// Why `text` is refused as a request; nil when it is not.
func requestError(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) -> HTTP1ParseError? {
  guard case .failed(let error) = HeadVerifier.request(Array(text.utf8), sourceLocation: sourceLocation)
  else {
    return nil
  }
  return error
}

/// Why `text` is refused as a response; nil when it is not.
func responseError(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) -> HTTP1ParseError? {
  guard case .failed(let error) = HeadVerifier.response(Array(text.utf8), sourceLocation: sourceLocation)
  else {
    return nil
  }
  return error
}
