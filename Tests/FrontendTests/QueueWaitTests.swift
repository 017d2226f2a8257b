// Requests that wait for a worker with room: order, endings, bounds.

import Base
import Routing
import Testing
import Transport
import Workers

@testable import Frontend

struct QueueWaitTests {
  /// Two workers, each full with one request.
  private func rig(
    _ change: (inout QueueOptions) -> Void = { _ in }, edit: (inout FrontendConfiguration) -> Void = { _ in }
  ) throws -> FrontendRig {
    var options = RoutingOptions()
    var queue = QueueOptions(threshold: 0.001)
    change(&queue)
    options.queue = queue
    return try FrontendRig(routing: options, edit: edit)
  }

  /// Fills both workers; gives their connections.
  private func fill(_ rig: FrontendRig) -> [Int32] {
    [0, 1].map { _ in
      _ = post(rig)
      #expect(!rig.upstreamRequest().isEmpty)
      return rig.dialer.last
    }
  }

  private func post(_ rig: FrontendRig, _ headers: String = "", more: String = "") -> Int32 {
    let caller = rig.connect()
    // No two prompts share a block: a cached one takes no room.
    let body =
      "{\"model\":\"\(FrontendRig.model)\",\"messages\":[{\"role\":\"\(caller)\",\"content\":\""
      + String(repeating: "words ", count: 160) + "\"}]\(more)}"
    rig.send(
      "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\(headers)content-length: \(body.utf8.count)\r\n\r\n\(body)",
      on: caller)
    return caller
  }

  private func finish(_ rig: FrontendRig, _ connection: Int32) {
    rig.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}", on: connection)
  }

  private func waiting(_ rig: FrontendRig) -> Int {
    rig.service.workers.models[0].routing.queueStatistics.waiting
  }

  @Test func waitsForRoomAndThenGoes() throws {
    let rig = try rig { $0.tracing.hasContext = true }
    let busy = fill(rig)
    let caller = post(rig)
    #expect(waiting(rig) == 1 && rig.dialer.last == busy[1])
    rig.pass(2 * second)
    finish(rig, busy[0])
    #expect(waiting(rig) == 0 && rig.dialer.last > busy[1])
    #expect(!rig.upstreamRequest().isEmpty)
    rig.answer("{}")
    let answer = rig.output(caller)
    #expect(answer.status == 200 && answer.contains("queue;dur=2000.000"), "\(answer)")
  }

  private func rig(_ edit: (inout FrontendConfiguration) -> Void) throws -> FrontendRig {
    try rig({ _ in }, edit: edit)
  }

  @Test func firstTokenOfAStreamMakesRoom() throws {
    let rig = try rig()
    let busy = fill(rig)
    _ = post(rig)
    rig.send(
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n", on: busy[0])
    #expect(waiting(rig) == 1)
    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"
    rig.send("\(String(event.utf8.count, radix: 16))\r\n\(event)\r\n", on: busy[0])
    #expect(waiting(rig) == 0 && rig.dialer.last > busy[1])
  }

  @Test(arguments: [
    ("x-dynamo-request-priority: 10\r\n", ""),
    ("", ",\"nvext\":{\"agent_hints\":{\"priority\":10}}"),
    ("", ",\"nvext\":{\"agent_hints\":{\"strict_priority\":1}}"),
  ])
  func priorityGoesFirst(headers: String, more: String) throws {
    let rig = try rig()
    let busy = fill(rig)
    let plain = post(rig)
    rig.pass(second)
    let urgent = post(rig, headers, more: more)
    #expect(waiting(rig) == 2)
    finish(rig, busy[0])
    #expect(!rig.upstreamRequest().isEmpty)
    rig.answerAndClose("{}")
    #expect(rig.output(urgent).status == 200)
    #expect(rig.output(plain).isEmpty && waiting(rig) == 0)
    #expect(!rig.upstreamRequest().isEmpty)
    rig.answer("{}")
    #expect(rig.output(plain).status == 200)
  }

  @Test func callersThatLeaveGiveTheirPlaceUp() throws {
    let rig = try rig()
    let busy = fill(rig)
    let gone = post(rig)
    let stays = post(rig)
    rig.reset(gone)
    #expect(waiting(rig) == 1 && rig.isClosed(gone))
    finish(rig, busy[1])
    #expect(!rig.upstreamRequest().isEmpty)
    rig.answer("{}")
    #expect(rig.output(stays).status == 200)
    let statistics = rig.service.workers.models[0].routing.queueStatistics
    #expect(statistics.cancelledTotal == 1 && statistics.released == 0)
  }

  @Test func oneTooManyIsRefused() throws {
    let rig = try rig({ $0.requestsPerWorkerMax = 1 })
    _ = fill(rig)
    let held = [post(rig), post(rig)]
    let refused = rig.output(post(rig))
    #expect(refused.status == 529 && refused.contains("retry-after: 1\r\n") && refused.contains("overloaded"))
    #expect(held.allSatisfy { rig.output($0).isEmpty } && waiting(rig) == 2)
  }

  @Test func waitingEndsWithItsTime() throws {
    let rig = try rig { $0.queueWait = 3 * second }
    _ = fill(rig)
    let caller = post(rig)
    rig.pass(2_900 * millisecond)
    #expect(rig.output(caller).isEmpty)
    rig.pass(200 * millisecond)
    let answer = rig.output(caller)
    #expect(answer.status == 529 && answer.contains("waited for too long"))
    #expect(waiting(rig) == 0)
  }

  @Test func stoppingAnswersThem() throws {
    let rig = try rig()
    _ = fill(rig)
    let caller = post(rig)
    rig.server.announceCut()
    rig.turn()
    #expect(rig.output(caller).status == 503 && waiting(rig) == 0)
  }

  @Test func withoutWorkersNobodyWaits() throws {
    let rig = try rig()
    _ = fill(rig)
    let caller = post(rig)
    rig.service.workers.models[0].routing.workersChanged([])
    rig.turn()
    let answer = rig.output(caller)
    #expect(answer.status == 503 && answer.contains("no_workers") && waiting(rig) == 0)
  }

  @Test func explainSaysThatItWouldWait() throws {
    let rig = try rig()
    _ = fill(rig)
    let caller = rig.connect()
    let body = FrontendRig.chat(bytes: 100)
    rig.send(
      "POST /v1/router/explain HTTP/1.1\r\nhost: x\r\ncontent-length: \(body.utf8.count)\r\n\r\n\(body)",
      on: caller)
    rig.runPool()
    #expect(rig.output(caller).contains("\"outcome\":\"queued\""))
    #expect(waiting(rig) == 0)
  }
}
