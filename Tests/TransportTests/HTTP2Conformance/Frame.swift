// Frames and header blocks by hand, right or wrong as a situation wants them.

/// Makes the bytes of frames (RFC 9113 section 4.1).
enum Frame {
  static let client = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
  static let preface = client + settings()

  static let endStream: UInt8 = 1
  static let endHeaders: UInt8 = 4
  static let padded: UInt8 = 8
  static let priority: UInt8 = 32

  static func make(_ type: UInt8, flags: UInt8 = 0, stream: UInt32 = 0, _ payload: [UInt8] = []) -> [UInt8] {
    head(type, flags: flags, stream: stream, length: payload.count) + payload
  }

  /// A frame's head alone; what it promises is the situation's business.
  static func head(_ type: UInt8, flags: UInt8 = 0, stream: UInt32 = 0, length: Int) -> [UInt8] {
    [UInt8(length >> 16 & 0xff), UInt8(length >> 8 & 0xff), UInt8(length & 0xff), type, flags] + word(stream)
  }

  /// A 32-bit number, the highest byte first.
  static func word(_ number: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: number >> (24 - 8 * $0)) }
  }

  static func data(
    _ payload: [UInt8] = [], stream: UInt32 = 1, flags: UInt8 = endStream
  ) -> [UInt8] { make(0, flags: flags, stream: stream, payload) }

  static func headers(
    _ block: [UInt8] = Block.get, stream: UInt32 = 1, flags: UInt8 = endHeaders | endStream
  ) -> [UInt8] { make(1, flags: flags, stream: stream, block) }

  static func priority(on dependency: UInt32, stream: UInt32) -> [UInt8] {
    make(2, stream: stream, word(dependency) + [15])
  }

  static func reset(_ code: UInt32 = 8, stream: UInt32 = 1) -> [UInt8] { make(3, stream: stream, word(code)) }

  static func settings(_ values: (UInt16, UInt32)...) -> [UInt8] {
    make(4, values.flatMap { [UInt8($0.0 >> 8), UInt8($0.0 & 0xff)] + word($0.1) })
  }

  static let ping = make(6, [1, 2, 3, 4, 5, 6, 7, 8])

  static func goAway(_ code: UInt32 = 0, last: UInt32 = 0, debug: [UInt8] = []) -> [UInt8] {
    make(7, word(last) + word(code) + debug)
  }

  static func window(_ increment: UInt32, stream: UInt32 = 0) -> [UInt8] {
    make(8, stream: stream, word(increment))
  }

  static func continuation(_ block: [UInt8], stream: UInt32 = 1, flags: UInt8 = endHeaders) -> [UInt8] {
    make(9, flags: flags, stream: stream, block)
  }
}

/// Makes header blocks (RFC 7541), literals without indexing and without Huffman unless said.
enum Block {
  static func text(_ text: String) -> [UInt8] {
    let bytes = Array(text.utf8)
    return (bytes.count < 127 ? [UInt8(bytes.count)] : [127] + rest(bytes.count - 127)) + bytes
  }

  /// What of a number does not fit its prefix (RFC 7541 section 5.1).
  static func rest(_ number: Int) -> [UInt8] {
    number < 128 ? [UInt8(number)] : [UInt8(number & 127 | 128)] + rest(number >> 7)
  }

  static func field(_ name: String, _ value: String) -> [UInt8] { [0] + text(name) + text(value) }

  static func field(_ name: String, bytes: [UInt8]) -> [UInt8] {
    [0] + text(name) + [UInt8(bytes.count)] + bytes
  }

  static let method: [UInt8] = [0x82]
  static let post: [UInt8] = [0x83]
  static let path: [UInt8] = [0x84]
  static let scheme: [UInt8] = [0x86]
  static let authority: [UInt8] = [0x01] + text("a")

  static let get = method + scheme + path + authority

  /// A POST, whose body is to follow.
  static let upload = post + scheme + path + authority

  static func get(_ more: [UInt8]...) -> [UInt8] { get + more.joined() }
}
