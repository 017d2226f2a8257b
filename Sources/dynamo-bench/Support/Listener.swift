// A listening socket whose connections one closure takes over.

import EventLoop

/// Accepts connections of one listening socket.
final class Listener: EventHandler {
  private let descriptor: Int32
  private let loop: EventLoop
  private let accepted: (Int32) -> Void
  private var registration: Registration?

  init(_ descriptor: Int32, _ loop: EventLoop, _ accepted: @escaping (Int32) -> Void) throws(SystemError) {
    self.descriptor = descriptor
    self.loop = loop
    self.accepted = accepted
    registration = try loop.registerShared(descriptor, self)
  }

  func ready(_ readiness: Readiness) {
    for _ in 0..<64 {
      let connection = loop.system.accept(descriptor)
      guard connection >= 0 else { return }
      Sockets.disableDelay(connection)
      accepted(connection)
    }
  }

  /// Stops listening.
  func close() {
    guard let registration else { return }
    loop.deregister(registration)
    self.registration = nil
    loop.system.close(descriptor)
  }
}
