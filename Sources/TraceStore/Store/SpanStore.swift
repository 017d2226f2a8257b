// The store: traces by id, in the order of their first span, within bounds of memory and age.

package import Base
internal import Protobuf
package import Telemetry

/// Keeps traces in memory. Told the time, and confined to one thread.
///
/// Invariant: `ring` holds the id of each trace in `traces` once, the oldest first; `bytes` is their memory with that of
/// the origins they point to.
package final class SpanStore {
  package let limits: StoreLimits
  package private(set) var counters = StoreCounters()
  private var traces: [TraceID: StoredTrace] = [:]
  private var origins: [OriginHash: SpanOrigin] = [:]
  private var ring: [TraceID] = []
  /// Place of the oldest id in `ring`; what lies before it is gone.
  private var ringHead = 0
  /// Ids that stood before the first of `ring` and are gone from it.
  private var ringGone = 0
  private let seed: UInt64
  /// Memory in use, about.
  package private(set) var bytes = 0

  /// - Parameter seed: drawn at random by the process.
  package init(limits: StoreLimits = StoreLimits(), seed: UInt64) {
    self.limits = limits
    self.seed = seed
  }

  /// Traces held.
  package var traceCount: Int { traces.count }

  /// Spans held.
  package private(set) var spanCount = 0

  /// The trace with that id; nil when it never came, or is gone.
  package func trace(_ id: TraceID) -> StoredTrace? { traces[id] }

  /// A walk through the traces that are there now.
  func walk() -> TraceWalk { TraceWalk(place: ringGone + ring.count) }

  /// The next trace of a walk, the one that came last first; nil at its end. Traces may come and go meanwhile.
  func next(_ walk: inout TraceWalk) -> StoredTrace? {
    while walk.place > ringGone + ringHead {
      walk.place -= 1
      if let trace = traces[ring[walk.place - ringGone]] { return trace }
    }
    return nil
  }

  // MARK: In

  /// What became of a message's spans.
  package struct Ingested: Sendable, Equatable {
    /// Spans that are kept.
    package var stored = 0
    /// Spans of traces that are full.
    package var refused = 0
  }

  /// Takes an `ExportTraceServiceRequest`, whole or not at all but for spans of full traces.
  ///
  /// - Parameter now: the monotonic time.
  @discardableResult
  package func ingest(
    _ request: UnsafeRawBufferPointer, now: Nanoseconds
  ) throws(IngestError) -> Ingested {
    do throws(IngestError) {
      try OTLPCheck.request(request)
    } catch {
      counters.messagesRefused += 1
      throw error
    }
    var result = Ingested()
    OTLP.forEach(request) { field in
      if field.number == 1, let message = field.bytes { take(resourceSpans: message, now, &result) }
    }
    counters.spansStored += result.stored
    counters.spansRefused += result.refused
    return result
  }

  /// Counts a message that could not be read.
  func refuseMessage() { counters.messagesRefused += 1 }

  private func take(
    resourceSpans message: UnsafeRawBufferPointer, _ now: Nanoseconds, _ result: inout Ingested
  ) {
    let resource = Self.fields(of: message)
    var resourceHash: UInt64?
    OTLP.forEach(message) { field in
      guard field.number == 2, let scopeSpans = field.bytes else { return }
      let scope = Self.fields(of: scopeSpans)
      guard resource.count + scope.count <= limits.originBytesMax else {
        OTLP.forEach(scopeSpans) { if $0.number == 2, $0.bytes != nil { result.refused += 1 } }
        return
      }
      // Looked up once, and only where there is a span: an origin that was evicted meanwhile is entered again.
      var origin: SpanOrigin?
      OTLP.forEach(scopeSpans) { field in
        guard field.number == 2, let span = field.bytes else { return }
        let hash = resourceHash ?? XXH3.hash(resource.readable, seed: seed)
        resourceHash = hash
        let from = origin ?? self.origin(resource.readable, scope.readable, resourceHash: hash)
        origin = from
        if store(span, from, now) {
          result.stored += 1
        } else {
          result.refused += 1
        }
      }
    }
  }

  /// The fields 1 and 3 of a ResourceSpans or ScopeSpans, with their tags.
  private static func fields(of message: UnsafeRawBufferPointer) -> ByteBuffer {
    var out = ByteBuffer()
    OTLP.forEach(message) { field in
      if field.number == 1 || field.number == 3, let bytes = field.bytes {
        out.append(field: field.number, bytes: bytes)
      }
    }
    return out
  }

  /// The origin with these fields, made when there is none.
  private func origin(
    _ resource: UnsafeRawBufferPointer, _ scope: UnsafeRawBufferPointer, resourceHash: UInt64
  ) -> SpanOrigin {
    let hash = OriginHash(resource: resourceHash, scope: XXH3.hash(scope, seed: seed))
    if let known = origins[hash], known.isSame(resource, scope) { return known }
    return SpanOrigin(resourceFields: resource, scopeFields: scope, hash: hash)
  }

  private func store(_ span: UnsafeRawBufferPointer, _ origin: SpanOrigin, _ now: Nanoseconds) -> Bool {
    guard let id = OTLP.bytes(in: span, field: 1).map(TraceID.init(bytes:)) else { return false }
    let trace: StoredTrace
    if let known = traces[id] {
      trace = known
    } else {
      trace = StoredTrace(id: id, arrived: now)
      traces[id] = trace
      ring.append(id)
      bytes += trace.bytes
    }
    let before = trace.bytes
    guard trace.add(span, origin, limits: limits) else {
      trace.refusedCount += 1
      return false
    }
    bytes += trace.bytes - before
    spanCount += 1
    if origin.groupCount == 1, origins[origin.hash] !== origin {
      // Of two origins with one hash the newer is found; the other lives on in its traces.
      bytes += origin.bytes
      if let other = origins.updateValue(origin, forKey: origin.hash) { bytes -= other.bytes }
    }
    while bytes > limits.bytesMax, evictOldest() { counters.tracesEvictedBySize += 1 }
    return true
  }

  // MARK: Out

  /// Forgets traces that are older than the bound.
  package func expire(now: Nanoseconds) {
    while ringHead < ring.count, let oldest = traces[ring[ringHead]],
      now > oldest.arrived, now - oldest.arrived > limits.ageMax
    {
      guard evictOldest() else { return }
      counters.tracesEvictedByAge += 1
    }
  }

  private func evictOldest() -> Bool {
    guard ringHead < ring.count else { return false }
    let id = ring[ringHead]
    ringHead += 1
    if ringHead > 1_024, ringHead > ring.count / 2 {
      ring.removeFirst(ringHead)
      ringGone += ringHead
      ringHead = 0
    }
    guard let trace = traces.removeValue(forKey: id) else { return true }
    bytes -= trace.bytes
    spanCount -= trace.spanCount
    for group in trace.groups {
      let origin = group.origin
      origin.groupCount -= 1
      if origin.groupCount == 0, origins[origin.hash] === origin {
        origins[origin.hash] = nil
        bytes -= origin.bytes
      }
    }
    return true
  }
}

