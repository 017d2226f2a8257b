// The grammar of chunk extensions, read a byte at a time and thrown away.

internal import CBytes

/// Checks `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 section 7.1.1).
///
/// Odd bytes here are how one parser is made to see a line end that another does not, so that nothing but the
/// grammar passes.
struct ChunkExtensions {
  private enum State: UInt8 {
    case start, semicolon, name, afterName, equals, token, quoted, escaped, afterValue
  }

  private var state = State.start
  private var lineBytes = 0
  private var totalBytes = 0
  private let lineBytesMax: Int
  private let totalBytesMax: Int

  init(_ limits: HTTP1Limits) {
    lineBytesMax = limits.chunkExtensionBytesMax
    totalBytesMax = limits.chunkExtensionsTotalBytesMax
  }

  /// Starts with the extensions of another chunk.
  mutating func begin() {
    state = .start
    lineBytes = 0
  }

  /// True when the line may end here.
  var mayEnd: Bool {
    switch state {
    case .name, .token, .afterValue: true
    default: false
    }
  }

  /// Takes one byte other than CR.
  mutating func accept(_ byte: UInt8) -> HTTP1ParseError? {
    lineBytes += 1
    totalBytes += 1
    if lineBytes > lineBytesMax || totalBytes > totalBytesMax { return .chunkExtensionTooLong }
    if byte == UInt8(ascii: "\n") { return .bareLineFeed }
    guard let next = following(byte) else { return .malformedChunkExtension }
    state = next
    return nil
  }

  private func following(_ byte: UInt8) -> State? {
    let isSpace = byte == 0x20 || byte == 0x09
    let isToken = cbytes_is_class(byte, UInt8(CBYTES_TOKEN))
    switch state {
    case .start, .afterValue:
      return byte == UInt8(ascii: ";") ? .semicolon : isSpace ? .start : nil
    case .semicolon:
      return isToken ? .name : isSpace ? .semicolon : nil
    case .name, .afterName:
      if isToken, case .name = state { return .name }
      if byte == UInt8(ascii: "=") { return .equals }
      return byte == UInt8(ascii: ";") ? .semicolon : isSpace ? .afterName : nil
    case .equals:
      if byte == UInt8(ascii: "\"") { return .quoted }
      return isToken ? .token : isSpace ? .equals : nil
    case .token:
      if isToken { return .token }
      return byte == UInt8(ascii: ";") ? .semicolon : isSpace ? .start : nil
    case .quoted:
      if byte == UInt8(ascii: "\"") { return .afterValue }
      if byte == UInt8(ascii: "\\") { return .escaped }
      return isText(byte) ? .quoted : nil
    case .escaped:
      return isText(byte) ? .quoted : nil
    }
  }

  /// HTAB, space and visible ASCII; bytes from 0x80 are left out on purpose.
  private func isText(_ byte: UInt8) -> Bool { byte == 0x09 || (byte >= 0x20 && byte < 0x7f) }
}
