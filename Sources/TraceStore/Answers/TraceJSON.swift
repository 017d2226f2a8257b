// A trace in the JSON of Tempo's query API: protobuf's JSON as Tempo's marshaller writes it, fields in the order of their
// numbers, empty ones left out, ids in base64 and 64-bit numbers as strings.

package import Base
internal import JSON
internal import Protobuf

extension ByteBuffer {
  /// Appends the answer to `GET /api/traces/{id}`.
  package mutating func append(traceV1 trace: StoredTrace) {
    append("{\"batches\":" as StaticString)
    append(resourceSpansOf: trace)
    append(UInt8(ascii: "}"))
  }

  /// Appends the answer to `GET /api/v2/traces/{id}`; an unknown trace is an empty one.
  package mutating func append(traceV2 trace: StoredTrace?) {
    guard let trace, trace.spanCount > 0 else {
      append("{\"trace\":{},\"metrics\":{}}" as StaticString)
      return
    }
    append("{\"trace\":{\"resourceSpans\":" as StaticString)
    append(resourceSpansOf: trace)
    append("},\"metrics\":{\"inspectedBytes\":\"" as StaticString)
    append(decimal: trace.bytes)
    append("\"}" as StaticString)
    if trace.refusedCount > 0 {
      // Tempo says so of a trace that it could not read whole.
      append(",\"status\":\"PARTIAL\",\"message\":" as StaticString)
      append(jsonString: "\(trace.refusedCount) spans were refused: the trace is full")
    }
    append(UInt8(ascii: "}"))
  }

  private mutating func append(resourceSpansOf trace: StoredTrace) {
    var list = JSONList(open: UInt8(ascii: "["), close: UInt8(ascii: "]"))
    for group in trace.groups {
      list.next(&self)
      append("{\"resource\":" as StaticString)
      append(resource: group.origin.resource)
      append(",\"scopeSpans\":[{" as StaticString)
      if let scope = group.origin.scope {
        append("\"scope\":" as StaticString)
        append(scope: scope)
        append(UInt8(ascii: ","))
      }
      append("\"spans\":" as StaticString)
      var spans = JSONList(open: UInt8(ascii: "["), close: UInt8(ascii: "]"))
      OTLP.forEach(group.entries.readable) { field in
        guard let span = field.bytes else { return }
        spans.next(&self)
        append(SpanView(span, group.origin))
      }
      spans.end(&self)
      append(schemaURLOf: group.origin.scopeFields.readable)
      append("}]" as StaticString)
      append(schemaURLOf: group.origin.resourceFields.readable)
      append(UInt8(ascii: "}"))
    }
    list.end(&self)
  }

  private mutating func append(schemaURLOf fields: UnsafeRawBufferPointer) {
    guard let url = OTLP.bytes(in: fields, field: 3), !url.isEmpty else { return }
    append(",\"schemaUrl\":" as StaticString)
    append(jsonString: url)
  }

  private mutating func append(resource: UnsafeRawBufferPointer) {
    var object = JSONObject()
    append(attributesOf: resource, field: 1, in: &object)
    append(countOf: resource, field: 2, "droppedAttributesCount", in: &object)
    object.end(&self)
  }

  private mutating func append(scope: UnsafeRawBufferPointer) {
    var object = JSONObject()
    append(textOf: scope, field: 1, "name", in: &object)
    append(textOf: scope, field: 2, "version", in: &object)
    append(attributesOf: scope, field: 3, in: &object)
    append(countOf: scope, field: 4, "droppedAttributesCount", in: &object)
    object.end(&self)
  }

  private mutating func append(_ view: SpanView) {
    let span = view.message
    var object = JSONObject()
    append(base64Of: span, field: 1, "traceId", in: &object)
    append(base64Of: span, field: 2, "spanId", in: &object)
    append(textOf: span, field: 3, "traceState", in: &object)
    append(base64Of: span, field: 4, "parentSpanId", in: &object)
    append(textOf: span, field: 5, "name", in: &object)
    if (1...5).contains(view.kind) {
      object.key("kind", &self)
      append(Self.kindName(view.kind))
    }
    append(time: view.start, "startTimeUnixNano", in: &object)
    append(time: view.end, "endTimeUnixNano", in: &object)
    append(attributesOf: span, field: 9, in: &object)
    append(countOf: span, field: 10, "droppedAttributesCount", in: &object)
    append(messagesOf: span, field: 11, "events", in: &object) { out, event in out.append(event: event) }
    append(countOf: span, field: 12, "droppedEventsCount", in: &object)
    append(messagesOf: span, field: 13, "links", in: &object) { out, link in out.append(link: link) }
    append(countOf: span, field: 14, "droppedLinksCount", in: &object)
    object.key("status", &self)
    var status = JSONObject()
    if !view.statusMessage.isEmpty {
      status.key("message", &self)
      append(jsonString: view.statusMessage)
    }
    if view.statusCode == 1 || view.statusCode == 2 {
      status.key("code", &self)
      append(view.isError ? "\"STATUS_CODE_ERROR\"" as StaticString : "\"STATUS_CODE_OK\"")
    }
    status.end(&self)
    append(flagsOf: span, field: 16, in: &object)
    object.end(&self)
  }

