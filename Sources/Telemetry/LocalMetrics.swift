// One loop's own share of a metric cell: plain additions where a shared cell would pass a cache line between cores.

internal import Synchronization

/// A number that one thread writes and any thread reads.
final class Tally: Sendable {
  private let bits = Atomic<Int>(0)

  /// Adds `amount`. With one writer a load and a store lose nothing.
  func add(_ amount: Int) { bits.store(bits.load(ordering: .relaxed) &+ amount, ordering: .relaxed) }

  var value: Int { bits.load(ordering: .relaxed) }
}

/// The shares that loops hold of one cell.
struct Shares<Share: AnyObject & Sendable>: ~Copyable, Sendable {
  private let all = Mutex<[Share]>([])

  func join(_ share: Share) { all.withLock { $0.append(share) } }

  /// Takes a share out; `fold` adds what it holds to the cell, so that no reader misses it or sees it twice.
  func leave(_ share: Share, fold: () -> Void) {
    all.withLock { all in
      all.removeAll { $0 === share }
      fold()
    }
  }

  /// What `read` finds in each share, where it finds something.
  func gather<Found: Sendable>(_ read: (Share) -> Found?) -> [Found] {
    all.withLock { all in all.compactMap { read($0) } }
  }

  /// The cell's own `base` and what the shares hold.
  func sum<Number: AdditiveArithmetic & Sendable>(
    onto base: () -> Number, _ value: (Share) -> Number
  ) -> Number {
    all.withLock { all in all.reduce(base()) { $0 + value($1) } }
  }
}

/// A loop's share of a counter. Loop-confined; what it counted stays counted when it goes.
package final class LocalCounter {
  private let shared: Counter
  private let tally = Tally()

  package init(_ shared: Counter) {
    self.shared = shared
    shared.shares.join(tally)
  }

  deinit {
    shared.shares.leave(tally) { shared.add(tally.value) }
  }

  /// Adds `amount`, which must not be negative.
  package func add(_ amount: Int = 1) { tally.add(amount) }
}

/// A loop's share of a gauge that counts up and down. Loop-confined.
package final class LocalGauge {
  private let shared: Gauge
  private let tally = Tally()

  package init(_ shared: Gauge) {
    self.shared = shared
    shared.shares.join(tally)
  }

  deinit {
    shared.shares.leave(tally) { shared.add(tally.value) }
  }

  /// Adds `amount`, which may be negative.
  package func add(_ amount: Int) { tally.add(amount) }
}

/// A loop's share of a histogram. Loop-confined.
package final class LocalHistogram {
  private let shared: Histogram
  private let total: Histogram?
  private let share: HistogramShare
  /// Where the last value fell: the next one often falls there too.
  private var last = 0

  /// - Parameters:
  ///   - total: another histogram with the same buckets that has part in each observation, which costs nothing more.
  ///   - keepsExemplars: makes room for what ``exemplify(_:)`` is told.
  package init(_ shared: Histogram, and total: Histogram? = nil, keepsExemplars: Bool = false) {
    precondition((total ?? shared).boundCount == shared.boundCount, "both histograms have the same buckets")
    self.shared = shared
    self.total = total
    share = HistogramShare(bucketCount: shared.boundCount + 1, keepsExemplars: keepsExemplars)
    shared.shares.join(share)
    total?.shares.join(share)
  }

  deinit {
    for histogram in [shared, total] {
      guard let histogram else { continue }
      histogram.shares.leave(share) { histogram.absorb(share) }
    }
  }

  /// Records `count` observations of the same `value`.
  package func observe(_ value: Double, count: Int = 1) {
    guard count > 0, !value.isNaN else { return }
    if !shared.holds(value, in: last) { last = shared.bucket(of: value) }
    share.add(count, bucket: last, sum: value * Double(count))
  }

  /// Shows the span of a value that was observed before, in place of the last one in its bucket.
  package func exemplify(_ exemplar: Exemplar) {
    let value = exemplar.value
    share.exemplars?.put(exemplar, bucket: shared.holds(value, in: last) ? last : shared.bucket(of: value))
  }
}

/// Buckets that one thread writes and any thread reads.
///
/// Unchecked: the allocation is made in `init`, freed in `deinit`, never moves, and holds atomics.
final class HistogramShare: @unchecked Sendable {
  private let counts: UnsafeMutablePointer<Atomic<UInt64>>
  private let bucketCount: Int
  private let sumBits = Atomic<UInt64>(0)
  /// Nil where none are kept. They go with the share.
  let exemplars: ExemplarSlots?

  init(bucketCount: Int, keepsExemplars: Bool) {
    self.bucketCount = bucketCount
    exemplars = keepsExemplars ? ExemplarSlots(bucketCount: bucketCount) : nil
    counts = .allocate(capacity: bucketCount)
    for index in 0..<bucketCount { (counts + index).initialize(to: Atomic(0)) }
  }

  deinit {
    counts.deinitialize(count: bucketCount)
    counts.deallocate()
  }

  func add(_ count: Int, bucket: Int, sum: Double) {
    let cell = counts + bucket
    cell.pointee.store(cell.pointee.load(ordering: .relaxed) &+ UInt64(count), ordering: .relaxed)
    sumBits.store((self.sum + sum).bitPattern, ordering: .relaxed)
  }

  func count(_ bucket: Int) -> UInt64 { counts[bucket].load(ordering: .relaxed) }

  var sum: Double { Double(bitPattern: sumBits.load(ordering: .relaxed)) }
}
