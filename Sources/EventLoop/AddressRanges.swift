// Lists of IP networks, as settings name peers by.

internal import Glibc

/// IP networks in CIDR form; a bare address is a network of one, and `unix` stands for all peers on Unix sockets.
package struct AddressRanges: Sendable, Equatable {
  private struct Range: Equatable {
    let bytes: [UInt8]
    let prefix: Int
  }

  private let ranges: [Range]
  private let hasUnix: Bool

  /// Reads `10.0.0.0/8`, `::1`, `fd00::/8`, `unix`.
  ///
  /// - Parameter faults: gets a sentence for each entry that is none, which is left out.
  package init(_ entries: [String], faults: inout [String]) {
    var ranges: [Range] = []
    hasUnix = entries.contains("unix")
    for entry in entries where entry != "unix" {
      if let range = Self.range(entry) {
        ranges.append(range)
      } else {
        faults.append("'\(entry)' is no IP address or network")
      }
    }
    self.ranges = ranges
  }

  private static func range(_ entry: String) -> Range? {
    let parts = entry.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count <= 2, let bytes = address(String(parts[0])) else { return nil }
    guard parts.count == 2 else { return Range(bytes: bytes, prefix: bytes.count * 8) }
    guard let prefix = Int(parts[1]), (0...bytes.count * 8).contains(prefix) else { return nil }
    return Range(bytes: bytes, prefix: prefix)
  }

  private static func address(_ text: String) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: 16)
    if inet_pton(AF_INET, text, &bytes) == 1 { return Array(bytes.prefix(4)) }
    return inet_pton(AF_INET6, text, &bytes) == 1 ? bytes : nil
  }

  /// True when there is none.
  package var isEmpty: Bool { ranges.isEmpty && !hasUnix }

  /// True when `address` lies in one of them. An IPv4 address that an IPv6 socket shows mapped counts as IPv4.
  package func contains(_ address: SocketAddress) -> Bool {
    if address.isUnix { return hasUnix }
    let bytes = address.ipBytes
    return ranges.contains { range in
      guard range.bytes.count == bytes.count else { return false }
      var left = range.prefix
      for (wanted, given) in zip(range.bytes, bytes) {
        if left <= 0 { break }
        let mask: UInt8 = left >= 8 ? 0xff : 0xff << UInt8(8 - left)
        if (wanted ^ given) & mask != 0 { return false }
        left -= 8
      }
      return true
    }
  }
}
