// Files of request-trace records: names, bounds, what a full disk or a foreign folder does; and their settings.

import Base
import EventLoop
import Glibc
import HTTP
import Synchronization
import Testing

@testable import Exporter

/// A folder that is gone with the test.
private final class Folder {
  let path: String

  init() throws {
    var name = Array("/tmp/rolling-XXXXXX\0".utf8CString)
    guard let made = mkdtemp(&name) else { throw SystemError("mkdtemp", errno) }
    path = String(cString: made)
  }

  deinit {
    for name in names { unlink("\(path)/\(name)") }
    rmdir(path)
  }

  var names: [String] {
    guard let listing = opendir(path) else { return [] }
    defer { closedir(listing) }
    var names: [String] = []
    while let entry = readdir(listing) {
      names.append(
        withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) })
    }
    return names.filter { $0 != "." && $0 != ".." }.sorted()
  }

  func bytes(_ name: String) -> [UInt8] {
    guard let file = fopen("\(path)/\(name)", "r") else { return [] }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 1 << 20)
    return Array(bytes[..<fread(&bytes, 1, bytes.count, file)])
  }

  func put(_ name: String, _ text: String) {
    guard let file = fopen("\(path)/\(name)", "w") else { return }
    fputs(text, file)
    fclose(file)
  }
}

private final class Causes: Sendable {
  private let all = Mutex<[String]>([])
  var texts: [String] { all.withLock { $0 } }
  func add(_ cause: String) { all.withLock { $0.append(cause) } }
}

private func write(_ text: String, to file: RollingFile) -> Int {
  var lines = ByteBuffer()
  lines.append(text)
  return file.write(&lines)
}

/// What one gzip member holds.
private func inflated(_ member: [UInt8]) throws -> String {
  let inflater = try GzipInflater(outputBytesMax: 1 << 20)
  var out = ByteBuffer()
  try member.withUnsafeBytes { try inflater.receive($0, into: &out) }
  try inflater.finish()
  return out.text
}

@Suite struct RollingFileTests {
  private func plain(_ folder: Folder) -> RollingFileConfiguration {
    var configuration = RollingFileConfiguration(prefix: "\(folder.path)/trace")
    configuration.compresses = false
    return configuration
  }

  @Test func aFullFileIsFollowedByTheNextAndTheOldestGo() throws {
    let folder = try Folder()
    var configuration = plain(folder)
    configuration.bytesMax = 8
    configuration.filesMax = 2
    let file = RollingFile(configuration) { Issue.record("\($0)") }
    #expect(folder.names.isEmpty, "nothing is made before there is something to write")
    for number in 0..<4 { #expect(write("line \(number)\nmore\n", to: file) == 0) }
    #expect(folder.names == ["trace.000002.jsonl", "trace.000003.jsonl"])
    #expect(folder.bytes("trace.000003.jsonl") == Array("line 3\nmore\n".utf8))
    #expect(file.removedFiles == 2)
  }

  @Test func linesCanMakeItFullToo() throws {
    let folder = try Folder()
    var configuration = plain(folder)
    configuration.linesMax = 3
    let file = RollingFile(configuration) { Issue.record("\($0)") }
    for _ in 0..<3 { #expect(write("a\nb\n", to: file) == 0) }
    #expect(folder.names == ["trace.000000.jsonl", "trace.000001.jsonl"])
  }

  @Test func filesOfEarlierProcessesAreContinuedAndCounted() throws {
    let folder = try Folder()
    for name in ["trace.000007.jsonl", "trace.000003.jsonl", "trace.x.jsonl", "other.000009.jsonl"] {
      folder.put(name, "old\n")
    }
    var configuration = plain(folder)
    configuration.filesMax = 2
    let file = RollingFile(configuration) { Issue.record("\($0)") }
    #expect(write("new\n", to: file) == 0)
    #expect(
      folder.names == ["other.000009.jsonl", "trace.000007.jsonl", "trace.000008.jsonl", "trace.x.jsonl"])
  }

  @Test func eachWriteIsAMemberOfItsOwn() throws {
    let folder = try Folder()
    let file = RollingFile(RollingFileConfiguration(prefix: "\(folder.path)/trace")) { Issue.record("\($0)") }
    #expect(write("one\n", to: file) == 0)
    let first = folder.bytes("trace.000000.jsonl.gz")
    #expect(try inflated(first) == "one\n", "it can be read while it grows")
    #expect(write("two\n", to: file) == 0)
    let both = folder.bytes("trace.000000.jsonl.gz")
    #expect(Array(both[..<first.count]) == first)
    #expect(try inflated(Array(both[first.count...])) == "two\n")
  }

  @Test func whatCannotBeWrittenIsCountedAndToldAndTriedAgainLater() throws {
    let folder = try Folder()
    let causes = Causes()
    var configuration = plain(folder)
    configuration.prefix = "\(folder.path)/deeper/trace"
    let file = RollingFile(configuration) { causes.add($0) }
    #expect(write("a\nb\n", to: file) == 2)
    #expect(causes.texts.count == 1 && causes.texts[0].hasPrefix("open "))
    mkdir("\(folder.path)/deeper", 0o700)
    #expect(write("c\n", to: file) == 0)
    unlink("\(folder.path)/deeper/trace.000000.jsonl")
    rmdir("\(folder.path)/deeper")
  }

  @Test func aHalfWrittenBatchIsTakenBack() throws {
    let folder = try Folder()
    let causes = Causes()
    // The disk is full in the middle of the second write.
    let calls = Mutex(0)
    let file = RollingFile(plain(folder)) { descriptor, bytes, count in
      switch calls.withLock({
        $0 += 1; return $0
      }) {
      case 2: return Glibc.write(descriptor, bytes, 4)
      case 3:
        errno = ENOSPC
        return -1
      default: return Glibc.write(descriptor, bytes, count)
      }
    } onFailure: {
      causes.add($0)
    }
    #expect(write("whole\n", to: file) == 0)
    let lost = write("does not fit\n", to: file)
    #expect(lost == 1)
    #expect(causes.texts.count == 1 && causes.texts[0].hasPrefix("write: "))
    #expect(folder.bytes("trace.000000.jsonl") == Array("whole\n".utf8))
    #expect(write("again\n", to: file) == 0)
    #expect(folder.bytes("trace.000000.jsonl") == Array("whole\nagain\n".utf8))
  }

  @Test func aLinkInItsPlaceIsNotFollowed() throws {
    let folder = try Folder()
    symlink("\(folder.path)/target", "\(folder.path)/trace.000000.jsonl")
    let file = RollingFile(plain(folder)) { Issue.record("\($0)") }
    #expect(write("x\n", to: file) == 0)
    #expect(!folder.names.contains("target"))
    #expect(folder.bytes("trace.000001.jsonl") == Array("x\n".utf8))
  }
}

@Suite struct RequestTraceConfigurationTests {
  @Test func withoutTheSwitchThereAreNone() {
    var warnings: [String] = []
    for value in [nil, "", "0", "false"] {
      var environment = ["DYN_REQUEST_TRACE_FILE_PATH": "/x"]
      environment["DYN_REQUEST_TRACE"] = value
      #expect(RequestTraceConfiguration.from(environment: environment, warnings: &warnings) == nil)
    }
    #expect(warnings.isEmpty)
  }

