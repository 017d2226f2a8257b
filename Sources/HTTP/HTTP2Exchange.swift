// One HTTP/2 stream as the sessions collect it: head, body, trailers and how it ended.

package import Base

/// Limits of one HTTP/2 session, either role.
package struct HTTP2Limits: Sendable {
  /// Field lines of one received section, in bytes as RFC 9113 section 6.5.2 counts them.
  package var headerListBytes = 16 << 10
  /// Field lines of one received section.
  package var headerCount = 100
  /// Received body of one stream. The default lets a 4 MiB gRPC message with its prefix through.
  package var bodyBytes = 4 << 20 + 5
  /// Received bodies of all open streams together; a stream that would pass it is reset.
  package var bufferedBytes = 16 << 20
  /// Streams that the peer may open at the same time (server role).
  package var concurrentStreams = 100
  /// Receive window of a stream: how much the peer may send before we acknowledge it.
  package var streamWindowBytes = 65_535
  /// Receive window of the connection; raised above the protocol's 65,535 by WINDOW_UPDATE.
  package var connectionWindowBytes = 65_535
  /// How much output is gathered at a time.
  package var outputBytes = 1 << 20

  /// The defaults.
  package init() {}
}

/// An error code of RFC 9113 section 7, as carried by RST_STREAM and GOAWAY.
package enum HTTP2ErrorCode {
  package static let noError: UInt32 = 0x0
  package static let protocolError: UInt32 = 0x1
  package static let internalError: UInt32 = 0x2
  package static let flowControlError: UInt32 = 0x3
  package static let settingsTimeout: UInt32 = 0x4
  package static let streamClosed: UInt32 = 0x5
  package static let frameSizeError: UInt32 = 0x6
  package static let refusedStream: UInt32 = 0x7
  package static let cancel: UInt32 = 0x8
  package static let compressionError: UInt32 = 0x9
  package static let connectError: UInt32 = 0xa
  package static let enhanceYourCalm: UInt32 = 0xb
  package static let inadequateSecurity: UInt32 = 0xc
  package static let http11Required: UInt32 = 0xd
}

/// How a stream ended. Every stream ends exactly once.
package enum HTTP2End: Sendable, Equatable {
  /// The peer's side was received whole.
  case complete
  /// The stream was reset, by the peer or by us, with a code of ``HTTP2ErrorCode``.
  case reset(code: UInt32)
  /// The peer did not process the stream (REFUSED_STREAM, or beyond its GOAWAY): safe to send again.
  case refused
  /// A received section passed ``HTTP2Limits/headerListBytes`` or its line count.
  case headersTooLarge
  /// The received body passed ``HTTP2Limits/bodyBytes`` or the session's total.
  case bodyTooLarge
  /// The connection went away first.
  case connectionLost
}

/// Why a session refused an operation or gave up.
package enum HTTP2Error: Error, Equatable {
  /// libnghttp2 failed; `code` is its error, `call` the function.
  case library(call: StaticString, code: Int32)
  /// The peer announced with GOAWAY that it takes no new streams, or stream ids ran out.
  case goingAway

  package static func == (left: HTTP2Error, right: HTTP2Error) -> Bool {
    switch (left, right) {
    case (.library(_, let a), .library(_, let b)): a == b
    case (.goingAway, .goingAway): true
    default: false
    }
  }
}

/// A GOAWAY frame as received.
package struct HTTP2GoAway: Sendable, Equatable {
  /// Highest stream id that the peer may have acted on.
  package let lastStreamID: Int32
  /// A code of ``HTTP2ErrorCode``.
  package let code: UInt32
  /// Start of the debug text, at most 128 bytes, with invalid UTF-8 replaced.
  package let debug: String
}

/// What a stream, or an HTTP/1.1 message, sends as its body: bytes of its own, then pieces of bytes that others own too, which are copied only
/// into the output. May be sent again once its stream has ended.
package final class HTTP2Body {
  /// A part of finished bytes.
  package struct Piece {
    package let bytes: FrozenBytes
    package let range: Range<Int>

    package init(_ bytes: FrozenBytes, _ range: Range<Int>) {
      self.bytes = bytes
      self.range = range
    }
  }

  private let head: ByteBuffer
  private let pieces: [Piece]
  /// Length of the whole body.
  package let count: Int

  /// Takes over `head` and keeps `pieces`.
  package init(_ head: consuming ByteBuffer = ByteBuffer(), pieces: [Piece] = []) {
    count = pieces.reduce(head.count) { $0 + $1.range.count }
    self.head = head
    self.pieces = pieces
  }

  /// Appends the bytes of `range` to `output`.
  package func append(_ range: Range<Int>, to output: inout ByteBuffer) {
    var start = 0
    func take(_ bytes: UnsafeRawBufferPointer, _ output: inout ByteBuffer) {
      let wanted = range.clamped(to: start..<start + bytes.count)
      if !wanted.isEmpty {
        output.append(bytes.slice(wanted.lowerBound - start..<wanted.upperBound - start))
      }
      start += bytes.count
    }
    take(head.readable, &output)
    for piece in pieces where start < range.upperBound {
      piece.bytes.withUnsafeBytes { take($0.slice(piece.range), &output) }
    }
  }
}

/// One stream: what was received, what is being sent, and its end.
///
/// Confined to the thread of its session. The session owns it while the stream is open and hands it out
/// when it finished (client) or when the request is complete (server).
package final class HTTP2Exchange {
  package let streamID: Int32
  /// The final head received: the response's on a client, the request's on a server.
  package internal(set) var head = HTTP2Fields()
  /// The body received so far.
  package internal(set) var body = ByteBuffer()
  /// The trailers received; nil while there are none.
  package internal(set) var trailers: HTTP2Fields?
  /// How the stream ended; nil while it is open.
  package internal(set) var end: HTTP2End?

  var hasHead = false
  var inTrailers = false
  var remoteEnded = false
  var fault: HTTP2End?
  var outgoing: HTTP2Body?
  var outgoingOffset = 0
  var outgoingTrailers: HTTP2Fields?
  /// When bytes of a body last moved, either way, or the peer's side began or ended, or it was answered; by
  /// ``HTTP2Streams/now``.
  var lastProgress: Nanoseconds

  init(streamID: Int32, now: Nanoseconds = 0) {
    self.streamID = streamID
    lastProgress = now
  }

  /// The section that header lines belong to at the moment.
  var section: HTTP2Fields { trailers ?? head }

  /// Notes the start of a header section. An informational (1xx) head is forgotten when the next begins.
  func beginSection() {
    if hasHead, (200...999).contains(head.status ?? 200) {
      trailers = HTTP2Fields()
    } else {
      head = HTTP2Fields()
      hasHead = true
    }
  }
}
