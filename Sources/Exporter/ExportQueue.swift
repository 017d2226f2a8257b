// The bounded queue between the loops and the exporter thread, and the books of what left it.

import Base
import Protobuf
import Synchronization
package import Telemetry

/// Batches that wait, and the count of spans that the exporter holds outside. Every span that is put in leaves as
/// sent or as dropped with a reason.
package final class ExportQueue: Sendable {
  /// Bounds and the filling level that wakes the exporter.
  package struct Limits: Sendable {
    /// Spans that may wait; more are dropped as `queue_full`.
    package var spansMax = 65_536
    /// Bytes that may wait; more are dropped as `queue_full`.
    package var bytesMax = 16 << 20
    /// Waiting spans at which a message is due without waiting for the delay.
    package var spansDue = 2_048
    /// Waiting bytes at which a message is due.
    package var bytesDue = 1 << 20

    package init() {}
  }

  /// What waits now.
  package struct Level: Sendable, Equatable {
    package var spans = 0
    package var bytes = 0
  }

  /// What a publisher has to do after ``put(_:)``.
  enum Put {
    case nothing
    /// The queue was empty, became due or half full: the exporter must look.
    case wake
    /// Nothing of the batch had room.
    case full
  }

  private struct State {
    var batches: [SpanBatch] = []
    var first = 0
    var level = Level()
    /// Spans taken out and not yet settled.
    var outstanding = 0
    var isClosed = false
    var isAbandoned = false
  }

  private let limits: Limits
  private let ledger: SpanLedger
  private let state = Mutex(State())

  package init(limits: Limits, ledger: SpanLedger) {
    self.limits = limits
    self.ledger = ledger
  }

  /// What waits now; spans in flight not included.
  package var level: Level { state.withLock { $0.level } }

  /// True when a message is due by what waits.
  var isDue: Bool { limits.isDue(level) }

  /// True when half of the room is taken.
  var isHalfFull: Bool { limits.isHalfFull(level) }

  /// True once all was booked as dropped.
  var isAbandoned: Bool { state.withLock { $0.isAbandoned } }

  /// Appends what has room of a batch and drops the rest; never waits for more than other short critical sections.
  func put(_ whole: SpanBatch) -> Put {
    state.withLock { state in
      if state.isClosed {
        ledger.recordDropped(whole.spanCount, .shutdown)
        return .nothing
      }
      let room = Level(
        spans: limits.spansMax - state.level.spans, bytes: limits.bytesMax - state.level.bytes)
      guard let batch = whole.leading(within: room) else {
        ledger.recordDropped(whole.spanCount, .queueFull)
        return .full
      }
      ledger.recordDropped(whole.spanCount - batch.spanCount, .queueFull)
      let before = state.level
      state.batches.append(batch)
      state.level.spans += batch.spanCount
      state.level.bytes += batch.bytes.count
      let becameDue = !limits.isDue(before) && limits.isDue(state.level)
      let becameHalfFull = !limits.isHalfFull(before) && limits.isHalfFull(state.level)
      return before.spans == 0 || becameDue || becameHalfFull ? .wake : .nothing
    }
  }

  /// Takes batches from the front while they fit; the first one always.
  func take(spansMax: Int, bytesMax: Int) -> [SpanBatch] {
    state.withLock { state in
      var taken: [SpanBatch] = []
      var spans = 0
      var bytes = 0
      while state.first < state.batches.count {
        let batch = state.batches[state.first]
        guard taken.isEmpty || (spans + batch.spanCount <= spansMax && bytes + batch.bytes.count <= bytesMax)
        else { break }
        taken.append(batch)
        spans += batch.spanCount
        bytes += batch.bytes.count
        state.first += 1
      }
      if state.first == state.batches.count {
        state.batches.removeAll(keepingCapacity: state.first <= 64)
        state.first = 0
      } else if state.first > 64, state.first * 2 > state.batches.count {
        state.batches.removeFirst(state.first)
        state.first = 0
      }
      state.level.spans -= spans
      state.level.bytes -= bytes
      state.outstanding += spans
      return taken
    }
  }

  /// Books spans that were taken out: `sent` of them delivered, `dropped` lost for `reason`.
  func settle(sent: Int, dropped: Int, _ reason: SpanDropReason) {
    state.withLock { state in
      // After abandon() all were booked already.
      if state.isAbandoned { return }
      state.outstanding -= sent + dropped
      ledger.recordSent(sent)
      ledger.recordDropped(dropped, reason)
    }
  }

  /// Books spans that were taken out as spooled; false, and nothing is booked, when all were booked as dropped already.
  func settle(spooled spans: Int) -> Bool {
    state.withLock { state in
      if state.isAbandoned { return false }
      state.outstanding -= spans
      ledger.recordSpooled(spans)
      return true
    }
  }

  /// Takes nothing in any more.
  func close() { state.withLock { $0.isClosed = true } }

  /// Drops all that waits or is outstanding as `shutdown`; later settlements are ignored. Returns the count.
  @discardableResult
  func abandon() -> Int {
    state.withLock { state in
      let count = state.level.spans + state.outstanding
      ledger.recordDropped(count, .shutdown)
      state = State()
      state.isClosed = true
      state.isAbandoned = true
      return count
    }
  }
}

extension ExportQueue.Limits {
  fileprivate func isDue(_ level: ExportQueue.Level) -> Bool {
    level.spans >= spansDue || level.bytes >= bytesDue
  }

  fileprivate func isHalfFull(_ level: ExportQueue.Level) -> Bool {
    level.spans >= max(spansMax / 2, 1) || level.bytes >= bytesMax / 2
  }
}

extension SpanBatch {
  /// The first spans of the batch, as many as `room` holds; nil when it holds none.
  fileprivate func leading(within room: ExportQueue.Level) -> SpanBatch? {
    if spanCount <= room.spans, bytes.count <= room.bytes { return self }
    var count = 0
    var kept = ByteBuffer()
    bytes.withUnsafeBytes { bytes in
      var reader = ProtobufReader(bytes)
      var end = 0
      while count < room.spans, (try? reader.next()) != nil, reader.position <= room.bytes {
        end = reader.position
        count += 1
      }
      kept.append(bytes.slice(0..<end))
    }
    return count > 0 ? SpanBatch(bytes: FrozenBytes(kept), spanCount: count) : nil
  }
}
