// Tempo's query API and the page: which request is answered with what.

internal import Base
internal import HTTP
internal import JSON
internal import Telemetry

/// Answers requests on the query port out of a store. Sans I/O: heads go in, bodies come out.
struct QueryRoutes {
  let store: SpanStore
  let version: String
  /// The monotonic clock as of the call, for searches that must end.
  let clock: () -> Nanoseconds
  /// Writes `/metrics`.
  let metrics: (MetricFormat, inout ByteBuffer) -> Void
  /// All searches together get what one alone may have.
  private let room = AnswerRoom(SearchRequest.answerBytesMax)

  /// What clients of Tempo's API should take the store for: Grafana asks, and chooses its requests by it.
  static let tempoVersion = "v3.0.3"

  /// Most traces of a search's answer, and most spans shown of each.
  static let searchCountMax = 1_000
  /// How long the store's thread works for one answer in all.
  static let searchTimeMax = 1 * second

  /// What a request gets.
  enum Answer {
    /// An answer whose body is written.
    case now(TextAnswer)
    /// What the query finds, as JSON.
    case search(any StoreQuery)
  }

  private enum Route {
    case trace(version: Int, id: UnsafeRawBufferPointer)
    case search
    case tagNames(version: Int)
    case tagValues(version: Int, name: UnsafeRawBufferPointer)
    case echo, buildInfo, ready, ownMetrics, status, page, icon
    case metrics(isInstant: Bool)
  }

  /// Appends the answer's body to `out`, where it can be written at once.
  func answer(_ head: RequestHead, into out: inout ByteBuffer) -> Answer {
    guard let route = Self.route(head.path) else {
      out.append("404 page not found\n" as StaticString)
      return .now(.text(404))
    }
    switch head.method {
    case .get, .head: break
    default:
      out.append("Method Not Allowed\n" as StaticString)
      return .now(
        TextAnswer(status: 405, contentType: "text/plain; charset=utf-8", fields: "allow: GET, HEAD\r\n"))
    }
    do throws(BadRequest) {
      if let query = try query(route, QueryParameters(head.query)) { return .search(query) }
      return .now(try answer(route, head, into: &out))
    } catch {
      out.removeAll()
      out.append(error.message)
      out.append(UInt8(ascii: "\n"))
      return .now(.text(400))
    }
  }

  /// What a route looks for in the whole store; nil where it does not.
  private func query(
    _ route: Route, _ parameters: @autoclosure () -> QueryParameters
  ) throws(BadRequest) -> (any StoreQuery)? {
    switch route {
    case .search: return Search(try searchRequest(parameters()))
    case .tagNames(let version):
      let parameters = parameters()
      return TagNames(
        try tagRequest(parameters), version == 1 ? .flat : .byScope, scope: parameters.text("scope"))
    case .tagValues(let version, let name): return try tagValues(name, version, parameters())
    case .metrics(let isInstant): return try metricsQuery(parameters(), isInstant: isInstant)
    default: return nil
    }
  }

  private func answer(
    _ route: Route, _ head: RequestHead, into out: inout ByteBuffer
  ) throws(BadRequest) -> TextAnswer {
    switch route {
    case .trace(let version, let id): return try trace(id, version, head, into: &out)
    case .search, .tagNames, .tagValues, .metrics: return .text(404)
    case .echo:
      out.append("echo" as StaticString)
      return .text(200)
    case .ready:
      out.append("ready\n" as StaticString)
      return .text(200)
    case .buildInfo: buildInfo(into: &out)
    case .status: status(into: &out)
    case .ownMetrics:
      let format = MetricFormat(accept: head.fields.first(.accept)?.text ?? "")
      metrics(format, &out)
      return TextAnswer(contentType: format.contentType)
    case .page:
      out.append(Page.html)
      return TextAnswer(contentType: "text/html; charset=utf-8", fields: Page.headers)
    case .icon:
      out.append(Page.icon)
      return TextAnswer(contentType: "image/svg+xml", fields: "cache-control: max-age=86400\r\n")
    }
    return TextAnswer()
  }

  // MARK: Routes

