// A search over the store: which traces, and what the answer shows of each.

internal import Base

/// What a search asks for, and how much of it.
package struct SearchRequest {
  /// What traces must match.
  package enum Filter {
    case query(TraceQLQuery)
    case tags(TagQuery)
  }

  package let filter: Filter
  /// Most traces in the answer.
  package var limit = 20
  /// Most spans shown of each trace; 0 is all.
  package var spansPerSpanset = 3
  /// Wall-clock nanoseconds that a trace must touch; nil is any time.
  package var range: ClosedRange<UInt64>?
  /// Most bytes of the answer, about; traces that do not fit are left out.
  var answerBytesMax = 32 << 20
  /// Makes the budget of finding the traces, and again that of showing them; nil is no bound.
  var budget: (() -> SearchBudget)?

  /// Searches with `filter` and Tempo's defaults.
  package init(_ filter: Filter) { self.filter = filter }
}

/// One trace of an answer.
struct SearchHit {
  let trace: StoredTrace
  /// Indexes of the matching spans; empty in a search by tags.
  let matched: [Int]
}

/// The traces that match, and what it took to find them.
struct SearchResult {
  /// The ones that began last first.
  fileprivate(set) var hits: [SearchHit] = []
  fileprivate(set) var inspectedTraces = 0
  fileprivate(set) var inspectedBytes = 0
  /// Whether its budget ended before the search did.
  fileprivate(set) var isCut = false
}

extension SpanStore {
  /// Looks through the traces, the newest first, until `limit` are found.
  func search(_ request: SearchRequest) -> SearchResult {
    var result = SearchResult()
    guard request.limit > 0 else { return result }
    let budget = request.budget?()
    func isSpent() -> Bool {
      if budget?.isSpent == true { result.isCut = true }
      return result.isCut
    }
    forEachNewest { trace in
      guard trace.spanCount > 0 else { return true }
      if let range = request.range,
        trace.end < range.lowerBound || trace.startTime > range.upperBound
      {
        return true
      }
      guard budget?.spend(trace.bytes) ?? true else { return !isSpent() }
      result.inspectedTraces += 1
      result.inspectedBytes += trace.bytes
      switch request.filter {
      case .query(let query):
        let matched = query.matches(in: TraceView(trace, budget: budget))
        // Of a trace that was not looked at to its end nothing is known.
        guard !isSpent() else { return false }
        if !matched.isEmpty { result.hits.append(SearchHit(trace: trace, matched: matched)) }
      case .tags(let tags):
        let isMatch = tags.matches(TraceView(trace, budget: budget))
        guard !isSpent() else { return false }
        if isMatch { result.hits.append(SearchHit(trace: trace, matched: [])) }
      }
      return result.hits.count < request.limit
    }
    result.hits.sort { $0.trace.startTime > $1.trace.startTime }
    return result
  }
}
