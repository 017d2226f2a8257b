// A multiplexed HTTP/2 session against any bytes: streams end once, heads are HTTP/1.1, and what it sends is whole
// frames, whatever its streams are told meanwhile.

import Base
import HTTP

/// One stream, which answers what it hears and is reset at times.
private final class Stream: HTTP2StreamOwner {
  let stream = HTTP2Stream()
  let rig: Rig
  var hasEnded = false
  var hasAnswered = false
  var inputHasEnded = false

  init(_ rig: Rig) { self.rig = rig }

  func received(head: UnsafeRawBufferPointer) {
    require(!hasEnded && !inputHasEnded, "nothing comes after an end")
    require(head.count > 4 && head.slice(head.count - 4..<head.count).equals("\r\n\r\n"), "heads are whole")
    answer(status: 200)
  }

  func receivedTooLargeHead() {
    require(!hasEnded && rig.isServer, "a server's streams alone hear of it, before their end")
    answer(status: 431)
  }

  func received(body: UnsafeRawBufferPointer) {
    require(!hasEnded && !inputHasEnded && body.count > 0, "no body after an end, and none of nothing")
    if rig.steer & 1 == 1 { rig.session?.pause(stream) }
  }

  func receivedEnd(trailers: UnsafeRawBufferPointer) {
    require(!hasEnded && !inputHasEnded, "the peer's side ends once")
    inputHasEnded = true
  }

  func outputMoved() { require(!hasEnded, "no output after an end") }

  func ended(_ end: HTTP2StreamEnd) {
    require(!hasEnded, "a stream ends once")
    hasEnded = true
    stream.output.release()
  }

  private func answer(status: Int) {
    guard rig.isServer, !hasAnswered, let session = rig.session else { return }
    hasAnswered = true
    let fields = Array("x-test: 1\r\nhost: a\r\n".utf8)
    try? fields.withUnsafeBytes {
      try session.respond(stream, status: status, fields: $0, endsStream: rig.steer & 2 == 2)
    }
    stream.output.append([UInt8](repeating: 0x61, count: 3_000))
    session.resume(stream)
    if rig.steer & 4 == 4 { fields.withUnsafeBytes { session.endOutput(stream, trailers: $0) } }
  }

  /// As an owner that gives up: what waits to be sent is gone at once.
  func reset() {
    rig.session?.reset(stream, code: HTTP2ErrorCode.cancel, silently: rig.steer & 8 == 8)
    stream.output.release()
    if rig.steer & 8 == 8 { hasEnded = true }
  }
}

private final class Rig {
  let steer: Int
  let isServer: Bool
  var session: HTTP2Multiplexer?
  var streams: [Stream] = []
  var said = ByteBuffer()

  init(_ steer: Int) {
    self.steer = steer
    isServer = steer & 0x80 == 0
    var limits = HTTP2MultiplexerLimits()
    limits.headerListBytes = 2_000
    limits.headerCount = 20
    limits.streamWindowBytes = 1_000
    limits.outputBytes = 700
    if isServer {
      session = try? HTTP2Multiplexer(server: limits) { [unowned self] in
        let stream = Stream(self)
        stream.stream.belongs(to: stream)
        streams.append(stream)
        return stream.stream
      }
    } else {
      session = try? HTTP2Multiplexer(client: limits)
      for _ in 0..<3 {
        let stream = Stream(self)
        stream.stream.output.append("POST / HTTP/1.1\r\nhost: a\r\n\r\n" as StaticString)
        stream.stream.output.append([UInt8](repeating: 0x61, count: 3_000))
        if (try? session?.open(stream.stream, for: stream, isSecure: false)) != nil { streams.append(stream) }
      }
    }
  }

  /// False once the session has given up.
  func take(_ bytes: UnsafeRawBufferPointer, now: Nanoseconds) -> Bool {
    guard let session else { return false }
    return exactly(bytes) { (try? session.receive($0, now: now)) != nil }
  }

  func speak() {
    // What is in the buffer already counts towards the bound.
    var bytes = ByteBuffer()
    try? session?.output(into: &bytes)
    said.append(bytes.readable)
  }

  /// Walks what was sent.
  func checkFrames() {
    var rest = said.readable
    if !isServer, rest.count >= 24 { rest = rest.slice(24..<rest.count) }
    while !rest.isEmpty {
      require(rest.count >= 9, "frames have whole heads")
      let length = Int(rest[0]) << 16 | Int(rest[1]) << 8 | Int(rest[2])
      require(rest[3] <= 9 && length <= rest.count - 9, "frames are whole and of known types")
      if rest[3] == 0 {
        for byte in rest.slice(9..<9 + length) { require(byte == 0x61, "bodies hold what was said") }
      }
      rest = rest.slice(9 + length..<rest.count)
    }
  }

  func end() {
    _ = session?.abandon()
    session = nil
    streams = []
  }
}

private let preface: [UInt8] = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [0, 0, 0, 4, 0, 0, 0, 0, 0]

@_cdecl("LLVMFuzzerTestOneInput")
func fuzzHTTP2(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
  guard let (steer, input) = steered(data, size) else { return 0 }
  let rig = Rig(steer)
  defer { rig.end() }
  // What comes before any frame of the peer's is always the same.
  guard preface.withUnsafeBytes({ rig.take($0.slice(rig.isServer ? 0..<33 : 24..<33), now: 0) }) else {
    return 0
  }
  let cut = (steer >> 4 & 7) * input.count / 7
  rig.speak()
  var goesOn = rig.take(input.slice(0..<cut), now: 0)
  rig.speak()
  if steer & 8 == 8 { rig.streams.first?.reset() }
  rig.streams.last?.reset()
  if goesOn { goesOn = rig.take(input.slice(cut..<input.count), now: 2 * second) }
  for stream in rig.streams { rig.session?.unpause(stream.stream) }
  for _ in 0..<20 where rig.session?.wantsOutput == true { rig.speak() }
  rig.checkFrames()
  return 0
}