  private static func route(_ path: UnsafeRawBufferPointer) -> Route? {
    if path.equals("/") { return .page }
    if let rest = path.dropping("/api/") { return apiRoute(rest) }
    if path.equals("/ready") { return .ready }
    if path.equals("/metrics") { return .ownMetrics }
    if path.equals("/status") { return .status }
    if path.equals("/favicon.svg") || path.equals("/favicon.ico") { return .icon }
    // Permalinks: the page reads the rest of its address itself.
    if path.dropping("/trace/") != nil || path.dropping("/request/") != nil { return .page }
    return nil
  }

  private static func apiRoute(_ path: UnsafeRawBufferPointer) -> Route? {
    if path.equals("echo") { return .echo }
    if path.equals("status/buildinfo") { return .buildInfo }
    if path.equals("search") { return .search }
    if path.equals("search/tags") { return .tagNames(version: 1) }
    if path.equals("v2/search/tags") { return .tagNames(version: 2) }
    if path.equals("metrics/query_range") { return .metrics(isInstant: false) }
    if path.equals("metrics/query") { return .metrics(isInstant: true) }
    if let id = path.dropping("traces/") { return .trace(version: 1, id: id) }
    if let id = path.dropping("v2/traces/") { return .trace(version: 2, id: id) }
    if let name = path.dropping("search/tag/")?.droppingEnd("/values") {
      return .tagValues(version: 1, name: name)
    }
    if let name = path.dropping("v2/search/tag/")?.droppingEnd("/values") {
      return .tagValues(version: 2, name: name)
    }
    return nil
  }

  // MARK: Traces

  private func trace(
    _ id: UnsafeRawBufferPointer, _ version: Int, _ head: RequestHead, into out: inout ByteBuffer
  ) throws(BadRequest) -> TextAnswer {
    guard let id = TraceID(hex: id) else {
      throw BadRequest(message: "invalid trace id: it must be 1 to 32 hexadecimal digits")
    }
    let trace = store.trace(id).flatMap { $0.spanCount > 0 ? $0 : nil }
    let wantsProtobuf = head.fields.first(.accept).map { Self.lists($0, "application/protobuf") } ?? false
    if version == 2 {
      if wantsProtobuf {
        out.append(protobufTraceByID: trace)
        return TextAnswer(contentType: "application/protobuf")
      }
      out.append(traceV2: trace)
      return TextAnswer()
    }
    guard let trace else { return .text(404) }
    if wantsProtobuf {
      out.append(protobufTrace: trace)
      return TextAnswer(contentType: "application/protobuf")
    }
    out.append(traceV1: trace)
    return TextAnswer()
  }

  private static func lists(_ accept: UnsafeRawBufferPointer, _ type: StaticString) -> Bool {
    var list = ListReader(accept)
    while let member = list.next() {
      if member.mediaType.equalsIgnoringCase(type) { return true }
    }
    return false
  }

  // MARK: Search

  private func searchRequest(_ parameters: QueryParameters) throws(BadRequest) -> SearchRequest {
    var request: SearchRequest
    if let query = try parameters.query("q") {
      guard query.metrics == nil else {
        throw BadRequest(message: "metrics queries are answered at /api/metrics/query_range")
      }
      request = SearchRequest(.query(query))
    } else if parameters.bytes("tags") != nil || parameters.bytes("minDuration") != nil
      || parameters.bytes("maxDuration") != nil
    {
      var tags: TagQuery
      do throws(TraceQLError) {
        tags = try TagQuery(logfmt: parameters.bytes("tags") ?? [])
      } catch {
        throw BadRequest(message: "invalid tags: \(error.message)")
      }
      if let least = try parameters.duration("minDuration") { tags.durationMin = least }
      if let most = try parameters.duration("maxDuration") { tags.durationMax = most }
      guard tags.durationMin <= tags.durationMax else {
        throw BadRequest(message: "invalid maxDuration: must be greater than minDuration")
      }
      request = SearchRequest(.tags(tags))
    } else {
      request = SearchRequest(.query(TraceQLQuery(spans: .filter(nil), stages: [])))
    }
    request.limit = min(try parameters.number("limit", least: 1) ?? 20, Self.searchCountMax)
    let spans = try parameters.number("spss") ?? 3
    request.spansPerSpanset = spans == 0 ? Self.searchCountMax : min(spans, Self.searchCountMax)
    request.budget = budget()
    request.room = room
    request.range = try parameters.range()
    return request
  }

