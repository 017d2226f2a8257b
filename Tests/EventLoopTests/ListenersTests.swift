// Listening sockets: how addresses are written, Unix sockets' files, what a service manager passes, what it is told.

import Base
import Glibc
import Testing

@testable import EventLoop

/// A folder that goes with the test.
private final class Folder {
  let path: String

  init() throws {
    var template = Array("/tmp/dynamo-test-XXXXXX".utf8CString)
    guard let made = mkdtemp(&template) else { throw SystemError("mkdtemp", errno) }
    path = String(cString: made)
  }

  deinit {
    for name in ["s", "t"] { unlink("\(path)/\(name)") }
    rmdir(path)
  }
}

struct ListenersTests {
  @Test(arguments: [
    ("127.0.0.1:8000", "127.0.0.1:8000"), ("[::]:80", "[::]:80"), ("[::1]:0", "[::1]:0"),
    ("localhost:1", "localhost:1"), ("unix:/run/x", "unix:/run/x"), ("unix:@name", "unix:@name"),
  ])
  func anAddressIsReadAsItIsWritten(text: String, expected: String) {
    #expect(ListenAddress(text)?.description == expected)
  }

  @Test(arguments: [
    "", ":80", "8000", "host", "host:", "host:65536", "host:-1", "::1:80", "[::1]", "[]:80", "[::1:80",
    "unix:",
    "unix:relative", "unix:/" + String(repeating: "x", count: 107), "unix:/a\0b",
  ])
  func whatIsNoAddressIsRefused(text: String) {
    #expect(ListenAddress(text) == nil)
  }

  private func mode(_ path: String) -> UInt32 {
    var status = stat()
    return stat(path, &status) == 0 ? UInt32(status.st_mode & 0o777) : 0
  }

  @Test func aUnixSocketHasItsModeAndGoesWithItsOwner() throws {
    let folder = try Folder()
    let path = "\(folder.path)/s"
    let listener = try Listener.bind(.unix(path: path), mode: 0o640)
    #expect(mode(path) == 0o640)
    #expect(listener.address.description == "unix:\(path)" && listener.address.port == 0)
    // One that is listened on is in use, and stays.
    #expect(throws: SystemError.self) { try Listener.bind(.unix(path: path)) }
    close(listener.descriptor)
    // One that nobody listens on any more is replaced, and the file is the new one's.
    let next = try Listener.bind(.unix(path: path))
    listener.removeFile()
    #expect(mode(path) != 0)
    next.removeFile()
    #expect(mode(path) == 0)
    close(next.descriptor)
  }

  @Test func whoLooksForAListenerDoesNotDisturbIt() throws {
    let folder = try Folder()
    let path = "\(folder.path)/s"
    #expect(!Listener.isInUse(path: path))
    let listener = try Listener.bindMessages(path: path)
    #expect(Listener.isInUse(path: path))
    #expect(throws: SystemError.self) { try Listener.bindMessages(path: path) }
    #expect(LiveSystemCalls().accept(listener.descriptor) < 0)
    close(listener.descriptor)
    #expect(!Listener.isInUse(path: path))
  }

  @Test func theLeastLimitOfTheCgroupsAboveHolds() throws {
    let folder = try Folder()
    let inner = "\(folder.path)/t"
    mkdir(inner, 0o700)
    defer {
      unlink("\(inner)/memory.max")
      rmdir(inner)
      unlink("\(folder.path)/memory.max")
    }
    func limit(_ text: String, at path: String) {
      let file = open("\(path)/memory.max", O_CREAT | O_TRUNC | O_WRONLY, 0o600)
      _ = write(file, text, text.utf8.count)
      close(file)
    }
    #expect(Machine.memoryLimit(root: folder.path, cgroup: "/t") == nil)
    limit("1000\n", at: inner)
    #expect(Machine.memoryLimit(root: folder.path, cgroup: "/t/gone") == 1_000)
    #expect(Machine.memoryLimit(root: folder.path, cgroup: "/") == nil)
    limit("500\n", at: folder.path)
    #expect(Machine.memoryLimit(root: folder.path, cgroup: "/t") == 500)
    limit("max\n", at: folder.path)
    #expect(Machine.memoryLimit(root: folder.path, cgroup: "/t") == 1_000)
  }

  @Test func aFileThatIsNoSocketIsLeftAlone() throws {
    let folder = try Folder()
    let path = "\(folder.path)/s"
    let file = open(path, O_CREAT | O_WRONLY, 0o600)
    close(file)
    #expect(throws: SystemError.self) { try Listener.bind(.unix(path: path)) }
    #expect(mode(path) == 0o600)
  }

  @Test func anIPv6ListenerTakesIPv4Too() throws {
    let listener = try Listener.bind(.tcp(host: "::", port: 0))
    defer { close(listener.descriptor) }
    let address = SocketAddress.resolve(host: "127.0.0.1", port: listener.address.port)[0]
    let caller = try Sockets.connect(address)
    defer { close(caller) }
    var waiting = pollfd(fd: listener.descriptor, events: Int16(POLLIN), revents: 0)
    #expect(poll(&waiting, 1, 5_000) == 1)
  }

  @Test func namesSayWhatPassedSocketsAreFor() throws {
    let environment = ["LISTEN_PID": "7", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "main:admin"]
    let found = try InheritedListeners.announced(environment, process: 7)
    #expect(found.map(\.descriptor) == [3, 4, 5])
    #expect(found.map(\.purpose) == [.main, .admin, .main])
    #expect(try InheritedListeners.announced(environment, process: 8).isEmpty)
    #expect(try InheritedListeners.announced(["LISTEN_FDS": "1"], process: 8).isEmpty)
    #expect(try InheritedListeners.announced([:], process: 8).isEmpty)
  }

