// The PROXY protocol, version 2 (HAProxy's proxy-protocol.txt, section 2.2): whom a proxy's connection comes from.

internal import Base
package import EventLoop

/// Why the beginning of a connection is no PROXY header of version 2.
package enum ProxyHeaderFault: Error, Sendable, Equatable {
  /// The text form of version 1, which is not spoken here.
  case version1
  /// Something else: HTTP or TLS at once, most likely.
  case missing
  /// The signature is right and what follows it is not.
  case malformed
  /// It promises more than ``ProxyHeaderReader/bytesMax``.
  case tooLong
  /// It did not come in time, or not whole.
  case incomplete

  /// A sentence for the log.
  package var text: StaticString {
    switch self {
    case .version1: "the proxy speaks PROXY protocol version 1; set it to version 2"
    case .missing: "a peer that is to send a PROXY header sent none"
    case .malformed: "the PROXY header is malformed"
    case .tooLong: "the PROXY header is longer than 1,024 bytes"
    case .incomplete: "the PROXY header did not come"
    }
  }
}

/// Reads one header, and not a byte more: what follows it may be TLS. Sans I/O.
///
/// Ask for ``wanted`` bytes, give those that came to ``receive(_:)``, until it has an answer.
package struct ProxyHeaderReader {
  /// Bound of a whole header. Proxies send under 300 bytes; a TLS client's certificate is not among them.
  package static let bytesMax = 1_024
  private static let fixedBytes = 16
  private static let signature: [UInt8] = [
    0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a,
  ]
  /// How a header of version 1 begins.
  private static let version1 = Array("PROXY ".utf8)

  /// What a whole header says.
  package enum Answer: Equatable {
    /// The proxy speaks for itself (LOCAL), or for a peer without an IP address.
    case proxyItself
    case client(SocketAddress)
  }

  private var bytes: [UInt8] = []

  package init() {}

  /// How many bytes may be read next without reading past the header; 0 once it is whole.
  package var wanted: Int { total - bytes.count }

  private var total: Int {
    bytes.count < Self.fixedBytes ? Self.fixedBytes : Self.fixedBytes + (Int(bytes[14]) << 8 | Int(bytes[15]))
  }

  /// Takes up to ``wanted`` bytes. Nil until the header is whole. Throws as soon as it can be told to be none.
  package mutating func receive(_ piece: UnsafeRawBufferPointer) throws(ProxyHeaderFault) -> Answer? {
    bytes += piece
    guard bytes.prefix(Self.signature.count).elementsEqual(Self.signature.prefix(bytes.count)) else {
      let isVersion1 = bytes.prefix(Self.version1.count).elementsEqual(Self.version1.prefix(bytes.count))
      // One byte more may tell which of the two it is not.
      if isVersion1, bytes.count < Self.version1.count { return nil }
      throw isVersion1 ? .version1 : .missing
    }
    if bytes.count > 12, bytes[12] != 0x20, bytes[12] != 0x21 { throw .malformed }
    guard bytes.count >= Self.fixedBytes else { return nil }
    guard total <= Self.bytesMax else { throw .tooLong }
    guard wanted == 0 else { return nil }
    return try answer()
  }

  private func answer() throws(ProxyHeaderFault) -> Answer {
    // LOCAL: a health check of the proxy's own; the addresses are to be ignored.
    if bytes[12] == 0x20 { return .proxyItself }
    let addressBytes: Int
    switch bytes[13] {
    // Stream and datagram alike: the transport is the connection's own.
    case 0x11, 0x12: addressBytes = 4
    case 0x21, 0x22: addressBytes = 16
    case 0x00, 0x31, 0x32: return .proxyItself
    default: throw .malformed
    }
    // Source and destination, then their ports. Extensions (TLVs) may follow, and tell nothing that is used here.
    let start = Self.fixedBytes
    let ports = start + 2 * addressBytes
    guard bytes.count >= ports + 4 else { throw .malformed }
    let port = UInt16(bytes[ports]) << 8 | UInt16(bytes[ports + 1])
    guard let client = SocketAddress(ipBytes: bytes[start..<start + addressBytes], port: port) else {
      throw .malformed
    }
    return .client(client)
  }
}
