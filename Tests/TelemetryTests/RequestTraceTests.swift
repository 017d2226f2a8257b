// Request-trace records: Dynamo's schema, and what is left out where it is not known.

import Base
import Testing

@testable import Telemetry

private final class Sink: RequestTraceSink {
  let ratio: Double
  init(_ ratio: Double) { self.ratio = ratio }
  func write(_ lines: UnsafeRawBufferPointer) {}
}

@Suite struct RequestTraceTests {
  private func line(_ change: (inout RequestTraceRecord) -> Void) -> String {
    var random = Xoshiro256(seed: 7)
    let id = UUID(using: &random)
    var out = ByteBuffer()
    Array("caller \"1\"".utf8).withUnsafeBytes { caller in
      Array("a/b".utf8).withUnsafeBytes { model in
        var record = RequestTraceRecord(
          requestID: id, xRequestID: caller, model: model, endpoint: "chat_completions", isStream: false,
          status: 200, outcome: .success, received: 1_700_000_000_000_900_000,
          ended: 1_700_000_001_000_100_000, totalTime: 1_250_000_000)
        change(&record)
        out.append(record)
      }
    }
    var text = ByteBuffer()
    text.append(id)
    return out.text.replacing(text.text, with: "ID")
  }

  @Test func whatIsNotKnownIsLeftOut() {
    #expect(
      line { _ in } == #"""
        {"timestamp":1700000001000,"event":{"schema":"dynamo.request.trace.v1","event_type":"request_end",\#
        "event_time_unix_ms":1700000001000,"event_source":"dynamo","request":{"request_id":"ID",\#
        "x_request_id":"caller \"1\"","model":"a/b","endpoint":"chat_completions","request_type":"unary",\#
        "status":200,"outcome":"success","request_received_ms":1700000000000,"total_time_ms":1250.000}}}

        """#)
  }

  @Test func everythingThatIsKnownIsThere() {
    let text = line { record in
      record.traceID = TraceID(high: 1, low: 2)
      record.session = 0xabc
      record.isStream = true
      record.finishReason = "length"
      record.workerID = 9_007_199_254_740_991
      record.maxTokens = 5
      record.inputTokens = 40
      record.outputTokens = 4
      record.cachedTokens = 32
      record.prefillWait = 1_500_000
      record.prefillTime = 20_000_000
      record.timeToFirstToken = 21_500_000
      record.averageInterTokenLatency = 1_000
      record.prompt = .init(blockSize: 16, length: 33, hashes: [.max, 2, 3], isOfTokens: true)
    }
    #expect(
      text == #"""
        {"timestamp":1700000001000,"event":{"schema":"dynamo.request.trace.v1","event_type":"request_end",\#
        "event_time_unix_ms":1700000001000,"event_source":"dynamo",\#
        "agent_context":{"session_id":"0000000000000abc"},"request":{"request_id":"ID",\#
        "x_request_id":"caller \"1\"","trace_id":"00000000000000010000000000000002","model":"a/b",\#
        "endpoint":"chat_completions","request_type":"stream","status":200,"outcome":"success",\#
        "finish_reason_metadata":{"finish_reason":"length"},"worker_id":9007199254740991,"max_tokens":5,\#
        "input_tokens":40,"output_tokens":4,"cached_tokens":32,"request_received_ms":1700000000000,\#
        "total_time_ms":1250.000,"prefill_wait_time_ms":1.500,"prefill_time_ms":20.000,"ttft_ms":21.500,\#
        "avg_itl_ms":0.001,"replay":{"trace_block_size":16,"input_length":33,"hashed":"tokens",\#
        "input_sequence_hashes":[18446744073709551615,2,3]}}}}

        """#)
  }

  @Test func theRatioTakesItsShareAndAlwaysTheSameRequests() {
    var random = Xoshiro256(seed: 1)
    let ids = (0..<4_000).map { _ in UUID(using: &random) }
    #expect(ids.allSatisfy { Sink(1).records($0) })
    #expect(!ids.contains { Sink(0).records($0) })
    let quarter = ids.filter { Sink(0.25).records($0) }
    #expect((900...1_100).contains(quarter.count))
    #expect(quarter.allSatisfy { Sink(0.5).records($0) }, "a larger share holds the smaller one")
  }
}
