// The store: what is taken, what is refused, and who makes room for whom.

import Base
import Protobuf
import Telemetry
import Testing

@testable import TraceStore

@Suite struct SpanStoreTests {
  @Test func spansOfOneTraceMeetWhoeverSentThem() {
    let store = sampleStore()
    #expect(store.traceCount == 2)
    #expect(store.spanCount == 5)
    #expect(store.counters.spansStored == 5)
    let trace = store.trace(TraceID(high: 0xaabb_ccdd_eeff_0011, low: 1))
    #expect(trace?.spanCount == 4)
    #expect(trace?.duration == 100_000_000)
    #expect(trace?.startTime == SampleSpan.epoch)
    #expect(trace?.groups.map(\.origin.serviceName) == ["dynamo-frontend", "dynamo-worker"])
    #expect(store.isConsistent)
  }

  @Test func oneBadIdCondemnsItsMessageAndNothingIsKept() {
    let store = SpanStore(seed: 1)
    let good = SampleSpan()
    for (bad, fault) in [
      (SampleSpan(trace: 0, traceHigh: 0), IngestError.traceID), (SampleSpan(id: 0), IngestError.spanID),
    ] {
      #expect(store.take(request("s", [good, bad])) == .failure(fault))
    }
    #expect(store.traceCount == 0)
    #expect(store.counters.messagesRefused == 2)
  }

  @Test func aMessageCutAnywhereIsTakenWholeOrRefused() {
    let bytes = request(
      "s",
      [
        SampleSpan(
          attributes: [("a", .list([.int(1), .pairs([("b", .double(2))])])), ("c", .bytes([1, 2]))],
          events: [("e", at: 1, [("k", .bool(true))])], links: [9], status: (2, "m"))
      ])
    for count in 0..<bytes.count {
      let store = SpanStore(seed: 1)
      let result = store.take(Array(bytes.prefix(count)))
      // Only the empty message is one: all else ends inside the one field.
      if count == 0 {
        #expect(result == .success(SpanStore.Ingested()))
      } else {
        #expect(result == .failure(.malformed))
      }
      #expect(store.traceCount == 0)
    }
    #expect(SpanStore(seed: 1).take(bytes) == .success(SpanStore.Ingested(stored: 1, refused: 0)))
  }

