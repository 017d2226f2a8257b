// An exchange that writes down what it is answered with.

import Base
import EventLoop
import HTTP
import Transport

final class RecordedAnswer: ServerExchange {
  let loop: EventLoop
  var handler: (any ServerExchangeHandler)?
  private(set) var status = 0
  private(set) var fields = ""
  private(set) var body = ""
  private(set) var isOver = false
  var outputIsFull: Bool { false }
  var peerAddress: SocketAddress? { nil }

  init(on loop: EventLoop) { self.loop = loop }

  func respond(status: Int, fields: UnsafeRawBufferPointer, body: ResponseBody) {
    self.status = status
    self.fields = fields.text
  }

  func send(_ bytes: UnsafeRawBufferPointer) { body += bytes.text }
  func finish(trailers: UnsafeRawBufferPointer) { isOver = true }
  func abort(_ end: EndOfStream) { isOver = true }
  func pauseBody() {}
  func resumeBody() {}
  func closeAfterResponse() {}
}
