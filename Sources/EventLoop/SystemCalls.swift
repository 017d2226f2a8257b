// The kernel as the loop sees it: a table of calls, so that a test can play the kernel.

internal import CSystem
internal import Glibc

/// A failed system call: its name and errno.
package struct SystemError: Error, Sendable, CustomStringConvertible {
  package let call: StaticString
  package let code: Int32

  package init(_ call: StaticString, _ code: Int32) {
    self.call = call
    self.code = code
  }

  package var description: String { "\(call): \(String(cString: strerror(code)))" }
}

/// The calls on the loop's path. Counts are bytes; a negative result is `-errno`. EINTR is retried inside.
package protocol SystemCalls: AnyObject, Sendable {
  /// recv(2) into `buffer`.
  func receive(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer, _ count: Int) -> Int
  /// send(2) with MSG_NOSIGNAL.
  func send(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int
  /// accept4(2), non-blocking and close-on-exec.
  func accept(_ descriptor: Int32) -> Int32
  /// close(2).
  func close(_ descriptor: Int32)
  /// shutdown(2) of the sending half.
  func shutdownSending(_ descriptor: Int32)
  /// getsockopt(SO_ERROR): how a non-blocking connect ended.
  func pendingError(_ descriptor: Int32) -> Int32
  /// epoll_ctl(EPOLL_CTL_ADD).
  func epollAdd(_ epoll: Int32, _ descriptor: Int32, events: UInt32, data: UInt64) -> Int32
  /// epoll_ctl(EPOLL_CTL_DEL).
  func epollRemove(_ epoll: Int32, _ descriptor: Int32)
  /// epoll_wait; `timeout` in milliseconds, -1 waits for ever.
  func epollWait(_ epoll: Int32, _ events: UnsafeMutablePointer<ReadyEvent>, _ limit: Int32, timeout: Int32)
    -> Int32
  /// Rests for `duration` nanoseconds or a little longer.
  func sleep(_ duration: UInt64)
  /// CLOCK_MONOTONIC in nanoseconds.
  func monotonicNanoseconds() -> UInt64
  /// CLOCK_REALTIME in nanoseconds since the Unix epoch.
  func wallNanoseconds() -> UInt64
}

/// One entry of epoll_wait's answer, laid out as the kernel does.
@usableFromInline
package struct ReadyEvent {
  @usableFromInline package var raw: (UInt32, UInt32, UInt32) = (0, 0, 0)

  package init() {}

  /// The epoll bits.
  @inlinable package var events: UInt32 {
    get { raw.0 }
    set { raw.0 = newValue }
  }

  /// The 64 bits given at registration.
  @inlinable package var data: UInt64 {
    get { UInt64(raw.1) | UInt64(raw.2) << 32 }
    set {
      raw.1 = UInt32(truncatingIfNeeded: newValue)
      raw.2 = UInt32(truncatingIfNeeded: newValue >> 32)
    }
  }
}

/// The real kernel.
package final class LiveSystemCalls: SystemCalls {
  package init() {}

  package func receive(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer, _ count: Int) -> Int {
    while true {
      let received = recv(descriptor, buffer, count, 0)
      if received >= 0 { return received }
      let code = csystem_errno()
      if code != EINTR { return -Int(code) }
    }
  }

  package func send(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int {
    while true {
      let sent = Glibc.send(descriptor, bytes, count, Int32(MSG_NOSIGNAL))
      if sent >= 0 { return sent }
      let code = csystem_errno()
      if code != EINTR { return -Int(code) }
    }
  }

  package func accept(_ descriptor: Int32) -> Int32 {
    while true {
      let accepted = csystem_accept4(descriptor)
      if accepted >= 0 { return accepted }
      let code = csystem_errno()
      if code != EINTR { return -code }
    }
  }

  package func close(_ descriptor: Int32) { _ = Glibc.close(descriptor) }

  package func shutdownSending(_ descriptor: Int32) { _ = Glibc.shutdown(descriptor, Int32(SHUT_WR)) }

  package func pendingError(_ descriptor: Int32) -> Int32 {
    var code: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    guard getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &length) == 0 else { return csystem_errno() }
    return code
  }

  package func epollAdd(_ epoll: Int32, _ descriptor: Int32, events: UInt32, data: UInt64) -> Int32 {
    var event = epoll_event()
    event.events = events
    event.data.u64 = data
    return epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0 ? 0 : -csystem_errno()
  }

  package func epollRemove(_ epoll: Int32, _ descriptor: Int32) {
    var event = epoll_event()
    _ = epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, &event)
  }

  package func epollWait(
    _ epoll: Int32, _ events: UnsafeMutablePointer<ReadyEvent>, _ limit: Int32, timeout: Int32
  ) -> Int32 {
    // ReadyEvent has epoll_event's packed layout of 12 bytes on x86-64; elsewhere the kernel aligns it to 16.
    #if arch(x86_64)
      let count = UnsafeMutableRawPointer(events).withMemoryRebound(
        to: epoll_event.self, capacity: Int(limit)
      ) {
        epoll_wait(epoll, $0, limit, timeout)
      }
      return count >= 0 ? count : -csystem_errno()
    #else
      return withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: Int(limit)) { kernel in
        let count = epoll_wait(epoll, kernel.baseAddress, limit, timeout)
        if count < 0 { return -csystem_errno() }
        for index in 0..<Int(count) {
          events[index].events = kernel[index].events
          events[index].data = kernel[index].data.u64
        }
        return count
      }
    #endif
  }

  package func sleep(_ duration: UInt64) {
    // A signal ends it early, which does no harm.
    var time = timespec(tv_sec: Int(duration / 1_000_000_000), tv_nsec: Int(duration % 1_000_000_000))
    _ = nanosleep(&time, nil)
  }

  package func monotonicNanoseconds() -> UInt64 { csystem_monotonic_nanoseconds() }

  package func wallNanoseconds() -> UInt64 { csystem_wall_nanoseconds() }
}
