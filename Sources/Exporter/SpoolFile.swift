// One undelivered message as a file: a head with its counts, a checksum, the protobuf request.

import Base
import Glibc
import HTTP

/// Why a file of the spool could not be written or read.
enum SpoolError: Error, CustomStringConvertible {
  /// A call of the system failed.
  case system(call: StaticString, code: Int32)
  /// The file is torn, damaged, or none of ours.
  case damaged

  var description: String {
    switch self {
    case .system(let call, let code): "\(call): \(String(cString: strerror(code)))"
    case .damaged: "damaged"
    }
  }

  /// The failure that `errno` tells of.
  static func last(_ call: StaticString) -> SpoolError { .system(call: call, code: errno) }
}

/// What is known of a file without reading its message.
final class SpoolFile {
  /// Its name in the folder. Names sort by age.
  let name: String
  let spanCount: Int
  /// Calls that were begun with the message before it was written.
  let calls: Int
  /// Length of the file.
  let bytes: Int
  /// It could not be read; this process leaves it to the next one.
  var isUnreadable = false
  /// A lane has it.
  var isInHand = false
  /// How often its time ran out, and what the receiver had accepted of others when it was first taken.
  var rounds = 0
  var acceptedBefore: Int?

  init(name: String, spanCount: Int, calls: Int, bytes: Int) {
    self.name = name
    self.spanCount = spanCount
    self.calls = calls
    self.bytes = bytes
  }
}

/// The format: magic (8 bytes), spans (u32), calls (u32), length of the message (u64), checksum (u64), then the
/// message. Numbers are little-endian. The checksum is XXH3-64 of the message, seeded with that of the first 24 bytes.
enum SpoolFormat {
  static let headBytes = 32
  /// No message is longer.
  static let messageBytesMax = 16 << 20
  private static let magic: StaticString = "DYNSPAN1"

  /// Writes `message` to a new file at `path`, which must be a name that no reader takes for a whole file.
  static func write(_ message: ExportMessage, to path: String) throws(SpoolError) {
    var out = ByteBuffer(capacity: headBytes + message.payloadBytes)
    out.append(magic)
    append(
      UInt64(UInt32(clamping: message.spanCount)) | UInt64(UInt32(clamping: message.calls)) << 32, to: &out)
    append(UInt64(message.payloadBytes), to: &out)
    append(0, to: &out)
    for piece in message.payload {
      piece.bytes.withUnsafeBytes { out.append($0.slice(piece.range)) }
    }
    let sum = checksum(out.readable)
    var file = ByteBuffer(capacity: headBytes)
    file.append(out.readable.slice(0..<24))
    append(sum, to: &file)
    out.consume(headBytes)
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw .last("open") }
    defer { close(descriptor) }
    try write(file.readable, to: descriptor)
    try write(out.readable, to: descriptor)
  }

  /// Reads the head of the file `name` in `folder` and holds it against the file's length.
  static func head(of name: String, in folder: String) throws(SpoolError) -> SpoolFile {
    let descriptor = open("\(folder)/\(name)", O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else { throw .last("open") }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw .last("fstat") }
    let bytes = Int(status.st_size)
    guard bytes >= headBytes, bytes <= headBytes + messageBytesMax else { throw .damaged }
    let head = try read(headBytes, from: descriptor)
    return try parse(head.readable, name: name, fileBytes: bytes)
  }

  /// Reads the message of `file`.
  static func message(of file: SpoolFile, in folder: String) throws(SpoolError) -> ExportMessage {
    let descriptor = open("\(folder)/\(file.name)", O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else { throw .last("open") }
    defer { close(descriptor) }
    let contents = try read(file.bytes, from: descriptor)
    let found = try parse(contents.readable, name: file.name, fileBytes: file.bytes)
    guard found.spanCount == file.spanCount, checksum(contents.readable) == number(contents.readable, 24)
    else {
      throw .damaged
    }
    let range = headBytes..<contents.count
    return ExportMessage(HTTP2Body.Piece(FrozenBytes(contents), range), of: file)
  }

  private static func parse(
    _ head: UnsafeRawBufferPointer, name: String, fileBytes: Int
  ) throws(SpoolError) -> SpoolFile {
    guard head.count >= headBytes, head.slice(0..<8).text == "\(magic)",
      number(head, 16) == UInt64(fileBytes - headBytes)
    else { throw .damaged }
    let counts = number(head, 8)
    let spanCount = Int(counts & 0xffff_ffff)
    guard spanCount > 0 else { throw .damaged }
    return SpoolFile(name: name, spanCount: spanCount, calls: Int(counts >> 32), bytes: fileBytes)
  }

  private static func checksum(_ file: UnsafeRawBufferPointer) -> UInt64 {
    XXH3.hash(file.slice(headBytes..<file.count), seed: XXH3.hash(file.slice(0..<24)))
  }

  private static func number(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt64 {
    UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }

  private static func append(_ value: UInt64, to out: inout ByteBuffer) {
    withUnsafeBytes(of: value.littleEndian) { out.append($0) }
  }

  private static func write(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32) throws(SpoolError) {
    var offset = 0
    while offset < bytes.count, let base = bytes.baseAddress {
      let written = Glibc.write(descriptor, base + offset, bytes.count - offset)
      if written < 0, errno == EINTR { continue }
      guard written > 0 else { throw .last("write") }
      offset += written
    }
  }

  private static func read(_ count: Int, from descriptor: Int32) throws(SpoolError) -> ByteBuffer {
    var out = ByteBuffer(capacity: count)
    while out.count < count {
      let taken = Glibc.read(descriptor, out.reserve(count - out.count), count - out.count)
      if taken < 0, errno == EINTR { continue }
      guard taken >= 0 else { throw .last("read") }
      // Shorter than it was: torn since.
      guard taken > 0 else { throw .damaged }
      out.commit(taken)
    }
    return out
  }
}
