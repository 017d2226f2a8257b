// Why a message is refused, and with which status.

/// A reason to refuse an HTTP/1.1 message. The connection must be closed after any of them, because where the next
/// message begins is no longer certain (RFC 9112 section 11.2).
package enum HTTP1ParseError: UInt8, Error, Sendable, CaseIterable {
  case malformedRequestLine
  case malformedTarget
  case requestLineTooLong
  case unsupportedVersion
  case malformedStatusLine
  case malformedFieldName
  case whitespaceBeforeColon
  case obsoleteFolding
  case bareCarriageReturn
  case bareLineFeed
  case controlByteInValue
  case nulInHead
  case invalidUTF8
  case headTooLarge
  case tooManyFields
  case missingHost
  case repeatedHost
  case malformedHost
  case hostMismatch
  case malformedContentLength
  case repeatedContentLength
  case lengthAndTransferEncoding
  case malformedTransferEncoding
  case unsupportedTransferCoding
  case transferEncodingInHTTP10
  case upgradeWithBody
  case malformedChunkSize
  case chunkSizeOverflow
  case malformedChunkExtension
  case chunkExtensionTooLong
  case malformedChunkEnd
  case malformedTrailer
  case trailersTooLarge
  case truncatedBody

  /// The status with which a server answers.
  package var status: Int {
    switch self {
    case .requestLineTooLong: 414
    case .headTooLarge, .tooManyFields, .trailersTooLarge: 431
    case .unsupportedTransferCoding: 501
    case .unsupportedVersion: 505
    default: 400
    }
  }

  /// A constant description, fit for the answer's body.
  package var message: StaticString {
    switch self {
    case .malformedRequestLine: "malformed request line"
    case .malformedTarget: "malformed request target"
    case .requestLineTooLong: "request line too long"
    case .unsupportedVersion: "HTTP version not supported"
    case .malformedStatusLine: "malformed status line"
    case .malformedFieldName: "malformed header name"
    case .whitespaceBeforeColon: "whitespace before the colon of a header"
    case .obsoleteFolding: "folded header line"
    case .bareCarriageReturn: "carriage return without line feed"
    case .bareLineFeed: "line feed without carriage return"
    case .controlByteInValue: "control character in a header value"
    case .nulInHead: "NUL in a header"
    case .invalidUTF8: "header value is not valid UTF-8"
    case .headTooLarge: "request header fields too large"
    case .tooManyFields: "too many request header fields"
    case .missingHost: "missing host header"
    case .repeatedHost: "more than one host header"
    case .malformedHost: "malformed host header"
    case .hostMismatch: "host header differs from the request target"
    case .malformedContentLength: "malformed content-length"
    case .repeatedContentLength: "more than one content-length"
    case .lengthAndTransferEncoding: "both content-length and transfer-encoding"
    case .malformedTransferEncoding: "malformed transfer-encoding"
    case .unsupportedTransferCoding: "transfer coding not supported"
    case .transferEncodingInHTTP10: "transfer-encoding in an HTTP/1.0 message"
    case .upgradeWithBody: "h2c upgrade with a body"
    case .malformedChunkSize: "malformed chunk size"
    case .chunkSizeOverflow: "chunk size too large"
    case .malformedChunkExtension: "malformed chunk extension"
    case .chunkExtensionTooLong: "chunk extension too long"
    case .malformedChunkEnd: "chunk data not followed by CRLF"
    case .malformedTrailer: "malformed trailer"
    case .trailersTooLarge: "trailers too large"
    case .truncatedBody: "body ended early"
    }
  }
}
