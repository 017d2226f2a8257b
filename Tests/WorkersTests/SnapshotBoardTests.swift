// What a scrape reads of routers that are and of routers that were.

import Base
import EventLoop
import Routing
import Testing
import Transport

@testable import Workers

struct SnapshotBoardTests {
  private func model(_ name: String, mode: RoutingMode = .kv, selections: Int) throws -> ServedModel {
    var options = RoutingOptions()
    options.mode = mode
    let routing = ModelRouting(options: options)
    var random = Xoshiro256(seed: 1)
    let request = RoutingRequest(chain: UnsafeBufferPointer(start: nil, count: 0), tokens: 1)
    for _ in 0..<selections {
      _ = routing.select(request, bytes: 4, now: 1, random: &random, into: RoutingDecision())
    }
    return ServedModel(name: name, workers: [], created: 0, routing: routing)
  }

  @Test func countsOfForgottenModelsStay() throws {
    let board = SnapshotBoard()
    let first = try model("a", selections: 3)
    let second = try model("b", selections: 2)
    board.publish(WorkerSet(generation: 1, workers: [], models: [first, second]))
    #expect(board.selectionCounts.selections == 5)
    board.publish(WorkerSet(generation: 2, workers: [], models: [second]))
    #expect(board.selectionCounts.selections == 5)
    // The same name later is another router, which begins at nothing.
    board.publish(WorkerSet(generation: 3, workers: [], models: [second, try model("a", selections: 1)]))
    #expect(board.selectionCounts.selections == 6)
    // No worker was there to be found.
    #expect(board.selectionCounts.decisions == 0)
  }

  @Test func onlyKVRoutersCount() throws {
    let board = SnapshotBoard()
    board.publish(
      WorkerSet(generation: 1, workers: [], models: [try model("a", mode: .roundRobin, selections: 3)]))
    #expect(board.selectionCounts.selections == 0)
  }
}
