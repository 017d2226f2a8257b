// Whether bytes are an ExportTraceServiceRequest that may be kept: checked whole before anything of it is stored.

internal import Base
internal import Protobuf

/// Why a message of spans is refused.
package enum IngestError: Error, Sendable, Equatable {
  /// The bytes are no ExportTraceServiceRequest.
  case malformed
  /// A trace id that is not 16 bytes, or all zero.
  case traceID
  /// A span id that is not 8 bytes, or all zero.
  case spanID
  /// Values nested deeper than ``OTLPCheck/depthMax``.
  case tooDeep
  /// More messages than ``OTLPJSON/messagesMax``.
  case tooMany

  /// For the sender.
  package var message: String {
    switch self {
    case .malformed: "the body is no ExportTraceServiceRequest"
    case .traceID: "trace ids must be 128 bit, and not all zero"
    case .spanID: "span ids must be 64 bit, and not all zero"
    case .tooDeep: "attribute values are nested too deeply"
    case .tooMany: "the body has too many values"
    }
  }
}

/// Walks every field that a reader of the stored bytes will walk, so that what is stored can be answered as it came.
enum OTLPCheck {
  /// Lists within lists; the JSON of a trace is written by recursion.
  static let depthMax = 32

  /// Throws when `request` must be refused whole; one bad span condemns its message, as in Tempo.
  static func request(_ request: UnsafeRawBufferPointer) throws(IngestError) {
    try fields(request) { field throws(IngestError) in
      guard field.number == 1 else { return }
      try fields(try content(field)) { field throws(IngestError) in
        switch field.number {
        case 1: try attributes(try content(field), field: 1)
        case 2: try scopeSpans(try content(field))
        case 3: _ = try content(field)
        default: break
        }
      }
    }
  }

  private static func scopeSpans(_ message: UnsafeRawBufferPointer) throws(IngestError) {
    try fields(message) { field throws(IngestError) in
      switch field.number {
      case 1: try attributes(try content(field), field: 3)
      case 2: try span(try content(field))
      case 3: _ = try content(field)
      default: break
      }
    }
  }

  private static func span(_ message: UnsafeRawBufferPointer) throws(IngestError) {
    var hasTraceID = false
    var hasSpanID = false
    try fields(message) { field throws(IngestError) in
      switch (field.number, field.value) {
      case (1, .bytes(let id)):
        guard id.count == 16, id.contains(where: { $0 != 0 }) else { throw .traceID }
        hasTraceID = true
      case (2, .bytes(let id)):
        guard let id = OTLP.spanID(id), id != 0 else { throw .spanID }
        hasSpanID = true
      case (4, .bytes(let id)):
        guard id.isEmpty || id.count == 8 else { throw .spanID }
      case (3, .bytes), (5, .bytes), (6, .varint), (7, .fixed64), (8, .fixed64), (16, .fixed32): break
      case (10, .varint), (12, .varint), (14, .varint): break
      case (9, .bytes(let pair)): try keyValue(pair, depth: 0)
      case (11, .bytes(let event)): try attributes(event, field: 3)
      case (13, .bytes(let link)): try self.link(link)
      case (15, .bytes(let status)): try fields(status) { _ throws(IngestError) in }
      case (1...16, _): throw .malformed
      default: break
      }
    }
    guard hasTraceID else { throw .traceID }
    guard hasSpanID else { throw .spanID }
  }

  private static func link(_ message: UnsafeRawBufferPointer) throws(IngestError) {
    try attributes(message, field: 4)
    guard OTLP.bytes(in: message, field: 1)?.count ?? 16 == 16,
      OTLP.bytes(in: message, field: 2)?.count ?? 8 == 8
    else { throw .malformed }
  }

  private static func attributes(
    _ message: UnsafeRawBufferPointer, field number: Int
  ) throws(IngestError) {
    try fields(message) { field throws(IngestError) in
      if field.number == number { try keyValue(try content(field), depth: 0) }
    }
  }

  private static func keyValue(_ pair: UnsafeRawBufferPointer, depth: Int) throws(IngestError) {
    try fields(pair) { field throws(IngestError) in
      switch field.number {
      case 1: _ = try content(field)
      case 2: try value(try content(field), depth: depth)
      default: break
      }
    }
  }

  private static func value(_ message: UnsafeRawBufferPointer, depth: Int) throws(IngestError) {
    guard depth < depthMax else { throw .tooDeep }
    try fields(message) { field throws(IngestError) in
      switch field.number {
      case 5:
        try fields(try content(field)) { element throws(IngestError) in
          if element.number == 1 { try value(try content(element), depth: depth + 1) }
        }
      case 6:
        try fields(try content(field)) { element throws(IngestError) in
          if element.number == 1 { try keyValue(try content(element), depth: depth + 1) }
        }
      default: break
      }
    }
  }

  private static func content(_ field: ProtobufField) throws(IngestError) -> UnsafeRawBufferPointer {
    guard let bytes = field.bytes else { throw .malformed }
    return bytes
  }

  private static func fields(
    _ message: UnsafeRawBufferPointer, _ body: (ProtobufField) throws(IngestError) -> Void
  ) throws(IngestError) {
    var reader = ProtobufReader(message)
    while true {
      let field: ProtobufField?
      do throws(ProtobufError) { field = try reader.next() } catch { throw .malformed }
      guard let field else { return }
      try body(field)
    }
  }
}
