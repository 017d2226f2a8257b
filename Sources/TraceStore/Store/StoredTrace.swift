// One trace: its spans as the bytes that came, grouped by who made them.

internal import Base
internal import Protobuf
package import Telemetry

/// Spans of one origin within one trace.
final class SpanGroup {
  let origin: SpanOrigin
  /// Entries of `ScopeSpans.spans`: tag 2, length, Span, one after the other.
  fileprivate(set) var entries = ByteBuffer()

  init(_ origin: SpanOrigin) { self.origin = origin }

  /// Memory beside the entries, about.
  static var overhead: Int { 112 }
}

/// A trace in the store. Confined to the store's thread.
package final class StoredTrace {
  package let id: TraceID
  /// When its first span came, on the monotonic clock.
  let arrived: Nanoseconds
  private(set) var groups: [SpanGroup] = []
  package private(set) var spanCount = 0
  /// Spans that were refused because the trace is full.
  package internal(set) var refusedCount = 0
  /// Earliest start and latest end of its spans, wall-clock nanoseconds.
  package private(set) var start = UInt64.max
  package private(set) var end: UInt64 = 0
  /// Memory that it takes, about.
  private(set) var bytes = StoredTrace.overhead

  /// Memory of a trace without spans: the object, its place in the table and in the ring.
  private static var overhead: Int { 320 }

  init(id: TraceID, arrived: Nanoseconds) {
    self.id = id
    self.arrived = arrived
  }

  /// Adds a Span message. False when a bound refuses it.
  func add(_ message: UnsafeRawBufferPointer, _ origin: SpanOrigin, limits: StoreLimits) -> Bool {
    guard spanCount < limits.traceSpansMax, bytes + message.count <= limits.traceBytesMax else {
      return false
    }
    let group: SpanGroup
    if let last = groups.last(where: { $0.origin === origin }) {
      group = last
    } else {
      guard groups.count < limits.traceOriginsMax else { return false }
      group = SpanGroup(origin)
      origin.groupCount += 1
      groups.append(group)
      bytes += SpanGroup.overhead
    }
    let before = group.entries.capacity
    group.entries.append(field: 2, bytes: message)
    bytes += group.entries.capacity - before
    spanCount += 1
    let view = SpanView(message, origin)
    // A span without times is no reason to call its trace half a century long.
    if view.start > 0 { start = min(start, view.start) }
    end = max(end, view.end, view.start)
    return true
  }

  /// Its spans, read in place; valid until the store changes.
  func spans() -> [SpanView] {
    var views: [SpanView] = []
    views.reserveCapacity(spanCount)
    for group in groups {
      OTLP.forEach(group.entries.readable) { field in
        if let message = field.bytes { views.append(SpanView(message, group.origin)) }
      }
    }
    return views
  }

  /// Length in nanoseconds.
  package var duration: UInt64 { end > start ? end - start : 0 }

  /// When its first span began; 0 when no span has a time.
  package var startTime: UInt64 { start == .max ? 0 : start }
}
