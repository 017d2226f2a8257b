// What the fields of a whole head mean together: host, body framing, connection.

internal import Base

extension HTTP1HeadParser {
  /// Judges a request's fields and makes its view.
  func finishRequest(_ scan: HeadScan, _ line: RequestLine) -> RequestResult {
    var fields = view(scan)
    if let error = hostError(fields, line, scan.minorVersion) { return .failed(error) }
    var framing = BodyFraming.none
    if let error = declaredFraming(fields, scan.minorVersion, &framing) { return .failed(error) }
    if fields.contains(.upgrade), let error = upgradeError(fields, framing) { return .failed(error) }
    let keepAlive = connection(&fields, scan.minorVersion)
    var expectsContinue = false
    if scan.minorVersion == 1, let expect = fields.first(.expect) {
      expectsContinue = expect.equalsIgnoringCase("100-continue")
    }
    let head = RequestHead(
      method: line.method, minorVersion: scan.minorVersion, keepAlive: keepAlive,
      expectsContinue: expectsContinue, framing: framing, fields: fields, line: line)
    return .head(head, length: scan.position)
  }

  /// Judges a response's fields and makes its view.
  func finishResponse(_ scan: HeadScan, _ status: Int, _ toMethod: Method) -> ResponseResult {
    var fields = view(scan)
    var declared = BodyFraming.none
    if let error = declaredFraming(fields, scan.minorVersion, &declared) { return .failed(error) }
    var keepAlive = connection(&fields, scan.minorVersion)
    var framing = declared
    var isHead = false
    if case .head = toMethod { isHead = true }
    if isHead || status < 200 || status == 204 || status == 304 {
      // RFC 9112 section 6.3 rule 1: these never have a body.
      framing = .none
    } else if case .none = declared {
      framing = .untilClose
      keepAlive = false
    }
    let head = ResponseHead(
      status: status, minorVersion: scan.minorVersion, keepAlive: keepAlive, framing: framing, fields: fields)
    return .head(head, length: scan.position)
  }

  private func view(_ scan: HeadScan) -> HeaderFields {
    HeaderFields(
      base: scan.base, entries: UnsafePointer(entries), firstIndexes: UnsafePointer(firstIndexes),
      count: scan.fieldCount, present: scan.present, repeated: scan.repeated)
  }

  /// RFC 9112 section 3.2: exactly one valid Host in HTTP/1.1, at most one in 1.0; an absolute target's authority
  /// must be the same, because two peers could otherwise follow one each.
  private func hostError(_ fields: HeaderFields, _ line: RequestLine, _ minorVersion: UInt8)
    -> HTTP1ParseError?
  {
    guard let host = fields.first(.host) else { return minorVersion == 0 ? nil : .missingHost }
    if fields.repeated.contains(.host) { return .repeatedHost }
    guard HostSyntax.isValid(host) else { return .malformedHost }
    guard line.authorityEnd != 0 else { return nil }
    return fields.slice(line.authorityStart, line.authorityEnd).equalsIgnoringCase(host) ? nil : .hostMismatch
  }

  /// RFC 9112 sections 6.1 to 6.3, with every doubtful form refused.
  private func declaredFraming(_ fields: HeaderFields, _ minorVersion: UInt8, _ framing: inout BodyFraming)
    -> HTTP1ParseError?
  {
    if fields.contains(.transferEncoding) {
      if fields.contains(.contentLength) { return .lengthAndTransferEncoding }
      if minorVersion == 0 { return .transferEncodingInHTTP10 }
      framing = .chunked
      return transferCodingError(fields)
    }
    guard let length = fields.first(.contentLength) else { return nil }
    if fields.repeated.contains(.contentLength) { return .repeatedContentLength }
    guard let bytes = length.decimal else { return .malformedContentLength }
    framing = .length(bytes)
    return nil
  }

  /// Accepts `chunked` alone. Without it at the end the length cannot be known (400); before it stands a coding that
  /// we do not implement (501).
  private func transferCodingError(_ fields: HeaderFields) -> HTTP1ParseError? {
    var chunkedCount = 0
    var others = 0
    var lastIsChunked = false
    for index in 0..<fields.count {
      let field = fields[index]
      guard case .transferEncoding = field.known else { continue }
      guard isStrictList(field.value) else { return .malformedTransferEncoding }
      var list = ListReader(field.value)
      while let coding = list.next() {
        lastIsChunked = coding.equalsIgnoringCase("chunked")
        if lastIsChunked { chunkedCount += 1 } else { others += 1 }
      }
    }
    guard lastIsChunked, chunkedCount == 1 else { return .malformedTransferEncoding }
    return others > 0 ? .unsupportedTransferCoding : nil
  }

  /// True when the list has no empty element: `chunked,` and `,chunked` are read differently by different peers.
  private func isStrictList(_ value: UnsafeRawBufferPointer) -> Bool {
    var isEmpty = true
    for byte in value {
      if byte == UInt8(ascii: ",") {
        if isEmpty { return false }
        isEmpty = true
      } else if byte != 0x20, byte != 0x09 {
        isEmpty = false
      }
    }
    return !isEmpty
  }

  /// An h2c upgrade carries its request over to HTTP/2; with a body it is a known way to smuggle. Other upgrades are
  /// ignored, as RFC 9110 section 7.8 lets a server do.
  private func upgradeError(_ fields: HeaderFields, _ framing: BodyFraming) -> HTTP1ParseError? {
    switch framing {
    case .none, .length(0): return nil
    default: break
    }
    for index in 0..<fields.count {
      let field = fields[index]
      guard case .upgrade = field.known else { continue }
      var list = ListReader(field.value)
      while let protocolName = list.next() {
        if protocolName.equalsIgnoringCase("h2c") { return .upgradeWithBody }
      }
    }
    return nil
  }

  /// Reads the `connection` fields; returns whether the connection persists (RFC 9112 section 9.3).
  private func connection(_ fields: inout HeaderFields, _ minorVersion: UInt8) -> Bool {
    guard let first = fields.first(.connection) else { return minorVersion == 1 }
    if !fields.repeated.contains(.connection) {
      // The two usual values; bytes that the case bit would confuse with their letters cannot be in a value.
      if first.count == 10, first.spellsToken("keep-alive") { return true }
      if first.count == 5, first.spellsToken("close") { return false }
    }
    var close = false
    var keep = false
    for index in 0..<fields.count {
      let field = fields[index]
      guard case .connection = field.known else { continue }
      var list = ListReader(field.value)
      while let option = list.next() {
        if option.equalsIgnoringCase("close") {
          close = true
        } else if option.equalsIgnoringCase("keep-alive") {
          keep = true
        } else {
          fields.connectionNamesFields = true
        }
      }
    }
    return !close && (minorVersion == 1 || keep)
  }
}
