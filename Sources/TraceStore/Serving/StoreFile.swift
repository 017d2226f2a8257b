// The file behind the store: what was taken in, appended as it came, and read again at the next start.

internal import Base
internal import Glibc
internal import Protobuf

/// Why the file cannot be used: the call that failed, and what the system said.
struct StoreFileError: Error {
  let description: String

  /// A file that must not be touched, and why.
  init(_ path: String, _ fault: String) { description = "\(path): \(fault)" }

  init(_ call: String, _ path: String, _ code: Int32) {
    description = "\(path): \(call): \(String(cString: strerror(code)))"
  }
}

/// An append-only file of `ExportTraceServiceRequest`s. One after the other they are one such message themselves, so that
/// any OTLP tool reads the file.
///
/// When it would pass its bound it becomes `PATH.1`, in place of an older one, and a new file is begun: on disk are at most
/// two bounds and a message. One process at a time holds it. Confined to the store's thread.
final class StoreFile {
  private let path: String
  private let bytesMax: Int
  private var descriptor: Int32
  /// Bytes of whole messages in the file.
  private(set) var size = 0
  /// Messages that could not be written.
  private(set) var failures = 0
  /// Whether the file held what is no message, and was put aside as `PATH.damaged`.
  private(set) var wasDamaged = false

  /// Bytes of one message at most: more than any way in takes, so that what seems longer is damage.
  private static let messageBytesMax = 32 << 20

  /// Opens `path`, makes it when it is not there, and locks it.
  init(path: String, bytesMax: Int) throws(StoreFileError) {
    self.path = path
    self.bytesMax = bytesMax
    descriptor = try Self.open(path)
  }

  deinit { close(descriptor) }

  private static func open(_ path: String) throws(StoreFileError) -> Int32 {
    // Spans tell who asked what: nobody else is to read them.
    let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw StoreFileError("open", path, errno) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let code = errno
      close(descriptor)
      throw StoreFileError(code == EWOULDBLOCK ? "another process has it" : "flock", path, code)
    }
    return descriptor
  }

  // MARK: Reading

  /// Gives every message of the older file and of this one to `take`, the oldest first. What was cut at the end of this
  /// one, by a crash in mid-write, is cut off.
  ///
  /// A file that holds anything else, or is none of the store's, is renamed to `PATH.damaged` once its good part was
  /// read, and a new one is begun; where an older damaged file is in the way, that is thrown and nothing is touched.
  func load(_ take: (UnsafeRawBufferPointer) -> Void) throws(StoreFileError) {
    let older = Glibc.open(path + ".1", O_RDONLY | O_CLOEXEC)
    if older >= 0 {
      defer { close(older) }
      _ = try Self.read(older, path + ".1", take)
    }
    let (end, isDamaged) = try Self.read(descriptor, path, take)
    guard isDamaged else {
      size = end
      return try truncate()
    }
    let aside = path + ".damaged"
    guard access(aside, F_OK) != 0 else {
      throw StoreFileError(path, "damaged at byte \(end), and \(aside) is there already")
    }
    guard rename(path, aside) == 0 else { throw StoreFileError("rename", path, errno) }
    wasDamaged = true
    try beginNext()
  }

  /// Returns how many bytes whole messages take, and whether what follows is no message that was cut.
  private static func read(
    _ descriptor: Int32, _ path: String, _ take: (UnsafeRawBufferPointer) -> Void
  ) throws(StoreFileError) -> (end: Int, isDamaged: Bool) {
    var waiting = ByteBuffer()
    var used = 0
    while true {
      let room = waiting.reserve(1 << 20)
      let count = Glibc.read(descriptor, room, 1 << 20)
      guard count >= 0 else { throw StoreFileError("read", path, errno) }
      if count == 0 { return (used, false) }
      waiting.commit(count)
      let (taken, isDamaged) = Self.split(waiting.readable, take)
      waiting.consume(taken)
      used += taken
      if isDamaged || waiting.count > messageBytesMax { return (used, true) }
    }
  }

  /// Gives the whole messages in `bytes` to `take`; returns where they end, and whether what follows cannot be the
  /// beginning of one.
  static func split(
    _ bytes: UnsafeRawBufferPointer, _ take: (UnsafeRawBufferPointer) -> Void
  ) -> (end: Int, isDamaged: Bool) {
    var reader = ProtobufReader(bytes)
    var start = 0
    do throws(ProtobufError) {
      while try reader.next() != nil {
        take(bytes.slice(start..<reader.position))
        start = reader.position
      }
    } catch {
      // A message begins with the tag of field 1, length-delimited.
      return (start, error != .truncated || bytes[start] != 0x0a)
    }
    return (start, false)
  }

  // MARK: Writing

  /// Appends a message that was taken in. A failure is counted, and leaves the file as it was.
  func append(_ message: UnsafeRawBufferPointer) {
    guard !message.isEmpty else { return }
    do throws(StoreFileError) {
      if size > 0, size + message.count > bytesMax { try rotate() }
      try write(message)
      size += message.count
    } catch {
      failures += 1
    }
  }

  private func write(_ message: UnsafeRawBufferPointer) throws(StoreFileError) {
    var rest = message
    while !rest.isEmpty {
      let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        let code = errno
        try truncate()
        throw StoreFileError("write", path, code)
      }
      rest = rest.slice(count..<rest.count)
    }
  }

  private func rotate() throws(StoreFileError) {
    // Not there: the last rotation renamed it, and could not begin the next.
    guard rename(path, path + ".1") == 0 || errno == ENOENT else {
      throw StoreFileError("rename", path, errno)
    }
    try beginNext()
  }

  /// Goes on in a new file under the path, from which the old one was renamed.
  private func beginNext() throws(StoreFileError) {
    let next = try Self.open(path)
    close(descriptor)
    descriptor = next
    size = 0
  }

  private func truncate() throws(StoreFileError) {
    guard ftruncate(descriptor, off_t(size)) == 0 else { throw StoreFileError("ftruncate", path, errno) }
  }
}
