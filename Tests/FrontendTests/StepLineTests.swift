// What DYN_LOG=debug shows of a request, in which order, and that nothing of it is there otherwise.

import Base
import EventLoop
import Foundation
import Glibc
import Telemetry
import TestSupport
import Testing

@testable import Frontend

struct StepLineTests {
  private func rig(_ filter: String) throws -> FrontendRig {
    try FrontendRig(
      traces: true,
      logs: LogConfiguration(environment: ["DYN_LOG": filter, "DYN_LOGGING_CONSOLE_FORMAT": "jsonl"]))
  }

  private func lines(_ rig: FrontendRig) throws -> [[String: Any]] {
    try rig.lines.lines.map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
  }

  private func answered(_ filter: String) throws -> FrontendRig {
    let rig = try rig(filter)
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    _ = rig.upstreamRequest()
    rig.answer("{}")
    #expect(rig.output(caller).status == 200)
    return rig
  }

  @Test func everyStepIsToldOnceWithTheRequestsIds() throws {
    let lines = try lines(try answered("debug"))
    #expect(
      lines.map { $0["message"] as? String } == [
        "request head read", "request body read", "request decoded", "prompt prepared", "worker chosen",
        "request sent to worker", "worker answered", "first token", "worker done", "request completed",
      ])
    #expect(lines.dropLast().allSatisfy { $0["level"] as? String == "DEBUG" })
    #expect(Set(lines.map { $0["request_id"] as? String }).count == 1)
    #expect(Set(lines.map { $0["trace_id"] as? String }).count == 1 && lines[0]["trace_id"] != nil)
    #expect(lines[0]["uri"] as? String == "/v1/chat/completions")
    #expect(lines[2]["model"] as? String == FrontendRig.model && lines[2]["stream"] as? Bool == false)
    #expect((lines[3]["prompt_bytes"] as? Int ?? 0) > 0)
    let chosen = lines[4]["worker_id"] as? Int
    #expect(chosen == 1 || chosen == 2)
    #expect(lines[4]["overlap_blocks"] as? Int == 0 && lines[4]["cost"] is Double)
    #expect(lines[5]["url"] as? String == "http://127.0.0.1:\(chosen ?? 0)")
    #expect(lines[6]["status"] as? Int == 200)
    #expect(lines[8]["outcome"] as? String == "success" && lines[8]["worker_id"] as? Int == chosen)
  }

  @Test(arguments: [("info", 1), ("warn", 0), ("info,dynamo_frontend::router=debug", 2)])
  func withoutTheFilterNothingIsWritten(filter: String, count: Int) throws {
    let lines = try lines(try answered(filter))
    #expect(lines.count == count)
    if count == 2 { #expect(lines[0]["target"] as? String == "dynamo_frontend::router") }
  }

  @Test func aRetryTellsOfBothWorkers() throws {
    let rig = try rig("debug")
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    rig.kernel.connectErrors[rig.dialer.last] = ECONNREFUSED
    rig.kernel.queue([(rig.dialer.last, .error)])
    rig.turn()
    _ = rig.upstreamRequest()
    rig.answer("{}")
    #expect(rig.output(caller).status == 200)
    let done = try lines(rig).filter { $0["message"] as? String == "worker done" }
    #expect(done.map { $0["outcome"] as? String } == ["connection_failed", "success"])
    #expect(done.map { $0["error_type"] as? String } == ["cannot_connect", nil])
    #expect(done.map { $0["attempts"] as? Int } == [1, 2])
  }
}
