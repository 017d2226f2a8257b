// Units of time. Clocks are read in EventLoop and handed in.

/// A count of nanoseconds: a point on the monotonic clock or a length of time, as the name says.
package typealias Nanoseconds = UInt64

/// One second in nanoseconds.
package let second: Nanoseconds = 1_000_000_000

/// One millisecond in nanoseconds.
package let millisecond: Nanoseconds = 1_000_000

/// One microsecond in nanoseconds.
package let microsecond: Nanoseconds = 1_000
