// Exemplars: for each bucket of a histogram the latest request in it whose trace is kept.

internal import Synchronization

/// One observation of a histogram and the span that it was made in.
package struct Exemplar: Sendable, Equatable {
  package let traceID: TraceID
  package let spanID: UInt64
  /// What was observed.
  package let value: Double
  /// When, in nanoseconds since the Unix epoch.
  package let time: UInt64

  package init(_ span: SpanContext, value: Double, time: UInt64) {
    traceID = span.traceID
    spanID = span.spanID
    self.value = value
    self.time = time
  }

  fileprivate init(traceID: TraceID, spanID: UInt64, value: Double, time: UInt64) {
    self.traceID = traceID
    self.spanID = spanID
    self.value = value
    self.time = time
  }
}

/// A place for one exemplar that one thread writes and any thread reads, without a lock.
///
/// A sequence number is odd while the rest is being written and moves on with each change: a reader that meets either
/// reads again, a few times at most. The writer never waits.
struct ExemplarSlot: ~Copyable, Sendable {
  private let sequence = Atomic<UInt64>(0)
  private let high = Atomic<UInt64>(0)
  private let low = Atomic<UInt64>(0)
  private let span = Atomic<UInt64>(0)
  private let value = Atomic<UInt64>(0)
  private let time = Atomic<UInt64>(0)

  /// Replaces what is there.
  func put(_ exemplar: Exemplar) {
    let before = sequence.load(ordering: .relaxed)
    sequence.store(before &+ 1, ordering: .relaxed)
    atomicMemoryFence(ordering: .releasing)
    high.store(exemplar.traceID.high, ordering: .relaxed)
    low.store(exemplar.traceID.low, ordering: .relaxed)
    span.store(exemplar.spanID, ordering: .relaxed)
    value.store(exemplar.value.bitPattern, ordering: .relaxed)
    time.store(exemplar.time, ordering: .relaxed)
    sequence.store(before &+ 2, ordering: .releasing)
  }

  /// What is there; nil when there is nothing, or when it changes faster than it can be read.
  var exemplar: Exemplar? {
    for _ in 0..<8 {
      let before = sequence.load(ordering: .acquiring)
      if before == 0 { return nil }
      if before & 1 == 1 { continue }
      let found = Exemplar(
        traceID: TraceID(high: high.load(ordering: .relaxed), low: low.load(ordering: .relaxed)),
        spanID: span.load(ordering: .relaxed),
        value: Double(bitPattern: value.load(ordering: .relaxed)), time: time.load(ordering: .relaxed))
      atomicMemoryFence(ordering: .acquiring)
      if sequence.load(ordering: .relaxed) == before { return found }
    }
    return nil
  }
}

/// The places of one loop's share of a histogram: one a bucket, so that their memory is bounded.
///
/// Unchecked: the allocation is made in `init`, freed in `deinit`, never moves, and holds atomics.
final class ExemplarSlots: @unchecked Sendable {
  private let slots: UnsafeMutablePointer<ExemplarSlot>
  private let count: Int

  init(bucketCount: Int) {
    count = bucketCount
    slots = .allocate(capacity: count)
    for index in 0..<count { (slots + index).initialize(to: ExemplarSlot()) }
  }

  deinit {
    slots.deinitialize(count: count)
    slots.deallocate()
  }

  func put(_ exemplar: Exemplar, bucket: Int) { slots[bucket].put(exemplar) }

  func exemplar(_ bucket: Int) -> Exemplar? { slots[bucket].exemplar }
}
