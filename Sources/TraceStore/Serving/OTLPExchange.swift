// OTLP over HTTP: one POST of spans, read whole and answered as the specification asks.

internal import Base
internal import GRPC
internal import HTTP
internal import JSON
internal import Protobuf
internal import Transport

/// The two forms of OTLP over HTTP; an answer has the form of its request.
enum OTLPForm {
  case protobuf, json

  /// The form that a `content-type` names; nil for any other type.
  init?(contentType: UnsafeRawBufferPointer?) {
    guard let type = contentType?.mediaType else { return nil }
    if type.equalsIgnoringCase("application/x-protobuf") {
      self = .protobuf
    } else if type.equalsIgnoringCase("application/json") {
      self = .json
    } else {
      return nil
    }
  }

  var contentType: StaticString {
    switch self {
    case .protobuf: "application/x-protobuf"
    case .json: "application/json"
    }
  }
}

/// Why a POST of spans is refused.
struct OTLPFault {
  /// Longest body: the receiver in Tempo takes 20 MiB.
  static let bodyBytesMax = 20 << 20
  /// Bodies that may be on their way in together.
  static let bodiesBytesMax = 64 << 20

  let status: Int
  let code: GRPCCode
  let message: String
  var fields: StaticString = ""

  static let tooLarge = OTLPFault(
    status: 413, code: .resourceExhausted, message: "request body too large: at most 20 MiB")
  static let notGzip = OTLPFault(
    status: 400, code: .invalidArgument, message: "the body is not the gzip that content-encoding promises")
  static let busy = OTLPFault(
    status: 503, code: .unavailable, message: "too many bodies are on their way in",
    fields: "retry-after: 1\r\n")

  /// What is wrong with a head; nil when the body is to be read.
  static func of(_ head: RequestHead) -> OTLPFault? {
    guard head.path.equals("/v1/traces") else {
      return OTLPFault(status: 404, code: .unimplemented, message: "spans are taken by POST /v1/traces")
    }
    guard case .post = head.method else {
      return OTLPFault(
        status: 405, code: .unimplemented, message: "spans are taken by POST", fields: "allow: POST\r\n")
    }
    guard OTLPForm(contentType: head.fields.first(.contentType)) != nil else {
      return OTLPFault(
        status: 415, code: .invalidArgument,
        message: "spans are taken as application/x-protobuf or application/json")
    }
    if let encoding = head.fields.first(.contentEncoding),
      !encoding.equalsIgnoringCase("identity"), !encoding.equalsIgnoringCase("gzip")
    {
      return OTLPFault(
        status: 415, code: .invalidArgument, message: "no compression but gzip is taken",
        fields: "accept-encoding: gzip, identity\r\n")
    }
    if case .length(let count) = head.framing, count > bodyBytesMax { return tooLarge }
    return nil
  }

  /// Answers with a google.rpc.Status.
  func send(to exchange: any ServerExchange, _ form: OTLPForm) {
    var body = ByteBuffer()
    switch form {
    case .protobuf:
      body.append(field: 1, varint: UInt64(code.rawValue))
      body.append(field: 2, string: message)
    case .json:
      body.append("{\"code\":" as StaticString)
      body.append(decimal: Int(code.rawValue))
      body.append(",\"message\":" as StaticString)
      body.append(jsonString: message)
      body.append(UInt8(ascii: "}"))
    }
    TextAnswer(status: status, contentType: form.contentType, fields: fields)
      .send(body.readable, to: exchange)
  }
}

/// Reads one body and stores its spans.
final class OTLPExchange: ServerExchangeHandler {
  private let exchange: any ServerExchange
  private let parent: StoreLoop
  private var body = ByteBuffer()
  private let isCompressed: Bool
  private let form: OTLPForm
  private var isRefused = false

  init(_ exchange: any ServerExchange, _ head: RequestHead, on parent: StoreLoop) {
    self.exchange = exchange
    self.parent = parent
    form = OTLPForm(contentType: head.fields.first(.contentType)) ?? .protobuf
    isCompressed = head.fields.first(.contentEncoding)?.equalsIgnoringCase("gzip") ?? false
  }

  func received(body bytes: UnsafeRawBufferPointer) {
    guard !isRefused else { return }
    if body.count + bytes.count > OTLPFault.bodyBytesMax { return refuse(.tooLarge) }
    if parent.bodyBytes + bytes.count > OTLPFault.bodiesBytesMax { return refuse(.busy) }
    parent.bodyBytes += bytes.count
    body.append(bytes)
  }

  private func refuse(_ fault: OTLPFault) {
    isRefused = true
    release()
    exchange.closeAfterResponse()
    fault.send(to: exchange, form)
  }

  private func release() {
    parent.bodyBytes -= body.count
    body.release()
  }

  func receivedEnd() {
    guard !isRefused else { return }
    if isCompressed, let fault = expand() { return refuse(fault) }
    do throws(IngestError) {
      if case .json = form { try readJSON() }
      let result = try parent.ingest(body.readable) { $0.httpMessages += 1 }
      var answer = ByteBuffer()
      switch form {
      case .protobuf: answer.append(exportResponse: result)
      case .json: answer.append(jsonExportResponse: result)
      }
      TextAnswer(contentType: form.contentType).send(answer.readable, to: exchange)
    } catch {
      OTLPFault(status: 400, code: .invalidArgument, message: error.message)
        .send(to: exchange, form)
    }
    release()
  }

  /// Puts what the body expands to in its place; says what is wrong with it.
  private func expand() -> OTLPFault? {
    var expanded = ByteBuffer()
    do throws(GzipError) {
      let inflater = try GzipInflater(outputBytesMax: OTLPFault.bodyBytesMax)
      try inflater.receive(body.readable, into: &expanded)
      try inflater.finish()
    } catch {
      if case .tooLarge = error { return .tooLarge }
      return .notGzip
    }
    replaceBody(&expanded)
    return nil
  }

  /// Puts the protobuf that JSON stands for in its place. What is none counts as a message that was refused.
  private func readJSON() throws(IngestError) {
    var message = ByteBuffer()
    do throws(IngestError) {
      try OTLPJSON.transcode(body.readable, into: &message)
    } catch {
      parent.store.refuseMessage()
      throw error
    }
    replaceBody(&message)
  }

  private func replaceBody(_ other: inout ByteBuffer) {
    parent.bodyBytes += other.count - body.count
    swap(&body, &other)
  }

  func drained() {}

  func ended(_ end: EndOfStream) { release() }
}

extension SpanStore.Ingested {
  /// Why spans are rejected.
  fileprivate static var reason: String { "spans of traces that are full were refused" }
}

extension ByteBuffer {
  /// Appends an ExportTraceServiceResponse as JSON.
  fileprivate mutating func append(jsonExportResponse result: SpanStore.Ingested) {
    append("{\"partialSuccess\":{" as StaticString)
    if result.refused > 0 {
      append("\"rejectedSpans\":\"" as StaticString)
      append(decimal: result.refused)
      append("\",\"errorMessage\":" as StaticString)
      append(jsonString: SpanStore.Ingested.reason)
    }
    append("}}" as StaticString)
  }

  /// Appends an ExportTraceServiceResponse. As with Tempo the field is there also when all was taken.
  mutating func append(exportResponse result: SpanStore.Ingested) {
    var partial = ByteBuffer()
    if result.refused > 0 {
      partial.append(field: 1, varint: UInt64(result.refused))
      partial.append(field: 2, string: SpanStore.Ingested.reason)
    }
    append(field: 1, bytes: partial.readable)
  }
}
