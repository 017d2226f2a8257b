// When a failed export is tried again: backoff with jitter, and the total bound.

package import Base

/// How long to wait between tries and how long to go on. All times in nanoseconds.
package struct RetryPolicy: Sendable {
  /// Wait after the first failure.
  package var firstDelay: Nanoseconds = second
  /// Growth of the wait with each further failure.
  package var factor = 2.0
  /// Share by which a wait is drawn shorter or longer; OTLP makes jitter mandatory.
  package var jitter = 0.5
  /// Longest wait before jitter.
  package var delayMax: Nanoseconds = 10 * second
  /// How long one message is tried, from its first call on.
  package var total: Nanoseconds = 30 * second

  package init() {}

  /// The wait after `failures` failures in a row (1 or more). A `hint` of the receiver is a lower bound.
  package func delay(
    failures: Int, hint: Nanoseconds?, random: inout Xoshiro256
  ) -> Nanoseconds {
    var wait = Double(firstDelay)
    for _ in 1..<max(1, min(failures, 64)) where wait < Double(delayMax) { wait *= factor }
    wait = min(wait, Double(delayMax))
    // 53 random bits make a number in 0..<1.
    let unit = Double(random.next() >> 11) * 0x1p-53
    wait *= 1 - jitter + 2 * jitter * unit
    return max(Nanoseconds(wait), hint ?? 0)
  }
}
