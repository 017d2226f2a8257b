// A stream whose worker dies goes on at another one, and its caller sees one stream.

import Base
import EventLoop
import OpenAI
import Routing
import TestSupport
import Telemetry
import Testing
import Transport
import Workers

@testable import Frontend

struct MigrationTests {
  private static let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"

  private func rig(
    traces: Bool = false, engine: EngineKind = .simulated,
    edit: (inout FrontendConfiguration) -> Void = { _ in }
  ) throws -> FrontendRig {
    let rig = try FrontendRig(traces: traces) {
      $0.migration.limit = 1
      edit(&$0)
    }
    rig.service.adopt(rig.snapshot(generation: 2, engine: engine))
    return rig
  }

  private func event(_ id: String, _ delta: String, finish: String = "null") -> String {
    "data: {\"id\":\"\(id)\",\"created\":\(id == "a" ? 1 : 2),\"choices\":[{\"index\":0,\"delta\":{\(delta)},"
      + "\"finish_reason\":\(finish)}]}\n\n"
  }

  private func text(_ id: String, _ text: String) -> String { event(id, "\"content\":\"\(text)\"") }

  private func role(_ id: String) -> String { event(id, "\"role\":\"assistant\",\"content\":\"\"") }

  private let done = "data: [DONE]\n\n"

  /// Events of a chunked answer, each in a chunk of its own.
  private func events(_ output: String) -> [String] {
    output.split(separator: "\r\n").filter { $0.hasPrefix("data: ") }
      .flatMap { $0.split(separator: "\n").map(String.init) }
  }

  private func begin(_ rig: FrontendRig, more: String = "") -> (caller: Int32, worker: Int32) {
    let caller = rig.post(FrontendRig.chat(bytes: 100, more: ",\"stream\":true" + more))
    _ = rig.upstreamRequest()
    rig.send(Self.head + role("a") + text("a", "The ") + text("a", "\\\"quiet"), on: rig.dialer.last)
    return (caller, rig.dialer.last)
  }

  private func isFree(_ rig: FrontendRig) -> Bool {
    rig.turn()
    return rig.service.openRequests == 0 && rig.shared.retriesInProgress == 0
      && rig.shared.bodyMemoryInUse == 0
      && rig.service.workers.models[0].routing.loads.allSatisfy {
        $0.activeRequests == 0 && $0.prefillTokens == 0
      }
  }

  private func end(_ rig: FrontendRig, with usage: String = "") {
    rig.send(Self.head + role("b") + text("b", " river"), on: rig.dialer.last)
    rig.send(event("b", "", finish: "\"stop\"") + usage + done, on: rig.dialer.last)
    rig.close(rig.dialer.last)
  }

