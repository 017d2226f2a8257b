// A search over the store: which traces, and what the answer shows of each.

package import Base
internal import Telemetry

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
  var answerBytesMax = Self.answerBytesMax
  static let answerBytesMax = 32 << 20
  /// What finding and showing the traces is charged to; nil is no bound.
  var budget: SearchBudget?
  /// What the bytes of the answer are also charged to, together with those of other searches; nil is no bound.
  var room: AnswerRoom?

  /// Searches with `filter` and Tempo's defaults.
  package init(_ filter: Filter) { self.filter = filter }
}

/// Bytes that the answers of all searches under way may hold together. Confined to the store's thread.
final class AnswerRoom {
  private(set) var bytesLeft: Int

  init(_ bytes: Int) { bytesLeft = bytes }

  func take(_ bytes: Int) -> Bool {
    guard bytes <= bytesLeft else { return false }
    bytesLeft -= bytes
    return true
  }

  func giveBack(_ bytes: Int) { bytesLeft += bytes }
}

/// One trace of an answer. Not the trace itself: the store may evict that meanwhile.
struct SearchHit {
  let id: TraceID
  /// Wall-clock nanoseconds.
  let startTime: UInt64
  /// What the answer shows of it. Written when it is found, since spans that come later may lie between those.
  let shown: FrozenBytes
}

/// A search under way, or over.
final class Search: StoreQuery {
  let request: SearchRequest
  private(set) var hits: [SearchHit] = []
  private(set) var inspectedTraces = 0
  private(set) var inspectedBytes = 0
  private var shownBytes = 0
  var isCut = false

  init(_ request: SearchRequest) { self.request = request }

  deinit { request.room?.giveBack(shownBytes) }

  var range: ClosedRange<UInt64>? { request.range }
  var budget: SearchBudget? { request.budget }

  func look(at trace: StoredTrace) -> Bool {
    guard hits.count < request.limit else { return false }
    inspectedTraces += 1
    inspectedBytes += trace.bytes
    let view = TraceView(trace, budget: budget)
    var matched: [Int] = []
    let isMatch: Bool
    switch request.filter {
    case .query(let query):
      matched = query.matches(in: view)
      isMatch = !matched.isEmpty
    case .tags(let tags): isMatch = tags.matches(view)
    }
    // Of a trace that was not looked at to its end nothing is known.
    guard isMatch, budget?.isOver != true else { return true }
    var shown = ByteBuffer()
    guard shown.append(view, matched, request), shownBytes + shown.count <= request.answerBytesMax,
      request.room?.take(shown.count) ?? true
    else {
      isCut = true
      return budget?.isOver ?? false
    }
    shownBytes += shown.count
    hits.append(SearchHit(id: trace.id, startTime: trace.startTime, shown: FrozenBytes(shown)))
    return hits.count < request.limit
  }

  /// Writes the answer, and keeps nothing of it: its reader may be slow.
  func write(into out: inout ByteBuffer) {
    out.append(self)
    hits = []
    request.room?.giveBack(shownBytes)
    shownBytes = 0
  }
}

extension SpanStore {
  /// Looks through the traces, the newest first, until `limit` are found; in one go.
  func search(_ request: SearchRequest) -> Search {
    let search = Search(request)
    _ = StoreScan(search, in: self).step()
    return search
  }

  /// Answers a search in one go.
  package func writeSearch(_ request: SearchRequest, into out: inout ByteBuffer) {
    answer(Search(request), into: &out)
  }
}
