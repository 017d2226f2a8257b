// Names that dashboards and searches depend on.

import Base
import Testing

@testable import Telemetry

@Suite struct NameTests {
  @Test func theSpansOfARequestHaveTheirPublishedNames() {
    let names = [
      SpanName.httpRequest, SpanName.preprocess, SpanName.selectWorker, SpanName.kvRouteRequest,
      SpanName.routeRequest, SpanName.handlePayload, SpanName.engineGenerate,
    ]
    #expect(
      names.map(\.description) == [
        "http-request", "preprocess", "kv_router.select_worker", "kv_router.route_request",
        "router.route_request", "handle_payload", "engine.generate",
      ])
  }

  @Test func outcomesAreDynamosEight() {
    let outcomes = (UInt8(0)...7).compactMap { RequestOutcome(rawValue: $0)?.text.description }
    #expect(
      outcomes == [
        "success", "cancelled", "rejected", "timeout", "unavailable", "worker_disconnected",
        "connection_failed", "error",
      ])
    #expect(RequestOutcome(rawValue: 8) == nil)
  }
}