  @Test func valuesNestedTooDeeplyAreRefused() {
    func nested(_ depth: Int) -> SampleValue { depth == 0 ? .int(1) : .list([nested(depth - 1)]) }
    let store = SpanStore(seed: 1)
    #expect(
      store.take(request("s", [SampleSpan(attributes: [("a", nested(31))])]))
        == .success(.init(stored: 1, refused: 0)))
    #expect(store.take(request("s", [SampleSpan(attributes: [("a", nested(32))])])) == .failure(.tooDeep))
  }

  @Test func spansWithoutResourceAndScopeAreTaken() {
    var spans = ByteBuffer()
    SampleSpan().write(into: &spans)
    var message = ByteBuffer()
    let resourceSpans = message.beginMessage(field: 1)
    let scopeSpans = message.beginMessage(field: 2)
    message.append(spans.readable)
    message.endMessage(scopeSpans)
    message.endMessage(resourceSpans)
    let store = SpanStore(seed: 1)
    #expect(store.take(message.bytes) == .success(.init(stored: 1, refused: 0)))
    #expect(found("{}", in: store) == [1])
  }

  @Test func theOldestTraceMakesRoomAndIsCounted() {
    var limits = StoreLimits()
    limits.bytesMax = 64 << 10
    let store = SpanStore(limits: limits, seed: 1)
    for trace in 1...500 {
      store.take(
        "s",
        [SampleSpan(trace: UInt64(trace), attributes: [("a", .string(String(repeating: "x", count: 500)))])])
      #expect(store.bytes <= limits.bytesMax)
    }
    #expect(store.isConsistent)
    #expect(store.counters.tracesEvictedBySize == 500 - store.traceCount)
    #expect((20...100).contains(store.traceCount))
    // What is left are the newest, without a gap.
    let ids = (1...500).filter { store.trace(TraceID(high: 0xaabb_ccdd_eeff_0011, low: UInt64($0))) != nil }
    #expect(ids == Array((501 - store.traceCount)...500))
  }

  @Test func aTraceThatGrowsWithoutEndIsCutAndSaysSo() {
    var limits = StoreLimits()
    limits.traceSpansMax = 10
    let store = SpanStore(limits: limits, seed: 1)
    let result = store.take(request("s", (1...15).map { SampleSpan(id: UInt64($0)) }))
    #expect(result == .success(.init(stored: 10, refused: 5)))
    #expect(store.counters.spansRefused == 5)
    let id = TraceID(high: 0xaabb_ccdd_eeff_0011, low: 1)
    #expect(store.trace(id)?.refusedCount == 5)
    #expect(
      written { $0.append(traceV2: store.trace(id)) }.hasSuffix(
        #""status":"PARTIAL","message":"5 spans were refused: the trace is full"}"#))
    limits.traceSpansMax = 1_000
    limits.bytesMax = 64 << 10
    let small = SpanStore(limits: limits, seed: 1)
    for index in 1...300 {
      small.take(
        "s", [SampleSpan(id: UInt64(index), attributes: [("a", .string(String(repeating: "x", count: 200)))])]
      )
    }
    #expect(small.counters.spansRefused > 0)
    #expect(small.traceCount == 1)
    #expect(small.isConsistent)
  }

  @Test func resourcesAreSharedAndGoWithTheirLastTrace() {
    var limits = StoreLimits()
    limits.bytesMax = 64 << 10
    limits.originBytesMax = 2_000
    let store = SpanStore(limits: limits, seed: 1)
    for trace in 1...400 {
      store.take("service-\(trace)", [SampleSpan(trace: UInt64(trace))])
      #expect(store.isConsistent)
    }
    #expect(store.traceCount < 400)
    let large = request("s", resource: [("a", .string(String(repeating: "x", count: 3_000)))], [SampleSpan()])
    #expect(store.take(large) == .success(.init(stored: 0, refused: 1)))
    #expect(store.isConsistent)
  }

  /// The spans of one message share an origin that goes whenever the trace of the last span does.
  @Test func anOriginThatIsEvictedWithinItsMessageIsEnteredAgain() {
    for fits in [4, 6] {
      var limits = StoreLimits()
      let one = SpanStore(seed: 1)
      one.take("s", [SampleSpan(trace: 1)])
      limits.bytesMax = one.bytes * fits
      let store = SpanStore(limits: limits, seed: 1)
      let spans = (1...50).map { SampleSpan(trace: UInt64($0)) }
      #expect(store.take(request("s", spans)) == .success(.init(stored: 50, refused: 0)))
      #expect(store.isConsistent)
      #expect(store.traceCount >= 1 && store.counters.tracesEvictedBySize == 50 - store.traceCount)
      store.take("s", [SampleSpan(trace: 99)])
      #expect(store.isConsistent)
    }
  }

  /// Hashing the resource for each span would go through gigabytes here.
  @Test func aLargeResourceIsRefusedWithAllItsSpansAtOnce() {
    let store = SpanStore(seed: 1)
    let large = [("a", SampleValue.string(String(repeating: "x", count: 1 << 20)))]
    let spans = (1...5_000).map { SampleSpan(id: UInt64($0)) }
    let result = store.take(request("s", resource: large, spans))
    #expect(result == .success(.init(stored: 0, refused: 5_000)))
    #expect(store.traceCount == 0 && store.bytes == 0 && store.isConsistent)
  }

  @Test func originsOfOneTraceAreBounded() {
    var limits = StoreLimits()
    limits.traceOriginsMax = 3
    let store = SpanStore(limits: limits, seed: 1)
    for index in 1...5 { store.take("s\(index)", [SampleSpan(id: UInt64(index))]) }
    #expect(store.counters.spansStored == 3)
    #expect(store.counters.spansRefused == 2)
    #expect(store.isConsistent)
  }

  @Test func tracesGrowOld() {
    var limits = StoreLimits()
    limits.ageMax = 10 * second
    let store = SpanStore(limits: limits, seed: 1)
    store.take("s", [SampleSpan(trace: 1)], now: 1 * second)
    store.take("s", [SampleSpan(trace: 2)], now: 5 * second)
    store.take("s", [SampleSpan(trace: 1, id: 2)], now: 9 * second)
    store.expire(now: 11 * second)
    #expect(store.traceCount == 2)
    store.expire(now: 12 * second)
    #expect(found("{}", in: store) == [2])
    store.expire(now: 60 * second)
    #expect(store.traceCount == 0)
    #expect(store.bytes == 0)
    #expect(store.counters.tracesEvictedByAge == 2)
  }

  @Test func idsAreReadWithAndWithoutZerosAtTheLeft() {
    func id(_ text: String) -> TraceID? { Array(text.utf8).withUnsafeBytes { TraceID(hex: $0) } }
    #expect(id("00000000000000000000000000000abc") == TraceID(high: 0, low: 0xabc))
    #expect(id("ABC") == TraceID(high: 0, low: 0xabc))
    #expect(id("1aabbccddeeff00112") == TraceID(high: 0x1a, low: 0xabbc_cdde_eff0_0112))
    for bad in ["", "xyz", "0-0", String(repeating: "1", count: 33)] { #expect(id(bad) == nil) }
  }

  /// A clock that goes on by one at each look, so that the bound is a number of looks.
  @Test func aSearchWhoseBudgetIsSpentAnswersWhatItFound() throws {
    let store = SpanStore(seed: 1)
    for trace in 1...100 {
      store.take(
        "s",
        [
          SampleSpan(
            trace: UInt64(trace), attributes: [("a", .string(String(repeating: "x", count: 40_000)))])
        ])
    }
    for text in ["{ span.a =~ `x*` }", "{ span.a != `x` }", "{}"] {
      var request = SearchRequest(.query(try TraceQLParser.parse(Array(text.utf8))))
      request.limit = 1_000
      var now: Nanoseconds = 0
      request.budget = SearchBudget(5) {
        now += 1
        return now
      }
      let cut = store.search(request)
      #expect(cut.isCut)
      #expect((1...90).contains(cut.hits.count))
      // The newest are found first.
      let count = UInt64(cut.hits.count)
      #expect(Set(cut.hits.map(\.id.low)) == Set((101 - count)...100))
      request.budget = SearchBudget(5) { 0 }
      let whole = store.search(request)
      #expect(!whole.isCut && whole.hits.count == 100)
    }
  }

  /// A trace that was not looked at to its end is no hit, not even of a negation.
  @Test func aTraceThatSpendsTheBudgetIsNoHit() throws {
    let store = SpanStore(seed: 1)
    let value = SampleValue.string(String(repeating: "x", count: 4_000))
    store.take("s", (1...200).map { SampleSpan(id: UInt64($0), attributes: [("a", value)]) })
    for text in [
      "{ span.a !~ `y*` }", "{ !(span.a =~ `(x?y){50}`) }", "{ span.a =~ `x*` } >> { span.a =~ `x*` }",
    ] {
      var request = SearchRequest(.query(try TraceQLParser.parse(Array(text.utf8))))
      var looks: Nanoseconds = 0
      request.budget = SearchBudget(2) {
        looks += 1
        return looks
      }
      let result = store.search(request)
      #expect(result.isCut && result.hits.isEmpty)
    }
  }

  @Test func searchesAreBoundedByTimeAndNumber() {
    let store = SpanStore(seed: 1)
    for trace in 1...30 {
      store.take("s", [SampleSpan(trace: UInt64(trace), start: Double(trace) * 1_000, length: 500)])
    }
    var request = SearchRequest(.query(TraceQLQuery(spans: .filter(nil), stages: [])))
    #expect(store.search(request).hits.map(\.id.low) == Array((11...30).reversed()))
    request.limit = 2
    #expect(store.search(request).inspectedTraces == 2)
    request.range = SampleSpan.time(5_400)...SampleSpan.time(7_000)
    request.limit = 20
    #expect(store.search(request).hits.map(\.id.low) == [7, 6, 5])
  }
}