  private func metricsQuery(
    _ parameters: QueryParameters, isInstant: Bool
  ) throws(BadRequest) -> MetricsQuery {
    guard let query = try parameters.query(parameters.bytes("q") == nil ? "query" : "q") else {
      throw BadRequest(message: "q is missing: a query looks like { status = error } | rate()")
    }
    guard let start = try parameters.time("start"), let end = try parameters.time("end"), start < end else {
      throw BadRequest(message: "please provide start and end, with start before end")
    }
    var intervals: MetricsIntervals? = MetricsIntervals(from: start, to: end)
    if !isInstant {
      let step = try parameters.step() ?? MetricsIntervals.defaultStep(from: start, to: end)
      intervals = MetricsIntervals(from: start, to: end, step: step)
    }
    guard let intervals else {
      throw BadRequest(
        message: "more than \(MetricsIntervals.countMax) points for each series: use a larger step")
    }
    let metrics = MetricsQuery(query, intervals, isInstant: isInstant, budget: budget(), room: room)
    guard let metrics else { throw BadRequest(message: "not a metrics query, as { } | rate()") }
    return metrics
  }

  private func budget() -> SearchBudget { SearchBudget(Self.searchTimeMax, clock: clock) }

  private func tagRequest(_ parameters: QueryParameters) throws(BadRequest) -> TagRequest {
    var request = TagRequest()
    request.range = try parameters.range()
    request.limit = try parameters.number("limit") ?? 0
    request.budget = budget()
    return request
  }

  private func tagValues(
    _ name: UnsafeRawBufferPointer, _ version: Int, _ parameters: QueryParameters
  ) throws(BadRequest) -> TagValues {
    var request = try tagRequest(parameters)
    let name = Array(name.percentDecoded.utf8)
    guard version == 2 else { return TagValues(name, request) }
    // A query that is still being typed narrows nothing down, as in Tempo.
    request.query = (try? parameters.query("q")).flatMap { $0 }
    do throws(TraceQLError) {
      return try TagValues(typed: name, request)
    } catch {
      throw BadRequest(message: error.description)
    }
  }

  // MARK: Facts

  private func buildInfo(into out: inout ByteBuffer) {
    out.append("{\"version\":" as StaticString)
    out.append(jsonString: Self.tempoVersion)
    out.append(",\"revision\":" as StaticString)
    out.append(jsonString: version)
    out.append(
      ",\"branch\":\"dynamo-tempo\",\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"\"}" as StaticString
    )
  }

  /// For the page: what is held, and how much there may be.
  private func status(into out: inout ByteBuffer) {
    let counters = store.counters
    let numbers: [(StaticString, Int)] = [
      ("traces", store.traceCount), ("spans", store.spanCount), ("bytes", store.bytes),
      ("bytesMax", store.limits.bytesMax), ("ageMaxSeconds", Int(store.limits.ageMax / second)),
      ("spansStored", counters.spansStored), ("spansRefused", counters.spansRefused),
      ("tracesEvicted", counters.tracesEvictedBySize + counters.tracesEvictedByAge),
    ]
    var object = JSONObject()
    object.key("version", &out)
    out.append(jsonString: version)
    for (key, value) in numbers {
      object.key(key, &out)
      out.append(decimal: value)
    }
    object.end(&out)
  }
}

extension UnsafeRawBufferPointer {
  /// What follows `prefix`; nil when the bytes do not begin with it, or nothing follows.
  fileprivate func dropping(_ prefix: StaticString) -> UnsafeRawBufferPointer? {
    let length = prefix.utf8CodeUnitCount
    guard count > length, slice(0..<length).equals(prefix) else { return nil }
    return slice(length..<count)
  }

  /// What stands before `suffix`; nil when the bytes do not end in it, or nothing stands before.
  fileprivate func droppingEnd(_ suffix: StaticString) -> UnsafeRawBufferPointer? {
    let length = suffix.utf8CodeUnitCount
    guard count > length, slice(count - length..<count).equals(suffix) else { return nil }
    return slice(0..<count - length)
  }
}
