// Every span that a worker makes is as the schema says.

import HTTP
import TestSupport
import Testing
import Transport

@testable import WorkerServer

@Suite struct SpanSchemaTests {
  private func expectNoFaults(_ rig: Rig, spans: Int) throws {
    rig.flushSpans()
    let (faults, count) = try rig.spans.check(SpanSchema())
    #expect(faults == [] && count == spans)
  }

  @Test func answersStreamsAndRefusals() throws {
    let rig = try Rig()
    #expect(rig.perform(body: rig.chat("\"max_tokens\":4")).status == 200)
    #expect(rig.perform(body: rig.chat("\"max_tokens\":4,\"stream\":true")).status == 200)
    #expect(
      rig.perform("POST", "/v1/completions", body: "{\"model\":\"other\",\"prompt\":\"x\"}").status == 404)
    #expect(rig.perform(body: "{").status == 400)
    try expectNoFaults(rig, spans: 6)
  }

  @Test func callersThatLeave() throws {
    let rig = try Rig()
    let (_, handler) = rig.begin(body: rig.chat("\"max_tokens\":400,\"stream\":true"))
    rig.run(milliseconds: 50)
    handler.ended(.cancelled)
    rig.begin(body: "").1.ended(.cancelled)
    try expectNoFaults(rig, spans: 3)
  }
}
