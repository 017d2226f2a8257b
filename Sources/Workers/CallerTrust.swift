// Whose trace context is believed, on either side of the hop.

package import EventLoop
package import Transport

/// Whose trace context becomes the parent (`DYN_TRACE_TRUST`); anybody else's becomes a link.
package enum CallerTrust: Sendable, Equatable {
  case always
  case never
  /// Callers whose address is one of these.
  case peers(AddressRanges)

  /// Reads the variable's value and the list of trusted peers.
  ///
  /// - Parameter faults: gets a sentence for each peer that cannot be read; it is not trusted.
  package init(_ word: String, peers: [String], faults: inout [String]) {
    switch word {
    case "trusted-peers": self = .peers(AddressRanges(peers, faults: &faults))
    case "never": self = .never
    default: self = .always
    }
  }

  /// True when this caller is believed.
  package func admits(_ exchange: any ServerExchange) -> Bool {
    switch self {
    case .always: true
    case .never: false
    case .peers(let ranges): exchange.peerAddress.map { ranges.contains($0) } ?? false
    }
  }
}
