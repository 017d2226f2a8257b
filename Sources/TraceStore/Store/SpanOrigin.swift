// Who made a span: its resource and scope, shared by all spans of one sender.

internal import Base
internal import Protobuf

/// A resource with one of its scopes, kept as the bytes that came. Confined to the store's thread.
package final class SpanOrigin {
  /// Fields of `ResourceSpans` beside its spans: resource (1) and schema_url (3), with their tags.
  let resourceFields: ByteBuffer
  /// Fields of `ScopeSpans` beside its spans: scope (1) and schema_url (3), with their tags.
  let scopeFields: ByteBuffer
  /// The value of `service.name`; empty when there is none.
  package let serviceName: String
  /// Span groups that point here; the store forgets an origin that has none.
  var groupCount = 0
  let hash: OriginHash

  init(resourceFields: UnsafeRawBufferPointer, scopeFields: UnsafeRawBufferPointer, hash: OriginHash) {
    var resource = ByteBuffer(capacity: resourceFields.count)
    resource.append(resourceFields)
    var scope = ByteBuffer(capacity: scopeFields.count)
    scope.append(scopeFields)
    var name = ""
    AttributeReader.forEach(in: OTLP.resource(resource.readable), field: 1) { key, value in
      if name.isEmpty, key.equals("service.name"), case .string(let text) = value { name = text.text }
    }
    self.resourceFields = resource
    self.scopeFields = scope
    self.hash = hash
    serviceName = name
  }

  /// Memory that the origin takes, about.
  var bytes: Int { resourceFields.count + scopeFields.count + 320 }

  /// The Resource message; empty when none came.
  var resource: UnsafeRawBufferPointer { OTLP.resource(resourceFields.readable) }

  /// The InstrumentationScope message; nil when none came.
  var scope: UnsafeRawBufferPointer? { OTLP.bytes(in: scopeFields.readable, field: 1) }

  func isSame(_ resource: UnsafeRawBufferPointer, _ scope: UnsafeRawBufferPointer) -> Bool {
    resourceFields.readable.equals(resource) && scopeFields.readable.equals(scope)
  }
}

/// 128 bits over both parts of an origin. Seeded by the store, so that no sender can aim at a collision.
struct OriginHash: Hashable {
  let resource: UInt64
  let scope: UInt64
}
