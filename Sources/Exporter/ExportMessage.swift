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

/// A framed message with its spans' count and how long it may be tried.
final class ExportMessage {
  let body: HTTP2Body
  let spanCount: Int
  /// Set with the first try: no try begins and none is waited for after it.
  var deadline: Nanoseconds?
  /// Calls that were begun with it.
  var calls = 0

  init(_ slices: [SpanSlice], resource: TelemetryResource) {
    let spanBytes = slices.reduce(0) { $0 + $1.bytes.count }
    spanCount = slices.reduce(0) { $0 + $1.spanCount }
    var head = ByteBuffer(capacity: 512)
    GRPCFrame.appendPrefix(messageBytes: resource.exportRequestBytes(spanBytes: spanBytes), to: &head)
    resource.appendExportRequestHead(spanBytes: spanBytes, to: &head)
    body = HTTP2Body(head, pieces: slices.map { HTTP2Body.Piece($0.batch.bytes, $0.bytes) })
  }
}
