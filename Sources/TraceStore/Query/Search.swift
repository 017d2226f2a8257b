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
}

extension SpanStore {
  /// Looks through the traces, the newest first, until `limit` are found.
  func search(_ request: SearchRequest) -> SearchResult {
    var result = SearchResult()
    guard request.limit > 0 else { return result }
    forEachNewest { trace in
      guard trace.spanCount > 0 else { return true }
      if let range = request.range,
        trace.end < range.lowerBound || trace.startTime > range.upperBound
      {
        return true
      }
      result.inspectedTraces += 1
      result.inspectedBytes += trace.bytes
      switch request.filter {
      case .query(let query):
        let matched = query.matches(in: TraceView(trace))
        if !matched.isEmpty { result.hits.append(SearchHit(trace: trace, matched: matched)) }
      case .tags(let tags):
        if tags.matches(TraceView(trace)) { result.hits.append(SearchHit(trace: trace, matched: [])) }
      }
      return result.hits.count < request.limit
    }
    result.hits.sort { $0.trace.startTime > $1.trace.startTime }
    return result
  }
}
