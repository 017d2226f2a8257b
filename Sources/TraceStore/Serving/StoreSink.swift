// The way in for spans of this process: no socket, no copy of the service's name by the sender.

internal import Base
internal import EventLoop
internal import Synchronization
internal import Telemetry

/// Hands batches of one service to the store's thread. Bounded; what does not fit is dropped and counted.
final class StoreSink: SpanSink {
  /// Bytes that may wait for the store's thread.
  static let waitingBytesMax = 16 << 20

  private let resource: TelemetryResource
  /// The service's books; nil where the exporter keeps them.
  private let ledger: SpanLedger?
  private let mailbox: Mailbox
  private let target: LoopBound<StoreLoop>
  private let waitingBytes = Atomic<Int>(0)
  private let isClosed: ClosedFlag

  /// Whether the store's thread is over; shared by its sinks.
  final class ClosedFlag: Sendable {
    let value = Atomic<Bool>(false)
  }

  init(
    resource: TelemetryResource, ledger: SpanLedger?, mailbox: Mailbox, target: LoopBound<StoreLoop>,
    isClosed: ClosedFlag
  ) {
    self.resource = resource
    self.ledger = ledger
    self.mailbox = mailbox
    self.target = target
    self.isClosed = isClosed
  }

  func publish(_ batch: SpanBatch) {
    guard batch.spanCount > 0 else { return }
    guard !isClosed.value.load(ordering: .acquiring) else {
      ledger?.recordDropped(batch.spanCount, .shutdown)
      return
    }
    let bytes = batch.bytes.count
    guard waitingBytes.add(bytes, ordering: .relaxed).newValue <= Self.waitingBytesMax else {
      waitingBytes.subtract(bytes, ordering: .relaxed)
      ledger?.recordDropped(batch.spanCount, .queueFull)
      return
    }
    mailbox.submit { [self] loop in
      waitingBytes.subtract(bytes, ordering: .relaxed)
      take(batch, target.open(on: loop))
    }
  }

  private func take(_ batch: SpanBatch, _ parent: StoreLoop) {
    var request = ByteBuffer(capacity: batch.bytes.count + 512)
    resource.appendExportRequestHead(spanBytes: batch.bytes.count, to: &request)
    batch.bytes.withUnsafeBytes { request.append($0) }
    do throws(IngestError) {
      let result = try parent.ingest(request.readable) { $0.localBatches += 1 }
      ledger?.recordSent(result.stored)
      if result.refused > 0 { ledger?.recordDropped(result.refused, .tooLarge) }
    } catch {
      ledger?.recordDropped(batch.spanCount, .rejected)
    }
  }
}
