// Which `x-request-id` of a caller is kept, on both sides of the hop.

/// The rule for `x-request-id`: it goes into headers, spans and logs as it is, so it must be harmless and short.
package enum XRequestID {
  /// Longest one that is kept.
  package static let bytesMax = 128

  /// True for 1 to 128 visible ASCII characters.
  package static func isFit(_ value: UnsafeRawBufferPointer) -> Bool {
    (1...bytesMax).contains(value.count) && value.allSatisfy { (0x21...0x7e).contains($0) }
  }
}
