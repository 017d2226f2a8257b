// The cells that metrics count in: shared by all threads, updated with relaxed atomics.

internal import Synchronization

/// A number that only grows.
package final class Counter: Sendable {
  private let count = Atomic<UInt64>(0)
  let shares = Shares<Tally>()

  init() {}

  /// Adds `amount`, which must not be negative.
  package func add(_ amount: Int = 1) {
    count.wrappingAdd(UInt64(bitPattern: Int64(amount)), ordering: .relaxed)
  }

  /// The number so far.
  package var value: Int {
    shares.sum(onto: { Int(truncatingIfNeeded: count.load(ordering: .relaxed)) }, { $0.value })
  }
}

/// A number that goes up and down.
package final class Gauge: Sendable {
  private let bits = Atomic<UInt64>(0)
  let shares = Shares<Tally>()

  init() {}

  /// Replaces the value.
  package func set(_ value: Double) { bits.store(value.bitPattern, ordering: .relaxed) }

  /// Replaces the value.
  package func set(_ value: Int) { set(Double(value)) }

  /// Adds `amount`, which may be negative.
  package func add(_ amount: Int) { bits.addDouble(Double(amount)) }

  /// The value now.
  package var value: Double {
    shares.sum(onto: { Double(bitPattern: bits.load(ordering: .relaxed)) }, { Double($0.value) })
  }
}

/// Counts observations in buckets with fixed upper bounds.
///
/// Unchecked: the two allocations are made in `init`, freed in `deinit`, and never move; `bounds` is not
/// written after `init`, and `counts` holds atomics.
package final class Histogram: @unchecked Sendable {
  /// Number of finite upper bounds; there is one more bucket, for what lies above them all.
  package let boundCount: Int
  private let bounds: UnsafeMutablePointer<Double>
  private let counts: UnsafeMutablePointer<Atomic<UInt64>>
  private let sumBits = Atomic<UInt64>(0)
  let shares = Shares<HistogramShare>()

  init(_ buckets: HistogramBuckets) {
    boundCount = buckets.bounds.count
    bounds = .allocate(capacity: max(1, boundCount))
    counts = .allocate(capacity: boundCount + 1)
    for index in 0..<boundCount { bounds[index] = buckets.bounds[index] }
    for index in 0...boundCount { (counts + index).initialize(to: Atomic(0)) }
  }

  deinit {
    bounds.deallocate()
    counts.deinitialize(count: boundCount + 1)
    counts.deallocate()
  }

  /// Records `count` observations of the same `value`.
  package func observe(_ value: Double, count: Int = 1) {
    guard count > 0, !value.isNaN else { return }
    counts[bucket(of: value)].wrappingAdd(UInt64(count), ordering: .relaxed)
    sumBits.addDouble(value * Double(count))
  }

  /// The upper bound of bucket `index`; infinite for the last one.
  package func upperBound(_ index: Int) -> Double { index < boundCount ? bounds[index] : .infinity }

  /// Observations in bucket `index` alone.
  package func bucketCount(_ index: Int) -> Int {
    Int(
      truncatingIfNeeded: shares.sum(
        onto: { counts[index].load(ordering: .relaxed) }, { $0.count(index) }))
  }

  /// The latest exemplar in bucket `index` of all that the loops keep.
  package func exemplar(_ index: Int) -> Exemplar? {
    shares.gather { $0.exemplars?.exemplar(index) }.max { $0.time < $1.time }
  }

  /// The sum of all observed values.
  package var sum: Double {
    shares.sum(onto: { Double(bitPattern: sumBits.load(ordering: .relaxed)) }, { $0.sum })
  }

  /// The first bucket whose bound is not below `value`. Halves the bounds without a branch on what is found: a request
  /// asks ten times, and each wrong guess would cost the processor more than the search.
  func bucket(of value: Double) -> Int {
    guard boundCount > 0 else { return 0 }
    var low = 0
    var count = boundCount
    while count > 1 {
      let half = count / 2
      low &+= bounds[low &+ half &- 1] < value ? half : 0
      count &-= half
    }
    return low &+ (bounds[low] < value ? 1 : 0)
  }

  /// Whether `value` falls into bucket `index`.
  func holds(_ value: Double, in index: Int) -> Bool {
    (index == boundCount || value <= bounds[index]) && (index == 0 || bounds[index &- 1] < value)
  }

  /// Adds what a share holds to the cell's own.
  func absorb(_ share: HistogramShare) {
    for index in 0...boundCount { counts[index].wrappingAdd(share.count(index), ordering: .relaxed) }
    sumBits.addDouble(share.sum)
  }
}

extension Atomic where Value == UInt64 {
  /// Adds to a `Double` kept as its bit pattern.
  fileprivate borrowing func addDouble(_ amount: Double) {
    var current = load(ordering: .relaxed)
    while true {
      let wanted = (Double(bitPattern: current) + amount).bitPattern
      let (exchanged, original) = weakCompareExchange(
        expected: current, desired: wanted, ordering: .relaxed)
      if exchanged { return }
      current = original
    }
  }
}