  @Test(arguments: [true, false]) func theCallerSeesOneStream(isReset: Bool) throws {
    let rig = try rig()
    let (caller, worker) = begin(rig, more: ",\"max_tokens\":9")
    // The beginning of an event that never became whole is generated again.
    rig.send("data: {\"id\":\"a\",\"choices\":[{\"delta\":{\"content\":\" riv", on: worker)
    if isReset { rig.reset(worker) } else { rig.close(worker) }
    #expect(rig.dialer.last == worker + 1)
    let asked = rig.upstreamRequest()
    #expect(asked.contains("},{\"role\":\"assistant\",\"content\":\"The \\\"quiet\"}]"))
    #expect(asked.contains("\"max_tokens\":7"))
    #expect(asked.contains("\"continue_final_message\":true,\"add_generation_prompt\":false"))
    #expect(asked.contains("\"include_usage\":true"))
    end(
      rig,
      with: "data: {\"id\":\"b\",\"choices\":[],\"usage\":{\"prompt_tokens\":32,\"completion_tokens\":1}}\n\n"
    )
    let output = rig.output(caller)
    #expect(
      events(output)
        == events(
          role("a") + text("a", "The ") + text("a", "\\\"quiet") + text("a", " river")
            + event("a", "", finish: "\"stop\"") + done))
    #expect(!output.contains("error"))
    #expect(isFree(rig))
  }

  @Test func whatTheTwoCountIsOneUsage() throws {
    let rig = try rig()
    let (caller, worker) = begin(rig, more: ",\"stream_options\":{\"include_usage\":true}")
    rig.reset(worker)
    _ = rig.upstreamRequest()
    end(
      rig,
      with:
        "data: {\"id\":\"b\",\"choices\":[],\"usage\":{\"prompt_tokens\":32,\"completion_tokens\":1,"
        + "\"total_tokens\":33}}\n\n")
    let output = rig.output(caller)
    #expect(output.contains("\"prompt_tokens\":30,\"completion_tokens\":3,\"total_tokens\":33"))
    #expect(output.contains("{\"id\":\"a\",\"choices\":[],\"usage\""))
  }

  @Test func eachSplitOfTheNewStreamIsTheSame() throws {
    let rest = role("b") + text("b", " river") + event("b", "", finish: "\"stop\"") + done
    var expected: [String]?
    for split in stride(from: 1, to: rest.utf8.count, by: 7) {
      let rig = try rig()
      let (caller, worker) = begin(rig)
      rig.reset(worker)
      _ = rig.upstreamRequest()
      let bytes = Array(rest.utf8)
      rig.send(Self.head + String(decoding: bytes[..<split], as: UTF8.self), on: rig.dialer.last)
      rig.send(String(decoding: bytes[split...], as: UTF8.self), on: rig.dialer.last)
      rig.close(rig.dialer.last)
      let found = events(rig.output(caller))
      #expect(found == expected ?? found)
      #expect(found.last == "data: [DONE]" && found.count == 6)
      expected = found
    }
  }

  @Test func aWorkerThatDiesBeforeItSaidAnythingIsAskedAnew() throws {
    // Any engine can begin anew.
    let rig = try rig(engine: .unknown)
    let caller = rig.post(FrontendRig.chat(bytes: 100, more: ",\"stream\":true"))
    _ = rig.upstreamRequest()
    rig.send(Self.head + role("a"), on: rig.dialer.last)
    rig.reset(rig.dialer.last)
    #expect(!rig.upstreamRequest().contains("continue_final_message"))
    end(rig)
    #expect(events(rig.output(caller)).count == 4)
    #expect(isFree(rig))
  }

  /// What keeps a stream where it is: then its caller is told in-band.
  @Test(arguments: [
    ("off", ""), ("engine", ""), ("", ",\"n\":2"), ("", ",\"logprobs\":true"), ("tool", ""), ("long", ""),
    ("nobody", ""), ("budget", ""),
  ])
  func otherStreamsEndInBand(_ why: String, _ more: String) throws {
    let rig = try rig(engine: why == "engine" ? .llamaCpp : .simulated) {
      if why == "off" { $0.migration.limit = 0 }
      if why == "long" { $0.migration.sequenceMax = 20 }
      if why == "budget" {
        $0.retries.floor = 0
        $0.retries.share = 0
      }
    }
    let (caller, worker) = begin(rig, more: more)
    if why == "tool" {
      rig.send(event("a", "\"tool_calls\":[{\"index\":0,\"id\":\"c\"}]"), on: worker)
    }
    if why == "nobody" {
      for id in [UInt64(1), 2] {
        rig.service.workers.models[0].routing.connectFailed(id, now: rig.loop.now, refusedUntil: .max)
      }
    }
    rig.reset(worker)
    #expect(rig.dialer.last == worker)
    let output = rig.output(caller)
    #expect(output.contains("\"error\"") && events(output).last == "data: [DONE]")
    // What never moved is not counted as moved.
    var page = ByteBuffer()
    rig.shared.registry.writePrometheus(into: &page)
    let counts = page.text.contains("ongoing_request")
    #expect(!counts)
    #expect(isFree(rig))
  }

  @Test func theSecondWorkersDeathIsTold() throws {
    let rig = try rig()
    let (caller, worker) = begin(rig)
    rig.reset(worker)
    _ = rig.upstreamRequest()
    rig.send(Self.head + text("b", " river"), on: rig.dialer.last)
    rig.reset(rig.dialer.last)
    let output = rig.output(caller)
    #expect(output.contains("river") && output.contains("\"error\""))
    #expect(isFree(rig))
  }

  @Test(arguments: [
    "HTTP/1.1 400 No\r\ncontent-length: 2\r\n\r\n{}", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
  ])
  func aWorkerThatWillNotGoOnIsNotPassedOn(_ answer: String) throws {
    let rig = try rig()
    let (caller, worker) = begin(rig)
    rig.reset(worker)
    _ = rig.upstreamRequest()
    rig.send(answer, on: rig.dialer.last)
    let output = rig.output(caller)
    #expect(output.contains("\"error\"") && !output.contains("{}\r\n"))
    #expect(isFree(rig))
  }

  @Test func aSilentWorkerIsLeft() throws {
    let rig = try rig { $0.client.silenceTimeout = 5 * second }
    let (caller, worker) = begin(rig)
    rig.pass(6 * second)
    #expect(rig.dialer.last == worker + 1)
    _ = rig.upstreamRequest()
    end(rig)
    #expect(events(rig.output(caller)).last == "data: [DONE]")
    #expect(isFree(rig))
  }

  @Test func aCallerThatLeavesMeanwhileEndsAll() throws {
    let rig = try rig()
    let (caller, worker) = begin(rig)
    rig.reset(worker)
    _ = rig.upstreamRequest()
    rig.reset(caller)
    #expect(rig.isClosed(rig.dialer.last))
    #expect(isFree(rig))
  }

  @Test func aStreamThatCanMoveNoMoreKeepsNothing() throws {
    let rig = try rig()
    let (_, worker) = begin(rig)
    #expect(rig.shared.bodyMemoryInUse > 0)
    rig.send(event("a", "\"reasoning_content\":\"so\""), on: worker)
    #expect(rig.shared.bodyMemoryInUse == 0)
    rig.send(text("a", "more"), on: worker)
    rig.send(event("a", "", finish: "\"stop\"") + done, on: worker)
    rig.close(worker)
    #expect(isFree(rig))
  }

  @Test func keptTextIsBodyMemory() throws {
    let rig = try rig {
      $0.bodyMemoryMax = 4_096
      $0.bodyMemoryLoan = 0
    }
    let (caller, worker) = begin(rig)
    #expect(rig.shared.bodyMemoryInUse > 0)
    // More than there is: it goes on, and could not move.
    rig.send(text("a", String(repeating: "x", count: 5_000)), on: worker)
    #expect(rig.shared.bodyMemoryInUse == 0)
    rig.reset(worker)
    #expect(rig.dialer.last == worker && rig.output(caller).contains("\"error\""))
    #expect(isFree(rig))
  }

  @Test func aStreamThatMovedLeavesTheRetryBudget() throws {
    let rig = try rig()
    let (_, worker) = begin(rig)
    rig.reset(worker)
    _ = rig.upstreamRequest()
    #expect(rig.shared.retriesInProgress == 1)
    rig.send(Self.head + role("b"), on: rig.dialer.last)
    #expect(rig.shared.retriesInProgress == 1)
    rig.send(text("b", " river"), on: rig.dialer.last)
    // It can move no more, either.
    #expect(rig.shared.retriesInProgress == 0 && rig.shared.bodyMemoryInUse == 0)
    rig.send(event("b", "", finish: "\"stop\"") + done, on: rig.dialer.last)
    rig.close(rig.dialer.last)
    #expect(isFree(rig))
  }

  @Test func aWorkerThatWasNotReachedIsNoMove() {
    let migration = Migration()
    let note = MigrationNote(reason: "disconnected", fromWorker: 1, tokens: 2)
    migration.move(note, at: 5)
    migration.forgiveMove()
    #expect(migration.countedMoves == 0 && migration.isContinuing)
    migration.move(note, at: 6)
    #expect(migration.countedMoves == 1 && migration.moves == 2)
    // Of what never began nothing is left.
    migration.undoMove((note: note, brokenAt: 5))
    #expect(migration.countedMoves == 0 && migration.resume() == 5)
  }

  @Test func textThatIsTooLongIsNotKept() {
    let migration = Migration()
    let chunk = Array(text("a", String(repeating: "x", count: 100_000)).dropFirst(6).dropLast(2).utf8)
    for count in 1...3 {
      chunk.withUnsafeBytes { migration.observe($0) }
      #expect(migration.isHindered == (count == 3))
    }
    let isEmpty = migration.text.isEmpty
    #expect(isEmpty)
  }

  @Test func theStreamsOfADeadWorkerMoveAFewInAWakeUp() throws {
    let rig = try rig { $0.migration.perWakeUp = 2 }
    let streams = (0..<5).map { _ in begin(rig) }
    let before = rig.dialer.last
    for stream in streams { rig.kernel.receiveErrors[stream.worker] = 104 }
    rig.kernel.queue(streams.map { ($0.worker, .error) })
    rig.loop.turn(patience: 0)
    #expect(rig.dialer.last == before + 2)
    // One whose caller leaves while it waits moves nowhere.
    rig.reset(streams[4].caller)
    for moved in [4, 4, 4] {
      rig.kernel.time += millisecond
      rig.turn()
      #expect(rig.dialer.last == before + Int32(moved))
    }
    for index in 1...4 {
      let worker = before + Int32(index)
      rig.kernel.queue([(worker, .writable)])
      rig.turn()
      rig.send(Self.head + text("b", " river") + event("b", "", finish: "\"stop\"") + done, on: worker)
      rig.close(worker)
    }
    for stream in streams.dropLast() {
      let output = rig.output(stream.caller)
      #expect(output.contains("river") && !output.contains("error"))
    }
    #expect(isFree(rig))
  }

  @Test func aDrainEndsAStreamThatWaitsForItsTurn() throws {
    let rig = try rig { $0.migration.perWakeUp = 1 }
    let streams = [begin(rig), begin(rig)]
    let before = rig.dialer.last
    for stream in streams { rig.kernel.receiveErrors[stream.worker] = 104 }
    rig.kernel.queue(streams.map { ($0.worker, .error) })
    rig.loop.turn(patience: 0)
    #expect(rig.dialer.last == before + 1)
    rig.server.cutAll()
    rig.kernel.time += millisecond
    rig.turn()
    #expect(rig.dialer.last == before + 1 && isFree(rig))
  }

  @Test func aWorkersOwnLimitCountsWhereItIsHigher() throws {
    let rig = try FrontendRig()
    var workers = rig.snapshot(generation: 2, engine: .simulated).workers
    for index in workers.indices { workers[index].migrationLimit = 1 }
    let routing = ModelRouting(options: RoutingOptions())
    routing.workersChanged(workers)
    rig.service.adopt(
      WorkerSet(
        generation: 3, workers: workers,
        models: [ServedModel(name: FrontendRig.model, workers: workers, created: 1, routing: routing)]))
    let (caller, worker) = begin(rig)
    rig.reset(worker)
    _ = rig.upstreamRequest()
    end(rig)
    let output = rig.output(caller)
    #expect(output.contains("river") && !output.contains("error"))
    #expect(isFree(rig))
  }

  @Test func itsSpansAreAsTheSchemaSays() throws {
    let rig = try rig(traces: true)
    let (_, worker) = begin(rig)
    rig.reset(worker)
    _ = rig.upstreamRequest()
    end(rig)
    rig.pass(second)
    let (faults, spanCount) = try rig.spans.check(SpanSchema())
    #expect(faults.isEmpty && spanCount >= 6)
    for name in ["is_retry", "reason", "from_worker_id", "tokens_completed"] {
      #expect(rig.spans.text.contains("migration.\(name)"))
    }
    #expect(rig.spans.text.contains("disconnected"))
  }
}
