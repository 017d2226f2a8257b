// Times in buckets whose width grows with the value: constant memory, percentiles within 0.8 %.

import Base

/// A histogram of nanoseconds with 64 buckets in each power of two.
///
/// Values below 128 are exact; above, a percentile is off by at most half a bucket, 0.8 % of the value.
struct LatencyHistogram {
  private static let exact = 128
  private static let perOctave = 64

  private(set) var count = 0
  private(set) var minimum: Nanoseconds = .max
  private(set) var maximum: Nanoseconds = 0
  private var total: Double = 0
  private var buckets: [UInt32]

  init() {
    buckets = [UInt32](repeating: 0, count: Self.exact + (64 - 7) * Self.perOctave)
  }

  /// Adds one value.
  mutating func record(_ value: Nanoseconds) {
    count += 1
    total += Double(value)
    minimum = Swift.min(minimum, value)
    maximum = Swift.max(maximum, value)
    buckets[Self.bucket(of: value)] &+= 1
  }

  /// Mean in nanoseconds, 0 when nothing was recorded.
  var mean: Double { count == 0 ? 0 : total / Double(count) }

  /// The value that the share `quantile` (0 to 1) of all values does not exceed, 0 when nothing was recorded.
  func value(at quantile: Double) -> Nanoseconds {
    guard count > 0 else { return 0 }
    let rank = Swift.max(1, Int((quantile * Double(count)).rounded(.up)))
    var seen = 0
    for index in buckets.indices where buckets[index] > 0 {
      seen += Int(buckets[index])
      if seen >= rank { return Swift.min(Swift.max(Self.middle(of: index), minimum), maximum) }
    }
    return maximum
  }

  static func bucket(of value: Nanoseconds) -> Int {
    if value < UInt64(exact) { return Int(value) }
    let exponent = 63 - value.leadingZeroBitCount
    let fraction = Int(value >> UInt64(exponent - 6)) - perOctave
    return exact + (exponent - 7) * perOctave + fraction
  }

  static func middle(of bucket: Int) -> Nanoseconds {
    if bucket < exact { return UInt64(bucket) }
    let octave = (bucket - exact) / perOctave
    let fraction = (bucket - exact) % perOctave
    let width = UInt64(1) << UInt64(octave + 1)
    return UInt64(perOctave + fraction) * width + width / 2
  }
}

/// The middle value of `values`, the mean of the two middle ones when their number is even; nil when empty.
func median(_ values: [Double]) -> Double? {
  guard !values.isEmpty else { return nil }
  let sorted = values.sorted()
  let half = sorted.count / 2
  return sorted.count % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
}
