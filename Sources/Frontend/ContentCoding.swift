// How bodies are coded, as request heads say it (RFC 9110 sections 8.4 and 12.5.3).

internal import Base
internal import HTTP

/// The coding of a request's body.
enum ContentCoding {
  case identity
  case gzip
  /// One that is not decoded here, or several.
  case unknown

  init(_ fields: HeaderFields) {
    guard let value = fields.first(.contentEncoding) else {
      self = .identity
      return
    }
    let coding = value.trimmed
    if fields.count(of: .contentEncoding) > 1 {
      self = .unknown
    } else if coding.equalsIgnoringCase("gzip") || coding.equalsIgnoringCase("x-gzip") {
      self = .gzip
    } else {
      self = coding.isEmpty || coding.equalsIgnoringCase("identity") ? .identity : .unknown
    }
  }

  /// Whether the caller takes gzip: it is listed, or `*` is, with a weight above 0.
  static func acceptsGzip(_ fields: HeaderFields) -> Bool {
    var verdict: Bool?
    for index in 0..<fields.count {
      let field = fields[index]
      guard case .acceptEncoding = field.known else { continue }
      var list = ListReader(field.value)
      while let element = list.next() {
        let parts = element.text.lowercased().split(separator: ";").map {
          $0.filter { $0 != " " && $0 != "\t" }
        }
        let refused = parts.dropFirst().contains { part in
          part.hasPrefix("q=") && Double(part.dropFirst(2)).map { $0 <= 0 } ?? true
        }
        switch parts.first {
        case "gzip", "x-gzip": return !refused
        case "*": verdict = !refused
        default: break
        }
      }
    }
    return verdict ?? false
  }
}
