// One export message: spans of several batches, framed and ready to be sent, and again on a retry.

import Base
import GRPC
import HTTP
import Protobuf
import Telemetry

/// A run of whole span entries inside a batch.
struct SpanSlice {
  let batch: SpanBatch
  let bytes: Range<Int>
  let spanCount: Int

  init(_ batch: SpanBatch) {
    self.batch = batch
    bytes = 0..<batch.bytes.count
    spanCount = batch.spanCount
  }

  init(_ batch: SpanBatch, _ bytes: Range<Int>, spanCount: Int) {
    self.batch = batch
    self.bytes = bytes
    self.spanCount = spanCount
  }

  /// Cuts the batch at span borders so that no slice is over the bounds. Spans that are too large alone, and
  /// spans behind bytes that are no entries, are left out and counted in `lost`.
  static func cut(_ batch: SpanBatch, spansMax: Int, bytesMax: Int, lost: inout Int) -> [SpanSlice] {
    if batch.spanCount <= spansMax, batch.bytes.count <= bytesMax { return [SpanSlice(batch)] }
    var slices: [SpanSlice] = []
    var start = 0
    var count = 0
    var seen = 0
    batch.bytes.withUnsafeBytes { bytes in
      var reader = ProtobufReader(bytes)
      var position = 0
      func close(at end: Int) {
        if count > 0 { slices.append(SpanSlice(batch, start..<end, spanCount: count)) }
        count = 0
      }
      while seen < batch.spanCount, (try? reader.next()) != nil {
        let next = reader.position
        seen += 1
        if next - position > bytesMax {
          close(at: position)
          start = next
          lost += 1
        } else if count > 0, count == spansMax || next - start > bytesMax {
          close(at: position)
          start = position
          count = 1
        } else {
          if count == 0 { start = position }
          count += 1
        }
        position = next
      }
      close(at: position)
    }
    lost += batch.spanCount - seen
    return slices
  }
}

/// The bounds of one message.
package struct ExportMessageLimits: Sendable {
  /// Spans in a message.
  package var spansMax = 4_096
  /// Bytes of span entries at which a message is full; one batch that is larger still goes alone.
  package var bytesAimed = 1 << 20
  /// Bytes of span entries that a message may hold at all: receivers refuse messages over 4 MiB.
  package var bytesMax = 4 << 20 - 64 << 10

  package init() {}
}

/// One ExportTraceServiceRequest with its spans' count and how long it may be tried.
final class ExportMessage {
  /// The request as protobuf: pieces that follow each other.
  let payload: [HTTP2Body.Piece]
  let spanCount: Int
  /// The file that holds it; nil while it is in memory alone.
  let file: SpoolFile?
  /// Set with the first try: no try begins and none is waited for after it.
  var deadline: Nanoseconds?
  /// Calls that were begun with it, by an earlier process too.
  var calls: Int
  /// As it goes over the wire; made with the first try.
  var encoded: EncodedMessage?

  /// Puts slices of batches into one request.
  init(_ slices: [SpanSlice], resource: TelemetryResource) {
    let spanBytes = slices.reduce(0) { $0 + $1.bytes.count }
    spanCount = slices.reduce(0) { $0 + $1.spanCount }
    var head = ByteBuffer(capacity: 512)
    resource.appendExportRequestHead(spanBytes: spanBytes, to: &head)
    let frozen = FrozenBytes(head)
    payload =
      [HTTP2Body.Piece(frozen, 0..<frozen.count)] + slices.map { HTTP2Body.Piece($0.batch.bytes, $0.bytes) }
    file = nil
    calls = 0
  }

  /// A request that was read back from `file`.
  init(_ payload: HTTP2Body.Piece, of file: SpoolFile) {
    self.payload = [payload]
    self.file = file
    spanCount = file.spanCount
    calls = file.calls
  }

  /// Length of the request as protobuf.
  var payloadBytes: Int { payload.reduce(0) { $0 + $1.range.count } }
}

/// A message as it goes over the wire.
struct EncodedMessage {
  let body: HTTP2Body
  let isCompressed: Bool
}

/// Compresses and frames messages. Loop-confined.
final class ExportEncoder {
  private let transport: ExportTransport
  /// Nil where messages go as they are.
  private let deflater: GzipDeflater?

  /// Creates an encoder for messages of at most `bytesMax` bytes.
  init(_ transport: ExportTransport, compresses: Bool, bytesMax: Int) {
    self.transport = transport
    // Without memory for a compressor spans still go, uncompressed.
    deflater = compresses ? try? GzipDeflater(outputBytesMax: bytesMax) : nil
  }

  /// The wire form of `message`; made once, so that all tries send the same bytes.
  func encode(_ message: ExportMessage) -> EncodedMessage {
    if let encoded = message.encoded { return encoded }
    let compressed = compress(message)
    let pieces = compressed.map { [$0] } ?? message.payload
    var prefix = ByteBuffer()
    if case .grpc = transport {
      let bytes = pieces.reduce(0) { $0 + $1.range.count }
      GRPCFrame.appendPrefix(messageBytes: bytes, isCompressed: compressed != nil, to: &prefix)
    }
    let encoded = EncodedMessage(
      body: HTTP2Body(prefix, pieces: pieces), isCompressed: compressed != nil)
    message.encoded = encoded
    return encoded
  }

  /// The message in one compressed piece; nil where it is not to be compressed, or not made smaller by it.
  private func compress(_ message: ExportMessage) -> HTTP2Body.Piece? {
    guard let deflater else { return nil }
    var out = ByteBuffer()
    do throws(GzipError) {
      for piece in message.payload {
        try piece.bytes.withUnsafeBytes { bytes throws(GzipError) in
          try deflater.append(bytes.slice(piece.range), to: &out)
        }
      }
      try deflater.finish(into: &out)
    } catch {
      return nil
    }
    let frozen = FrozenBytes(out)
    return HTTP2Body.Piece(frozen, 0..<frozen.count)
  }
}
