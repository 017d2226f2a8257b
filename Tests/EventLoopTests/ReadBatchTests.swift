// Reading all that is ready before any of it is delivered.

import Base
import Glibc
import TestSupport
import Testing

@testable import EventLoop

/// Gathers what its descriptor has, and remembers when it was given it.
private final class Reader: EventHandler {
  let descriptor: Int32
  let group: ReadGroup
  let story: Story
  let loop: EventLoop
  var registration: Registration?
  var results: [Int] = []
  var filledRoom = false
  var onArrival: (() -> Void)?

  final class Story {
    var steps: [String] = []
  }

  init(_ descriptor: Int32, _ group: ReadGroup, _ loop: EventLoop, _ story: Story) throws {
    self.descriptor = descriptor
    self.group = group
    self.loop = loop
    self.story = story
    registration = try loop.register(descriptor, self)
  }

  func ready(_ readiness: Readiness) {
    guard let registration else { return }
    story.steps.append("read \(descriptor)")
    let (count, filled) = loop.gather(registration, from: descriptor, group)
    results.append(count)
    filledRoom = filled
  }

  func arrived(_ bytes: UnsafeRawBufferPointer) {
    story.steps.append("\(descriptor) got \(bytes.count) of \(bytes.first.map { Int($0) } ?? -1)")
    onArrival?()
  }
}

struct ReadBatchTests {
  private let kernel = FakeKernel()
  private let story = Reader.Story()

  @Test func everythingIsReadBeforeAnythingIsDeliveredAndRepliesComeFirst() throws {
    let loop = try EventLoop(index: 0, system: kernel, seed: 1)
    defer { loop.close() }
    let caller = try Reader(10, .requests, loop, story)
    let worker = try Reader(11, .replies, loop, story)
    kernel.input = [10: [[1, 1]], 11: [[2, 2, 2]]]
    kernel.queue([(10, .readable), (11, .readable)])
    loop.turn(patience: 0)
    #expect(story.steps == ["read 10", "read 11", "11 got 3 of 2", "10 got 2 of 1"])
    #expect(caller.results == [2] && worker.results == [3])
    #expect(!caller.filledRoom)
    // The next wake-up begins with an empty batch.
    loop.turn(patience: 0)
    #expect(story.steps.count == 4)
  }

  @Test func whoLeavesBeforeItsTurnIsGivenNothing() throws {
    let loop = try EventLoop(index: 0, system: kernel, seed: 1)
    defer { loop.close() }
    let first = try Reader(10, .replies, loop, story)
    let second = try Reader(11, .requests, loop, story)
    kernel.input = [10: [[1]], 11: [[2]]]
    kernel.queue([(10, .readable), (11, .readable)])
    first.onArrival = {
      if let registration = second.registration { loop.deregister(registration) }
      // Its slot is somebody else's by then: what was read is not theirs.
      _ = try? Reader(12, .requests, loop, self.story)
    }
    loop.turn(patience: 0)
    #expect(story.steps == ["read 10", "read 11", "10 got 1 of 1"])
  }

  @Test func endsAndErrorsAreToldAtOnceAndDeliverNothing() throws {
    let loop = try EventLoop(index: 0, system: kernel, seed: 1)
    defer { loop.close() }
    let ended = try Reader(10, .requests, loop, story)
    let broken = try Reader(11, .requests, loop, story)
    let early = try Reader(12, .requests, loop, story)
    kernel.input = [10: [[]]]
    kernel.receiveErrors = [11: ECONNRESET]
    kernel.queue([(10, .readable), (11, .readable), (12, .readable)])
    loop.turn(patience: 0)
    #expect(ended.results == [0] && broken.results == [-Int(ECONNRESET)] && early.results == [-Int(EAGAIN)])
    #expect(story.steps == ["read 10", "read 11", "read 12"])
  }

  @Test func aFullBatchIsDeliveredBeforeTheNextRead() throws {
    let loop = try EventLoop(index: 0, system: kernel, seed: 1)
    defer { loop.close() }
    let long = [UInt8](repeating: 7, count: ReadBatch.capacity - ReadBatch.leastRoom + 1)
    let first = try Reader(10, .requests, loop, story)
    let second = try Reader(11, .replies, loop, story)
    kernel.input = [10: [long], 11: [[2]]]
    kernel.queue([(10, .readable), (11, .readable)])
    loop.turn(patience: 0)
    #expect(story.steps == ["read 10", "read 11", "10 got \(long.count) of 7", "11 got 1 of 2"])
    #expect(!first.filledRoom && !second.filledRoom)
  }

  @Test func whoIsClosedByAFullBatchIsNotRead() throws {
    let loop = try EventLoop(index: 0, system: kernel, seed: 1)
    defer { loop.close() }
    let first = try Reader(10, .requests, loop, story)
    let second = try Reader(11, .requests, loop, story)
    first.onArrival = { if let registration = second.registration { loop.deregister(registration) } }
    kernel.input = [10: [[UInt8](repeating: 7, count: ReadBatch.capacity)], 11: [[2]]]
    kernel.queue([(10, .readable), (11, .readable)])
    loop.turn(patience: 0)
    // Its number may be a new connection's by then: nothing of that one is taken.
    #expect(second.results == [-Int(EAGAIN)] && kernel.input[11] == [[2]])
  }

  @Test func whatFillsTheRoomSaysSo() throws {
    let loop = try EventLoop(index: 0, system: kernel, seed: 1)
    defer { loop.close() }
    let reader = try Reader(10, .requests, loop, story)
    kernel.input = [10: [[UInt8](repeating: 7, count: ReadBatch.capacity + 1)]]
    kernel.queue([(10, .readable)])
    loop.turn(patience: 0)
    #expect(reader.results == [ReadBatch.capacity] && reader.filledRoom)
  }
}
