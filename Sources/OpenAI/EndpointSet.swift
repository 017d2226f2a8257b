// Which routes a worker serves: by labels, by an OpenAPI document, as a set.

package import Base
internal import JSON

/// A set of inference routes.
package struct EndpointSet: OptionSet, Sendable, Hashable {
  package let rawValue: UInt16

  package init(rawValue: UInt16) { self.rawValue = rawValue }

  /// The set of one.
  package init(_ endpoint: Endpoint) { rawValue = 1 << UInt16(endpoint.rawValue) }

  /// Every route.
  package static let all = EndpointSet(Endpoint.allCases)

  package init(_ endpoints: [Endpoint]) {
    self = endpoints.reduce(into: []) { $0.formUnion(EndpointSet($1)) }
  }

  /// True when `endpoint` is one of them.
  package func contains(_ endpoint: Endpoint) -> Bool { contains(EndpointSet(endpoint)) }

  /// The set that labels name; unknown ones are passed over.
  package init(labels: [String]) {
    self.init(Endpoint.allCases.filter { endpoint in labels.contains { $0 == "\(endpoint.label)" } })
  }

  /// The routes that an OpenAPI document lists; nil when it is none, or lists no route of inference, which an engine that
  /// hides its routes has all the same.
  package init?(openAPI document: UnsafeRawBufferPointer) {
    var endpoints: EndpointSet = []
    do throws(JSONError) {
      var scanner = JSONScanner(document)
      guard try scanner.objectOrSkip() else { return nil }
      while let key = try scanner.nextKey() {
        guard key.equals("paths", in: document) else {
          try scanner.skipValue()
          continue
        }
        guard try scanner.objectOrSkip() else { return nil }
        while let path = try scanner.nextKey() {
          // Requests go to a route's first name.
          if let endpoint = Endpoint.allCases.first(where: { path.equals($0.path, in: document) }) {
            endpoints.formUnion(EndpointSet(endpoint))
          }
          try scanner.skipValue()
        }
      }
      try scanner.finish()
    } catch {
      return nil
    }
    if endpoints.isEmpty { return nil }
    self = endpoints
  }

  /// Its members in their order.
  package var endpoints: [Endpoint] { Endpoint.allCases.filter { contains($0) } }
}

extension ByteBuffer {
  /// Appends the labels of routes as an array.
  package mutating func append(_ endpoints: EndpointSet) {
    append(UInt8(ascii: "["))
    for (index, endpoint) in endpoints.endpoints.enumerated() {
      append(index == 0 ? "\"" as StaticString : ",\"")
      append(endpoint.label)
      append(UInt8(ascii: "\""))
    }
    append(UInt8(ascii: "]"))
  }
}
