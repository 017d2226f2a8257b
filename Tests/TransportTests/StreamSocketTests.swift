// A socket's input: pauses between reading and delivering, what is kept, and reads that are not made.

import Base
import EventLoop
import TestSupport
import Testing

@testable import Transport

private final class Owner: StreamSocketHandler {
  var got: [UInt8] = []
  var peerClosedCount = 0
  var onBytes: (() -> Void)?

  func received(_ bytes: UnsafeRawBufferPointer) -> Int {
    got += bytes
    onBytes?()
    return bytes.count
  }
  func connected() {}
  func peerClosed() { peerClosedCount += 1 }
  func willFlush() {}
  func flushed() {}
  func stalled() {}
  func drained() {}
  func failed(_ error: SocketFailure) {}
}

struct StreamSocketTests {
  private let kernel = FakeKernel()

  private func socket(_ descriptor: Int32, _ loop: EventLoop, _ owner: Owner) throws -> StreamSocket {
    let socket = StreamSocket(descriptor, on: loop, connecting: false)
    try socket.start(owner)
    return socket
  }

  @Test func aSocketPausedByAnotherKeepsWhatWasReadForIt() throws {
    let loop = try EventLoop(index: 0, system: kernel, seed: 1)
    defer { loop.close() }
    let (first, second) = (Owner(), Owner())
    let a = try socket(10, loop, first)
    let b = try socket(11, loop, second)
    first.onBytes = { b.pauseReading() }
    kernel.input = [10: [[1]], 11: [[2, 3]]]
    kernel.queue([(10, .readable), (11, .readable)])
    loop.turn(patience: 0)
    #expect(first.got == [1] && second.got.isEmpty && b.unconsumedCount == 2)
    // More comes while it is paused, and the peer's end with it.
    kernel.input[11] = [[4], []]
    kernel.queue([(11, .peerClosed)])
    b.reportsEndWhilePaused = false
    loop.turn(patience: 0)
    #expect(second.got.isEmpty && second.peerClosedCount == 0)
    b.resumeReading()
    loop.turn(patience: 0)
    #expect(second.got == [2, 3, 4] && second.peerClosedCount == 1)
    a.close()
    b.close()
  }

  @Test func aSocketClosedByAnotherGetsNothing() throws {
    let loop = try EventLoop(index: 0, system: kernel, seed: 1)
    defer { loop.close() }
    let (first, second) = (Owner(), Owner())
    let a = try socket(10, loop, first)
    let b = try socket(11, loop, second)
    first.onBytes = { b.close() }
    kernel.input = [10: [[1]], 11: [[2, 3]]]
    kernel.queue([(10, .readable), (11, .readable)])
    loop.turn(patience: 0)
    #expect(second.got.isEmpty && kernel.closed == [11])
    a.close()
  }

  @Test func resumingReadsOnlyWhereSomethingCameMeanwhile() throws {
    let loop = try EventLoop(index: 0, system: kernel, seed: 1)
    defer { loop.close() }
    let owner = Owner()
    let a = try socket(10, loop, owner)
    owner.onBytes = { a.pauseReading() }
    kernel.input = [10: [[1]]]
    kernel.queue([(10, .readable)])
    loop.turn(patience: 0)
    a.resumeReading()
    loop.turn(patience: 0)
    // All that was there was read: epoll tells of more.
    #expect(owner.got == [1] && kernel.receiveCalls[10] == 1)
    owner.onBytes = nil
    a.pauseReading()
    kernel.input[10] = [[2]]
    kernel.queue([(10, .readable)])
    loop.turn(patience: 0)
    #expect(kernel.receiveCalls[10] == 1)
    a.resumeReading()
    loop.turn(patience: 0)
    #expect(owner.got == [1, 2] && kernel.receiveCalls[10] == 2)
    a.close()
  }

  @Test func inputLargerThanTheRoomIsReadToItsEnd() throws {
    let loop = try EventLoop(index: 0, system: kernel, seed: 1)
    defer { loop.close() }
    let owner = Owner()
    let a = try socket(10, loop, owner)
    let long = (0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    kernel.input = [10: [long]]
    kernel.queue([(10, .readable)])
    for _ in 0..<4 { loop.turn(patience: 0) }
    #expect(owner.got == long)
    a.close()
  }
}
