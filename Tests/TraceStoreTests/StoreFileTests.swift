// The file behind the store: what was taken in comes back, whatever happened to its end.

import Base
import Glibc
import Testing

@testable import TraceStore

@Suite struct StoreFileTests {
  /// A folder that is gone after the test.
  private final class Folder {
    let path: String

    init() {
      var template = Array("/tmp/store-file-XXXXXX".utf8CString)
      path = template.withUnsafeMutableBufferPointer {
        $0.baseAddress.map { String(cString: mkdtemp($0)) } ?? ""
      }
    }

    deinit {
      for name in ["spans", "spans.1", "spans.damaged"] { unlink("\(path)/\(name)") }
      rmdir(path)
    }

    var file: String { "\(path)/spans" }

    func size(_ name: String = "spans") -> Int {
      var information = stat()
      return stat("\(path)/\(name)", &information) == 0 ? Int(information.st_size) : -1
    }

    func append(_ bytes: [UInt8]) {
      let descriptor = open(file, O_WRONLY | O_APPEND)
      _ = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      close(descriptor)
    }
  }

  private func message(_ trace: UInt64) -> [UInt8] {
    request("s", [SampleSpan(trace: trace, attributes: [("a", .string(String(repeating: "x", count: 100)))])])
  }

  /// Appends `messages` to the file as one process would.
  private func write(_ messages: [[UInt8]], to folder: Folder, bytesMax: Int = 1 << 20) throws(StoreFileError)
  {
    let file = try StoreFile(path: folder.file, bytesMax: bytesMax)
    try file.load { _ in }
    for message in messages { message.withUnsafeBytes { file.append($0) } }
    #expect(file.failures == 0)
  }

  private func read(_ folder: Folder) throws(StoreFileError) -> [[UInt8]] {
    var messages: [[UInt8]] = []
    try StoreFile(path: folder.file, bytesMax: 1 << 20).load { messages.append(Array($0)) }
    return messages
  }

  @Test func messagesComeBackInTheirOrder() throws {
    let folder = Folder()
    let messages = (1...20).map { message($0) }
    try write(Array(messages.prefix(10)), to: folder)
    try write(Array(messages.suffix(10)), to: folder)
    #expect(try read(folder) == messages)
    var information = stat()
    #expect(stat(folder.file, &information) == 0 && information.st_mode & 0o777 == 0o600)
  }

  @Test func anEndThatWasCutIsCutOffAndWritingGoesOn() throws {
    for cut in [1, 2, 3, 50] {
      let folder = Folder()
      try write([message(1), message(2)], to: folder)
      let whole = folder.size()
      folder.append(Array(message(3).prefix(cut)))
      try write([message(4)], to: folder)
      #expect(folder.size() == whole + message(4).count)
      #expect(try read(folder) == [message(1), message(2), message(4)])
    }
  }

  @Test func theFileIsBoundedAndTheOlderHalfGoes() throws {
    let folder = Folder()
    let messages = (1...50).map { message($0) }
    let bytesMax = messages[0].count * 10
    try write(messages, to: folder, bytesMax: bytesMax)
    #expect(folder.size() <= bytesMax && folder.size("spans.1") <= bytesMax)
    #expect(try read(folder) == Array(messages.suffix(20)))
  }

  @Test(arguments: ["not a trace\n", "hello", "\0\0\0\0", "\u{3}\u{3}"])
  func aFileThatIsDamagedIsPutAside(text: String) throws {
    for good in [[], [message(1), message(2)]] {
      let folder = Folder()
      try write(good, to: folder)
      folder.append(Array(text.utf8))
      folder.append(message(3))
      let size = folder.size()
      do {
        let file = try StoreFile(path: folder.file, bytesMax: 1 << 20)
        var messages: [[UInt8]] = []
        try file.load { messages.append(Array($0)) }
        // What a text happens to say in protobuf is the store's to refuse.
        #expect(file.wasDamaged && Array(messages.prefix(good.count)) == good)
        message(4).withUnsafeBytes { file.append($0) }
        #expect(file.failures == 0)
      }
      #expect(folder.size("spans.damaged") == size)
      #expect(try read(folder) == [message(4)])

      // A second one is nobody's to overwrite.
      folder.append([0])
      let second = folder.size()
      #expect(throws: StoreFileError.self) { try read(folder) }
      #expect(folder.size() == second && folder.size("spans.damaged") == size)
    }
  }

  @Test func aRotationThatStoppedHalfwayIsFinishedByTheNext() throws {
    let folder = Folder()
    let file = try StoreFile(path: folder.file, bytesMax: message(1).count)
    try file.load { _ in }
    message(1).withUnsafeBytes { file.append($0) }
    // As after a rename whose open failed.
    #expect(rename(folder.file, folder.file + ".1") == 0)
    message(2).withUnsafeBytes { file.append($0) }
    #expect(file.failures == 0)
    #expect(folder.size() == message(2).count && folder.size("spans.1") == message(1).count)
  }

  @Test func oneProcessAtATimeHoldsIt() throws {
    let folder = Folder()
    let file = try StoreFile(path: folder.file, bytesMax: 1_000)
    #expect(throws: StoreFileError.self) { try StoreFile(path: folder.file, bytesMax: 1_000) }
    withExtendedLifetime(file) {}
    #expect(throws: StoreFileError.self) { try StoreFile(path: "\(folder.path)/no/such", bytesMax: 1_000) }
  }

  @Test func aMessageIsSplitAtEveryPlaceAlike() {
    let bytes = message(1) + message(2)
    for cut in 0...bytes.count {
      var messages: [[UInt8]] = []
      let (end, isDamaged) = bytes.prefix(cut).withUnsafeBytes {
        StoreFile.split($0) { messages.append(Array($0)) }
      }
      #expect(end == (cut == bytes.count ? cut : cut >= message(1).count ? message(1).count : 0))
      #expect(!isDamaged)
      #expect(messages.joined().count == end)
    }
  }
}
