// Plays the kernel for loop and connection tests: scripted readiness, bytes, errors and time.

package import Base
package import EventLoop
import Glibc

/// A scripted kernel. Descriptors are numbers of the test's choosing; nothing touches the real one but the loop's own epoll.
///
/// Unchecked Sendable: a test drives it and its loop from one thread.
package final class FakeKernel: SystemCalls, @unchecked Sendable {
  /// The monotonic clock in nanoseconds.
  package var time: Nanoseconds = 1000 * second
  /// The wall clock in nanoseconds since the Unix epoch.
  package var wall: UInt64 = 1_700_000_000 * second
  /// What each descriptor has to read: chunks are delivered one a call; an empty chunk is end of file.
  package var input: [Int32: [[UInt8]]] = [:]
  /// Errors that the next receive of a descriptor gives once its input is used up, as positive errno values.
  package var receiveErrors: [Int32: Int32] = [:]
  /// What was sent on each descriptor.
  package private(set) var output: [Int32: [UInt8]] = [:]
  /// How many bytes each descriptor still accepts; absent means without bound.
  package var sendRoom: [Int32: Int] = [:]
  /// Errors that the next send of a descriptor gives, as positive errno values.
  package var sendErrors: [Int32: Int32] = [:]
  /// Number of receive calls a descriptor saw.
  package private(set) var receiveCalls: [Int32: Int] = [:]
  /// Number of send calls a descriptor saw.
  package private(set) var sendCalls: [Int32: Int] = [:]
  /// Descriptors that accept(2) gives, per listener; then EAGAIN.
  package var pendingAccepts: [Int32: [Int32]] = [:]
  /// SO_ERROR of a descriptor.
  package var connectErrors: [Int32: Int32] = [:]
  /// How long the loop rested each time, in nanoseconds.
  package private(set) var rests: [Nanoseconds] = []
  package private(set) var closed: [Int32] = []
  package private(set) var halfClosed: [Int32] = []
  private var registered: [Int32: UInt64] = [:]
  private var pending: [(data: UInt64, events: UInt32)] = []

  package init() {}

  /// Makes descriptors ready at the next wait.
  package func queue(_ ready: [(Int32, Readiness)]) {
    for (descriptor, readiness) in ready {
      guard let data = registered[descriptor] else { continue }
      pending.append((data, readiness.bits))
    }
  }

  /// Like ``queue(_:)``, before what waits already.
  package func queueFirst(_ ready: [(Int32, Readiness)]) {
    let waiting = pending
    pending = []
    queue(ready)
    pending += waiting
  }

  /// True while readiness waits for a turn of the loop.
  package var hasEvents: Bool { !pending.isEmpty }

  /// Makes raw registration data ready, as a stale event would be.
  package func queueRaw(_ ready: [(UInt64, Readiness)]) {
    pending += ready.map { ($0.0, $0.1.bits) }
  }

  /// The data under which `descriptor` is registered.
  package func data(of descriptor: Int32) -> UInt64 { registered[descriptor] ?? 0 }

  /// True while the loop watches `descriptor`.
  package func isRegistered(_ descriptor: Int32) -> Bool { registered[descriptor] != nil }

  /// Takes what was sent on `descriptor` so far.
  package func takeOutput(_ descriptor: Int32) -> [UInt8] { output.removeValue(forKey: descriptor) ?? [] }

  package func receive(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer, _ count: Int) -> Int {
    receiveCalls[descriptor, default: 0] += 1
    guard var chunks = input[descriptor], let first = chunks.first else {
      if let code = receiveErrors.removeValue(forKey: descriptor) { return -Int(code) }
      return -Int(EAGAIN)
    }
    let taken = min(count, first.count)
    first.withUnsafeBytes { bytes in
      if let base = bytes.baseAddress { buffer.copyMemory(from: base, byteCount: taken) }
    }
    if taken == first.count { chunks.removeFirst() } else { chunks[0] = Array(first[taken...]) }
    input[descriptor] = chunks
    return taken
  }

  package func send(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int {
    sendCalls[descriptor, default: 0] += 1
    if let code = sendErrors.removeValue(forKey: descriptor) { return -Int(code) }
    let accepted = min(count, sendRoom[descriptor] ?? count)
    if accepted == 0 { return -Int(EAGAIN) }
    if let room = sendRoom[descriptor] { sendRoom[descriptor] = room - accepted }
    output[descriptor, default: []] += UnsafeRawBufferPointer(start: bytes, count: accepted)
    return accepted
  }

  package func accept(_ descriptor: Int32) -> Int32 {
    guard let next = pendingAccepts[descriptor]?.first else { return -EAGAIN }
    pendingAccepts[descriptor]?.removeFirst()
    return next
  }

  package func close(_ descriptor: Int32) {
    closed.append(descriptor)
    registered[descriptor] = nil
  }

  package func shutdownSending(_ descriptor: Int32) { halfClosed.append(descriptor) }

  package func pendingError(_ descriptor: Int32) -> Int32 { connectErrors[descriptor] ?? 0 }

  package func epollAdd(_ epoll: Int32, _ descriptor: Int32, events: UInt32, data: UInt64) -> Int32 {
    registered[descriptor] = data
    return 0
  }

  package func epollRemove(_ epoll: Int32, _ descriptor: Int32) { registered[descriptor] = nil }

  package func epollWait(
    _ epoll: Int32, _ events: UnsafeMutablePointer<ReadyEvent>, _ limit: Int32, timeout: Int32
  ) -> Int32 {
    let count = min(Int(limit), pending.count)
    for index in 0..<count {
      events[index].events = pending[index].events
      events[index].data = pending[index].data
    }
    pending.removeFirst(count)
    return Int32(count)
  }

  package func sleep(_ duration: UInt64) {
    rests.append(duration)
    time += duration
  }

  package func monotonicNanoseconds() -> UInt64 { time }

  package func wallNanoseconds() -> UInt64 { wall }
}
