// A look through the store for one answer, in slices: between them spans come in and other callers are served.

internal import Base

/// What is looked for, and what was found of it.
protocol StoreQuery: AnyObject {
  /// Wall-clock nanoseconds that a trace must touch; nil is any time.
  var range: ClosedRange<UInt64>? { get }
  /// What the work is charged to; nil is no bound.
  var budget: SearchBudget? { get }
  /// Whether a bound ended it before it had seen everything.
  var isCut: Bool { get set }
  /// Looks at a trace, the newest first. False when no other is wanted.
  func look(at trace: StoredTrace) -> Bool
  /// Makes a part of the answer ready, where that takes long. True when there is nothing left to make ready.
  func prepare() -> Bool
  /// Writes the answer.
  func write(into out: inout ByteBuffer)
}

extension StoreQuery {
  func prepare() -> Bool { true }
}

/// Takes a query through the traces. What comes after it has begun is not looked at.
final class StoreScan {
  let query: any StoreQuery
  private let store: SpanStore
  private var walk: TraceWalk
  /// All traces were looked at, or enough of them.
  private var isThrough = false

  init(_ query: any StoreQuery, in store: SpanStore) {
    self.query = query
    self.store = store
    walk = store.walk()
  }

  /// Works for `length` nanoseconds, or as much longer as one trace takes. True when there is nothing left to do.
  func step(_ length: Nanoseconds = .max) -> Bool {
    if !isThrough {
      isThrough = look(length)
      // The answer is made ready in turns of its own.
      guard isThrough, length == .max else { return isThrough && query.prepare() }
    }
    repeat { if query.prepare() { return true } } while length == .max
    return false
  }

  private func look(_ length: Nanoseconds) -> Bool {
    guard let budget = query.budget else {
      while let trace = store.next(&walk) { if isWanted(trace), !query.look(at: trace) { break } }
      return true
    }
    budget.beginSlice(length)
    defer { budget.endSlice() }
    while let trace = store.next(&walk) {
      guard isWanted(trace) else {
        _ = budget.spend(64)
        continue
      }
      let goesOn = budget.beginTrace(trace.bytes) && query.look(at: trace)
      if budget.isOver { query.isCut = true }
      if budget.isSpent { return true }
      // A trace that took too long is left out; the next one is another matter.
      guard goesOn || budget.isTraceSpent else { return true }
      if budget.isSliceOver { return false }
    }
    return true
  }

  private func isWanted(_ trace: StoredTrace) -> Bool {
    guard trace.spanCount > 0 else { return false }
    guard let range = query.range else { return true }
    return trace.end >= range.lowerBound && trace.startTime <= range.upperBound
  }
}

extension SpanStore {
  /// Answers `query` in one go.
  func answer(_ query: any StoreQuery, into out: inout ByteBuffer) {
    _ = StoreScan(query, in: self).step()
    query.write(into: &out)
  }
}