/// A place among the store's traces, in the order in which they came.
struct TraceWalk {
  fileprivate var place: Int
}

extension SpanStore {
  /// Whether the invariant of the type holds; for tests and fuzzing, as it walks everything.
  package var isConsistent: Bool {
    let held = ring[ringHead...]
    guard Set(held).count == held.count, Set(held) == Set(traces.keys) else { return false }
    var groupCounts: [ObjectIdentifier: Int] = [:]
    for group in traces.values.flatMap(\.groups) {
      groupCounts[ObjectIdentifier(group.origin), default: 0] += 1
    }
    guard origins.values.allSatisfy({ groupCounts[ObjectIdentifier($0)] == $0.groupCount }) else {
      return false
    }
    let sum =
      traces.values.reduce(0) { $0 + $1.bytes } + origins.values.reduce(0) { $0 + $1.bytes }
    guard spanCount == traces.values.reduce(0, { $0 + $1.spanCount }) else { return false }
    return sum == bytes && (bytes <= limits.bytesMax || traces.isEmpty)
  }
}

extension TraceID {
  /// Reads 16 bytes, as ingest has checked them.
  init(bytes: UnsafeRawBufferPointer) {
    guard bytes.count == 16 else {
      self.init(high: 0, low: 0)
      return
    }
    self.init(
      high: UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
      low: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
  }

  /// Reads 1 to 32 hexadecimal digits in either case; zeros at the left may be missing. Nil for anything else.
  package init?(hex text: UnsafeRawBufferPointer) {
    guard (1...32).contains(text.count) else { return nil }
    var high: UInt64 = 0
    var low: UInt64 = 0
    for byte in text {
      guard let value = Hex.value(byte) else { return nil }
      high = high << 4 | low >> 60
      low = low << 4 | UInt64(value)
    }
    self.init(high: high, low: low)
  }
}
