// The version of HTTP that a caller speaks, as spans say it.

package import HTTP

/// The version of HTTP that a request came by.
package enum ProtocolVersion: Int, CaseIterable {
  case http10, http11, http2

  package init(_ head: RequestHead) {
    self = head.isMultiplexed ? .http2 : head.minorVersion == 0 ? .http10 : .http11
  }

  /// As OpenTelemetry writes it.
  package var number: StaticString {
    switch self {
    case .http10: "1.0"
    case .http11: "1.1"
    case .http2: "2"
    }
  }

  /// As Dynamo does.
  package var text: StaticString {
    switch self {
    case .http10: "HTTP/1.0"
    case .http11: "HTTP/1.1"
    case .http2: "HTTP/2.0"
    }
  }
}
