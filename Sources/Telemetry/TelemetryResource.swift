// Who speaks: the resource and scope of every span of one service, and the export message around its batches.

package import Base
internal import Protobuf

/// The identity that all spans of one service share, already encoded.
///
/// Field numbers are those of `opentelemetry/proto/trace/v1/trace.proto` and `resource/v1/resource.proto`.
package struct TelemetryResource: Sendable {
  /// The attributes in the order in which they are sent.
  package let attributes: [(key: String, value: String)]

  /// `service.name`.
  package var serviceName: String { attributes.first?.value ?? "" }

  /// `ResourceSpans.resource` with its tag.
  private let resource: [UInt8]
  /// `ScopeSpans.scope` with its tag.
  private let scope: [UInt8]

  /// The name of the instrumentation scope, and of the SDK that the spans come from.
  private static let scopeName = "dynamo-frontend"
  /// Bytes of `OTEL_RESOURCE_ATTRIBUTES` and pairs in it that are read.
  private static let environmentBytesMax = 16_384

  /// Describes a service.
  ///
  /// - Parameter instanceID: unique for this process (a UUID).
  /// - Parameter extra: further attributes; they give way to the ones named here.
  package init(
    serviceName: String, serviceVersion: String, instanceID: String,
    extra: [(key: String, value: String)] = []
  ) {
    var attributes: [(key: String, value: String)] = [
      (ResourceAttributeName.serviceName, serviceName),
      (ResourceAttributeName.serviceVersion, serviceVersion),
      (ResourceAttributeName.serviceInstanceID, instanceID),
      (ResourceAttributeName.sdkName, "opentelemetry"),
      (ResourceAttributeName.sdkLanguage, "swift"),
      (ResourceAttributeName.sdkVersion, serviceVersion),
    ]
    for pair in extra where !attributes.contains(where: { $0.key == pair.key }) { attributes.append(pair) }
    self.attributes = attributes

    var content = ByteBuffer()
    for (key, value) in attributes {
      let mark = content.beginMessage(field: 1)
      content.append(field: 1, string: key)
      let valueMark = content.beginMessage(field: 2)
      content.append(field: 1, string: value)
      content.endMessage(valueMark)
      content.endMessage(mark)
    }
    var field = ByteBuffer()
    field.append(field: 1, bytes: content.readable)
    resource = field.bytes

    content.removeAll()
    content.append(field: 1, string: TelemetryResource.scopeName)
    content.append(field: 2, string: serviceVersion)
    field.removeAll()
    field.append(field: 1, bytes: content.readable)
    scope = field.bytes
  }

  /// Describes the service of this process from its environment.
  ///
  /// `OTEL_SERVICE_NAME` beats `service.name` in `OTEL_RESOURCE_ATTRIBUTES`, which beats `defaultName`.
  /// The service's own instance id and SDK attributes always win.
  package init(
    environment: [String: String], defaultName: String, version: String, instanceID: String
  ) {
    let text = environment[EnvironmentName.otelResourceAttributes] ?? ""
    var pairs = TelemetryResource.parse(attributes: text) ?? []
    let named = pairs.last { $0.key == ResourceAttributeName.serviceName }?.value
    pairs.removeAll { $0.key == ResourceAttributeName.serviceName }
    let given = environment[EnvironmentName.otelServiceName] ?? ""
    let name = given.isEmpty ? named ?? "" : given
    self.init(
      serviceName: name.isEmpty ? defaultName : name, serviceVersion: version, instanceID: instanceID,
      extra: pairs)
  }

  /// The pairs of an `OTEL_RESOURCE_ATTRIBUTES` value (`k=v,k=v`, percent-encoded), or nil when any part of it
  /// cannot be read: then the whole value is discarded, as the resource specification asks.
  package static func parse(attributes text: String) -> [(key: String, value: String)]? {
    guard text.utf8.count <= environmentBytesMax else { return nil }
    var pairs: [(key: String, value: String)] = []
    for member in text.split(separator: ",", omittingEmptySubsequences: true) {
      let trimmed = member.trimmingSpaces
      if trimmed.isEmpty { continue }
      guard let equals = trimmed.firstIndex(of: "=") else { return nil }
      let rawKey = trimmed[..<equals].trimmingSpaces
      let rawValue = trimmed[trimmed.index(after: equals)...].trimmingSpaces
      guard let key = percentDecoded(rawKey), let value = percentDecoded(rawValue), !key.isEmpty else {
        return nil
      }
      pairs.removeAll { $0.key == key }
      pairs.append((key, value))
    }
    return pairs
  }

  private static func percentDecoded(_ text: Substring) -> String? {
    var bytes: [UInt8] = []
    var rest = text.utf8[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard let high = rest.popFirst().flatMap(Hex.value), let low = rest.popFirst().flatMap(Hex.value) else {
        return nil
      }
      bytes.append(high << 4 | low)
    }
    return String(validating: bytes, as: UTF8.self)
  }
}

extension TelemetryResource {
  /// Size of the export message around `spanBytes` bytes of span entries.
  package func exportRequestBytes(spanBytes: Int) -> Int {
    let scopeSpans = scope.count + spanBytes
    let resourceSpans = resource.count + ProtobufSize.field(2, lengthDelimited: scopeSpans)
    return ProtobufSize.field(1, lengthDelimited: resourceSpans)
  }

  /// Appends all of an `ExportTraceServiceRequest` but its last `spanBytes` bytes, the span entries.
  package func appendExportRequestHead(spanBytes: Int, to out: inout ByteBuffer) {
    let scopeSpans = scope.count + spanBytes
    let resourceSpans = resource.count + ProtobufSize.field(2, lengthDelimited: scopeSpans)
    out.append(field: 1, messageOf: resourceSpans)
    out.append(resource)
    out.append(field: 2, messageOf: scopeSpans)
    out.append(scope)
  }
}

extension Substring {
  fileprivate var trimmingSpaces: Substring {
    var rest = self
    while let first = rest.first, first == " " || first == "\t" { rest.removeFirst() }
    while let last = rest.last, last == " " || last == "\t" { rest.removeLast() }
    return rest
  }
}