  @Test func theDefaultsAreDynamos() {
    var warnings: [String] = []
    let read = RequestTraceConfiguration.from(environment: ["DYN_REQUEST_TRACE": "yes"], warnings: &warnings)
    #expect(read?.file == RollingFileConfiguration(prefix: "/tmp/dynamo-request-trace"))
    #expect(read?.file?.path(12) == "/tmp/dynamo-request-trace.000012.jsonl.gz")
    #expect(read?.file?.path(1_234_567) == "/tmp/dynamo-request-trace.1234567.jsonl.gz")
    #expect(read?.writesToLog == false && read?.ratio == 1 && read?.flushInterval == second)
    #expect(warnings.isEmpty)
  }

  @Test func variablesSetThem() {
    var warnings: [String] = []
    let read = RequestTraceConfiguration.from(
      environment: [
        "DYN_REQUEST_TRACE": "1", "DYN_REQUEST_TRACE_SINKS": "stderr, file",
        "DYN_REQUEST_TRACE_FILE_PATH": "here", "DYN_REQUEST_TRACE_FILE_FORMAT": "jsonl",
        "DYN_REQUEST_TRACE_FILE_ROLL_BYTES": "1000", "DYN_REQUEST_TRACE_FILE_ROLL_LINES": "10",
        "DYN_REQUEST_TRACE_FILE_COUNT": "3", "DYN_REQUEST_TRACE_FILE_BUFFER_BYTES": "65536",
        "DYN_REQUEST_TRACE_FILE_FLUSH_INTERVAL_MS": "20", "DYN_REQUEST_TRACE_SAMPLE_RATIO": "0.25",
      ], warnings: &warnings)
    #expect(read?.file?.path(0) == "here.000000.jsonl")
    #expect(read?.file?.bytesMax == 1_000 && read?.file?.linesMax == 10 && read?.file?.filesMax == 3)
    #expect(read?.writesToLog == true && read?.ratio == 0.25 && read?.bufferBytes == 65_536)
    #expect(read?.flushInterval == 20 * millisecond)
    #expect(warnings.isEmpty)
  }

  @Test func whatIsWrongIsWarnedOf() {
    var warnings: [String] = []
    let read = RequestTraceConfiguration.from(
      environment: [
        "DYN_REQUEST_TRACE": "1", "DYN_REQUEST_TRACE_SINKS": "nats", "DYN_REQUEST_TRACE_FILE_FORMAT": "csv",
        "DYN_REQUEST_TRACE_FILE_COUNT": "0", "DYN_REQUEST_TRACE_SAMPLE_RATIO": "2",
      ], warnings: &warnings)
    #expect(read == nil, "there is no sink left")
    #expect(warnings.count == 4)
  }
}
