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