  private static func kindName(_ kind: UInt64) -> StaticString {
    switch kind {
    case 1: "\"SPAN_KIND_INTERNAL\""
    case 2: "\"SPAN_KIND_SERVER\""
    case 3: "\"SPAN_KIND_CLIENT\""
    case 4: "\"SPAN_KIND_PRODUCER\""
    default: "\"SPAN_KIND_CONSUMER\""
    }
  }

  private mutating func append(event: UnsafeRawBufferPointer) {
    var object = JSONObject()
    var time: UInt64 = 0
    OTLP.forEach(event) { if $0.number == 1 { time = $0.fixed64 ?? time } }
    append(time: time, "timeUnixNano", in: &object)
    append(textOf: event, field: 2, "name", in: &object)
    append(attributesOf: event, field: 3, in: &object)
    append(countOf: event, field: 4, "droppedAttributesCount", in: &object)
    object.end(&self)
  }

  private mutating func append(link: UnsafeRawBufferPointer) {
    var object = JSONObject()
    append(base64Of: link, field: 1, "traceId", in: &object)
    append(base64Of: link, field: 2, "spanId", in: &object)
    append(textOf: link, field: 3, "traceState", in: &object)
    append(attributesOf: link, field: 4, in: &object)
    append(countOf: link, field: 5, "droppedAttributesCount", in: &object)
    append(flagsOf: link, field: 6, in: &object)
    object.end(&self)
  }

  // MARK: Members

  private mutating func append(
    textOf message: UnsafeRawBufferPointer, field: Int, _ key: StaticString, in object: inout JSONObject
  ) {
    guard let text = OTLP.bytes(in: message, field: field), !text.isEmpty else { return }
    object.key(key, &self)
    append(jsonString: text)
  }

  private mutating func append(
    base64Of message: UnsafeRawBufferPointer, field: Int, _ key: StaticString, in object: inout JSONObject
  ) {
    guard let id = OTLP.bytes(in: message, field: field), !id.isEmpty else { return }
    object.key(key, &self)
    append(quotedBase64: id)
  }

  private mutating func append(time: UInt64, _ key: StaticString, in object: inout JSONObject) {
    guard time > 0 else { return }
    object.key(key, &self)
    append(quotedDecimal: time)
  }

  private mutating func append(
    countOf message: UnsafeRawBufferPointer, field: Int, _ key: StaticString, in object: inout JSONObject
  ) {
    var count: UInt64 = 0
    OTLP.forEach(message) { if $0.number == field { count = $0.varint ?? count } }
    guard count > 0 else { return }
    object.key(key, &self)
    append(decimal: count)
  }

  private mutating func append(
    flagsOf message: UnsafeRawBufferPointer, field: Int, in object: inout JSONObject
  ) {
    var flags: UInt32 = 0
    OTLP.forEach(message) { if $0.number == field { flags = $0.fixed32 ?? flags } }
    guard flags > 0 else { return }
    object.key("flags", &self)
    append(decimal: Int(flags))
  }

  private mutating func append(
    messagesOf message: UnsafeRawBufferPointer, field: Int, _ key: StaticString, in object: inout JSONObject,
    _ write: (inout ByteBuffer, UnsafeRawBufferPointer) -> Void
  ) {
    guard OTLP.bytes(in: message, field: field) != nil else { return }
    object.key(key, &self)
    var list = JSONList(open: UInt8(ascii: "["), close: UInt8(ascii: "]"))
    OTLP.forEach(message) { part in
      guard part.number == field, let bytes = part.bytes else { return }
      list.next(&self)
      write(&self, bytes)
    }
    list.end(&self)
  }

  private mutating func append(
    attributesOf message: UnsafeRawBufferPointer, field: Int, in object: inout JSONObject
  ) {
    guard OTLP.bytes(in: message, field: field) != nil else { return }
    object.key("attributes", &self)
    append(keyValuesOf: message, field: field)
  }
}
