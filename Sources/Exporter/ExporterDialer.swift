// How the exporter reaches the network.

package import EventLoop

/// Resolves and connects; a test brings its own.
package protocol ExporterDialer: Sendable {
  /// All addresses of a host; may block. Empty when there is none.
  func resolve(host: String, port: UInt16) -> [SocketAddress]
  /// Starts a non-blocking connect.
  func connect(_ address: SocketAddress) throws(SystemError) -> Int32
}

/// The real network.
package struct LiveExporterDialer: ExporterDialer {
  package init() {}

  package func resolve(host: String, port: UInt16) -> [SocketAddress] {
    SocketAddress.resolve(host: host, port: port)
  }

  package func connect(_ address: SocketAddress) throws(SystemError) -> Int32 {
    let descriptor = try Sockets.connect(address)
    // Of TCP, not of HTTP/2: receivers end connections whose PINGs come too often ("too_many_pings").
    Sockets.keepAlive(descriptor, idleSeconds: 60)
    return descriptor
  }
}
