// Request and response heads: whole and in two parts they come to the same.

import Base
import HTTP

// One for all inputs, as a loop has one for all connections. libFuzzer calls from one thread only.
private nonisolated(unsafe) let parser = HTTP1HeadParser()

/// A digest of an outcome that two ways of parsing must share.
private func parse(_ bytes: UnsafeRawBufferPointer, _ scanned: inout Int, isResponse: Bool) -> [Int]? {
  if isResponse {
    switch parser.parseResponse(bytes, alreadyScanned: &scanned, toMethod: .post) {
    case .needMore: return nil
    case .failed(let error): return [-1, Int(error.rawValue)]
    case .head(let head, let length): return [length, head.status] + digest(head.fields, head.framing)
    }
  }
  switch parser.parseRequest(bytes, alreadyScanned: &scanned) {
  case .needMore: return nil
  case .failed(let error): return [-1, Int(error.rawValue)]
  case .head(let head, let length):
    require(head.path.count > 0 && head.target.count > 0, "a request has a target and a path")
    require(head.methodText.count > 0, "a request has a method")
    if head.minorVersion == 1 { require(head.fields.count(of: .host) == 1, "HTTP/1.1 has one host") }
    return [length, head.target.count, head.keepAlive ? 1 : 0] + digest(head.fields, head.framing)
  }
}

private func digest(_ fields: HeaderFields, _ framing: BodyFraming) -> [Int] {
  let hasLength = fields.contains(.contentLength)
  let hasCoding = fields.contains(.transferEncoding)
  require(!(hasLength && hasCoding), "never both a length and a coding")
  require(fields.count <= 100, "fields are bounded")
  var result: [Int] = [fields.count]
  for index in 0..<fields.count {
    let field = fields[index]
    for byte in field.value {
      require(byte == 0x09 || (byte >= 0x20 && byte != 0x7f), "values hold no control bytes")
    }
    for byte in field.name { require(byte > 0x20 && byte < 0x7f && byte != 0x3a, "names are tokens") }
    require(field.value.first != 0x20 && field.value.last != 0x20, "values are trimmed")
    result += [field.name.count, field.value.count, fields.isHopByHop(index) ? 1 : 0]
  }
  switch framing {
  case .none: result.append(-1)
  case .length(let bytes): result.append(bytes)
  case .chunked: result.append(-2)
  case .untilClose: result.append(-3)
  }
  return result
}

@_cdecl("LLVMFuzzerTestOneInput")
func fuzzHTTP1Head(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
  guard let (steer, input) = steered(data, size) else { return 0 }
  // Empty lines at the end, so that every cut comes to a verdict.
  var bytes = ByteBuffer(capacity: input.count + 6)
  bytes.append(input)
  bytes.append("\r\n\r\n\r\n" as StaticString)
  let isResponse = steer & 1 == 1
  let cut = min(bytes.count, (steer >> 1) * bytes.count / 127)
  var scanned = 0
  let whole = exactly(bytes.readable) { parse($0, &scanned, isResponse: isResponse) }
  scanned = 0
  var split = exactly(bytes.readable.slice(0..<cut)) { parse($0, &scanned, isResponse: isResponse) }
  if split == nil { split = exactly(bytes.readable) { parse($0, &scanned, isResponse: isResponse) } }
  require(whole == split, "a cut changes nothing")
  return 0
}
