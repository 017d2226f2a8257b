// The sink's counters over HTTP/1.1: one short answer after the other.

import Base
import CSystem
import EventLoop

/// Answers `GET /stats` and `/reset` with the sink's counters; the loop owns it while its socket is open.
final class StatsConnection: EventHandler {
  private let descriptor: Int32
  private let sink: Sink
  private var registration: Registration?
  private var reader = MessageReader(isRequest: true)
  private var inbound = ByteBuffer()
  private var resets = false

  init(_ descriptor: Int32, _ sink: Sink) {
    self.descriptor = descriptor
    self.sink = sink
    registration = try? sink.loop.register(descriptor, self)
    if registration == nil { sink.loop.system.close(descriptor) }
  }

  func ready(_ readiness: Readiness) {
    guard let scratch = sink.loop.scratch.baseAddress else { return }
    while registration != nil {
      let count = sink.loop.system.receive(descriptor, scratch, sink.loop.scratch.count)
      if count == -Int(EAGAIN) { return }
      guard count > 0 else { return close() }
      inbound.append(UnsafeRawBufferPointer(start: scratch, count: count))
      var offset = 0
      parse(&offset)
      inbound.consume(offset)
    }
  }

  private func parse(_ offset: inout Int) {
    while registration != nil {
      switch reader.next(inbound.readable, &offset) {
      case .needMore: return
      case .body: continue
      case .head(let lines): resets = lines.line?.has("GET /reset", at: 0) ?? false
      case .end: answer()
      case .broken: return close()
      }
    }
  }

  private func answer() {
    if resets { sink.counters = SinkCounters() }
    var out = ByteBuffer(capacity: 512)
    Array(sink.counters.json.utf8).withUnsafeBytes {
      AnswerTemplates.appendJSON($0, status: "200 OK", closes: reader.closes, to: &out)
    }
    // A few hundred bytes always fit an empty socket buffer.
    let sent = out.readable.baseAddress.map { sink.loop.system.send(descriptor, $0, out.count) } ?? -1
    if sent != out.count || reader.closes { close() }
  }

  private func close() {
    guard let registration else { return }
    sink.loop.deregister(registration)
    self.registration = nil
    sink.loop.system.close(descriptor)
  }
}
