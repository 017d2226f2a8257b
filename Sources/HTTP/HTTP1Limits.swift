// The bounds of the HTTP/1.1 codecs.

/// Bounds on what one HTTP/1.1 message may make us hold or scan.
package struct HTTP1Limits: Sendable {
  /// Longest request line or status line, without its CRLF; past it 414.
  package var startLineBytesMax = 8 * 1024
  /// Longest head, with the start line and the empty line; past it 431.
  package var headBytesMax = 32 * 1024
  /// Most field lines in a head; past it 431. At most 254.
  package var fieldCountMax = 100
  /// Longest run of extensions after one chunk size.
  package var chunkExtensionBytesMax = 1024
  /// Longest sum of all extensions of a body, so that one-byte chunks cannot hide in them.
  package var chunkExtensionsTotalBytesMax = 64 * 1024
  /// Longest trailer section; past it 431.
  package var trailerBytesMax = 8 * 1024

  /// Creates the default bounds.
  package init() {}
}
