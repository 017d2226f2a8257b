// A connection to the receiver as the exporter sees it, whatever protocol it speaks.

import Base
import EventLoop
import GRPC
import HTTP
import Transport

/// One call, ready to be sent.
struct ExportCall {
  let body: HTTP2Body
  /// True when the body is compressed with gzip.
  let isCompressed: Bool
  /// What is told to the receiver; the caller keeps its own clock.
  let timeout: Nanoseconds
}

/// One connection that carries one call at a time. Loop-confined.
///
/// A channel drives a `StreamSocket`, so whatever that can run over serves the exporter too.
protocol ExportChannel: AnyObject {
  /// True when a call may start here.
  var mayCall: Bool { get }
  /// Calls that got an answer here.
  var answeredCalls: Int { get }
  /// Starts a call; its end is told to the delegate.
  func call(_ call: ExportCall)
  /// Closes without a word to the delegate.
  func close()
}

/// Is told what happens on a channel, on its loop.
protocol ExportChannelDelegate: AnyObject {
  /// The connection is made.
  func channelOpened()
  /// The call got its answer.
  func channelAnswered(_ answer: ExportAnswer)
  /// The connection is gone and an open call with it. Not told after ``ExportChannel/close()``.
  func channelClosed(_ cause: String)
}

extension ExporterConfiguration {
  /// A channel over `descriptor`, whose connect was started and which is closed when this throws.
  func channel(
    _ descriptor: Int32, on loop: EventLoop, delegate: any ExportChannelDelegate
  ) throws -> any ExportChannel {
    let socket = StreamSocket(descriptor, on: loop, connecting: true, security: security)
    do {
      return switch transport {
      case .grpc: try GRPCChannel(socket, configuration: self, delegate: delegate)
      case .http: try HTTPChannel(socket, configuration: self, delegate: delegate)
      }
    } catch {
      socket.close()
      throw error
    }
  }
}

/// A channel on a socket. It ends once: by whoever holds it, or on its own, which the delegate is told.
protocol SocketChannel: ExportChannel, StreamSocketHandler {
  var socket: StreamSocket { get }
  /// Strong while the connection is open and cleared at its end, so no cycle stays.
  var delegate: (any ExportChannelDelegate)? { get set }
  var isClosed: Bool { get }
  /// Forgets what is under way: the channel is closed from here on.
  func abandon()
}

extension SocketChannel {
  func close() {
    abandon()
    delegate = nil
    socket.close()
  }

  func fail(_ cause: String) {
    if isClosed { return }
    let delegate = delegate
    close()
    delegate?.channelClosed(cause)
  }

  func failed(_ error: SocketFailure) { fail("\(error)") }
  func willFlush() {}
  func stalled() {}
  func drained() {}
}