  @Test(arguments: ["-1", "65", "x", ""])
  func aNumberOfSocketsThatNobodyMeansIsRefused(count: String) {
    #expect(throws: InheritedListeners.Fault.self) {
      try InheritedListeners.announced(["LISTEN_PID": "7", "LISTEN_FDS": count], process: 7)
    }
  }

  @Test func onlyASocketThatListensIsAdopted() throws {
    let pair = try Sockets.pair()
    defer {
      close(pair.0)
      close(pair.1)
    }
    #expect(Listener(adopting: pair.0, purpose: .main) == nil)
    #expect(Listener(adopting: 1_000_000, purpose: .main) == nil)
    let listener = try Listener.bind(.tcp(host: "127.0.0.1", port: 0))
    let copy = dup(listener.descriptor)
    let adopted = try #require(Listener(adopting: copy, purpose: .admin))
    #expect(adopted.address == listener.address && fcntl(copy, F_GETFD) & FD_CLOEXEC != 0)
    close(copy)
    close(listener.descriptor)
  }

  @Test func descriptorsTravelWithTheirMessage() throws {
    let folder = try Folder()
    let host = try Listener.bindMessages(path: "\(folder.path)/s")
    defer { close(host.descriptor) }
    let caller = try #require(try DescriptorChannel.connect(path: "\(folder.path)/s", patience: 5))
    let other = DescriptorChannel(adopting: LiveSystemCalls().accept(host.descriptor))
    #expect(other.peerIsTrusted)
    if case .nothing = other.receive() {} else { Issue.record("nothing was sent yet") }
    let served = try Listener.bind(.tcp(host: "127.0.0.1", port: 0))
    defer { close(served.descriptor) }
    #expect(other.send("hello", [served.descriptor]))
    guard case .text("hello", let passed) = caller.receive() else {
      Issue.record("the message did not come")
      return
    }
    let adopted = try #require(passed.first.flatMap { Listener(adopting: $0, purpose: .main) })
    #expect(passed.count == 1 && adopted.address == served.address)
    close(adopted.descriptor)
  }

  @Test func nobodyToTakeOverFromIsNoFault() throws {
    let folder = try Folder()
    #expect(try DescriptorChannel.connect(path: "\(folder.path)/s", patience: 1) == nil)
    let gone = try Listener.bindMessages(path: "\(folder.path)/s")
    close(gone.descriptor)
    #expect(try DescriptorChannel.connect(path: "\(folder.path)/s", patience: 1) == nil)
  }
}

struct ServiceManagerTests {
  /// A bound datagram socket.
  private func manager(_ name: String) throws -> Int32 {
    let address = try #require(SocketAddress(unixPath: name))
    // SOCK_DGRAM, which the Glibc module hides.
    let descriptor = socket(AF_UNIX, 2, 0)
    let isBound = address.withSockaddr { bind(descriptor, $0, $1) } == 0
    try #require(isBound)
    return descriptor
  }

  private func heard(_ descriptor: Int32) -> String {
    var bytes = [UInt8](repeating: 0, count: 1_024)
    let count = recv(descriptor, &bytes, bytes.count, Int32(MSG_DONTWAIT))
    return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
  }

  @Test(arguments: [true, false])
  func eachMessageIsOneDatagram(isAbstract: Bool) throws {
    let folder = try Folder()
    let name = isAbstract ? "@dynamo-test-\(getpid())" : "\(folder.path)/s"
    let socket = try manager(name)
    defer { close(socket) }
    let service = try #require(ServiceManager(["NOTIFY_SOCKET": name]))
    #expect(service.watchdogInterval == nil)
    service.ready("serving\non two")
    #expect(heard(socket) == "READY=1\nSTATUS=serving on two")
    service.reloading(now: 5_000_900)
    #expect(heard(socket) == "RELOADING=1\nMONOTONIC_USEC=5000")
    service.isAlive()
    #expect(heard(socket) == "WATCHDOG=1")
    service.status("so so")
    service.stopping("bye")
    #expect(heard(socket) == "STATUS=so so" && heard(socket) == "STOPPING=1\nSTATUS=bye")
  }

  @Test func withoutAManagerThereIsNobodyToTell() {
    #expect(ServiceManager([:]) == nil)
    #expect(ServiceManager(["NOTIFY_SOCKET": "relative"]) == nil)
    #expect(ServiceManager(["NOTIFY_SOCKET": "vsock:2:1"]) == nil)
    // One that is gone is not waited for.
    ServiceManager(["NOTIFY_SOCKET": "/nowhere/at/all"])?.ready("serving")
  }

  @Test(
    arguments: [
      (["WATCHDOG_USEC": "30000000"], 30 * second), (["WATCHDOG_USEC": "5", "WATCHDOG_PID": "7"], 5_000),
      (["WATCHDOG_USEC": "5", "WATCHDOG_PID": "8"], nil), (["WATCHDOG_USEC": "0"], nil),
      (["WATCHDOG_USEC": "18446744073709551615"], nil), (["WATCHDOG_USEC": "x"], nil), ([:], nil),
    ] as [([String: String], Nanoseconds?)])
  func theWatchdogIsThisProcesss(variables: [String: String], expected: Nanoseconds?) {
    var environment = variables
    environment["NOTIFY_SOCKET"] = "@nobody"
    #expect(ServiceManager(environment, process: 7)?.watchdogInterval == expected)
  }
}
