// Telling the service manager how it goes: systemd's notification protocol (sd_notify(3)) over its datagram socket.

package import Base
internal import CSystem
internal import Glibc

/// The socket of the service manager that started this process. May be used from any thread.
package final class ServiceManager: Sendable {
  private let descriptor: Int32
  private let address: SocketAddress
  /// How long the manager waits for a sign of life; nil when it expects none.
  package let watchdogInterval: Nanoseconds?

  /// Nil when `environment` names no socket (`NOTIFY_SOCKET`), or none that can be reached: then there is nobody to tell.
  package init?(_ environment: [String: String], process: Int32 = getpid()) {
    guard let path = environment["NOTIFY_SOCKET"], path.hasPrefix("/") || path.hasPrefix("@"),
      let address = SocketAddress(unixPath: path)
    else { return nil }
    descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return nil }
    self.address = address
    watchdogInterval = Self.watchdog(environment, process)
    // A manager that reads nothing must not stop what it manages.
    var limit = timeval(tv_sec: 1, tv_usec: 0)
    _ = setsockopt(
      descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
  }

  deinit { _ = close(descriptor) }

  /// `WATCHDOG_USEC`, where `WATCHDOG_PID` names nobody else (sd_watchdog_enabled(3)).
  private static func watchdog(_ environment: [String: String], _ process: Int32) -> Nanoseconds? {
    guard let text = environment["WATCHDOG_USEC"], let microseconds = UInt64(text), microseconds > 0,
      microseconds < UInt64.max / microsecond, environment["WATCHDOG_PID"] ?? "\(process)" == "\(process)"
    else { return nil }
    return microseconds * microsecond
  }

  /// Ready to serve; also the end of ``reloading()``.
  package func ready(_ status: String) { send("READY=1\nSTATUS=\(Self.line(status))", mayWait: true) }

  /// The configuration is being read again. `now` is CLOCK_MONOTONIC.
  package func reloading(now: Nanoseconds = Machine.monotonicNanoseconds) {
    send("RELOADING=1\nMONOTONIC_USEC=\(now / microsecond)", mayWait: true)
  }

  package func stopping(_ status: String) { send("STOPPING=1\nSTATUS=\(Self.line(status))", mayWait: true) }

  /// One line of text that `systemctl status` shows.
  package func status(_ text: String) { send("STATUS=\(Self.line(text))", mayWait: false) }

  /// A sign of life.
  package func isAlive() { send("WATCHDOG=1", mayWait: false) }

  private static func line(_ text: String) -> String {
    String(text.map { $0.isNewline ? " " : $0 }.prefix(256))
  }

  /// Sends one datagram; lost when nobody listens, or nobody reads for a second.
  private func send(_ text: String, mayWait: Bool) {
    let flags = Int32(MSG_NOSIGNAL) | (mayWait ? 0 : Int32(MSG_DONTWAIT))
    Array(text.utf8).withUnsafeBytes { bytes in
      address.withSockaddr { address, length in
        while sendto(descriptor, bytes.baseAddress, bytes.count, flags, address, length) < 0,
          csystem_errno() == EINTR
        {}
      }
    }
  }
}
