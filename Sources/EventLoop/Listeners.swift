// Where a server listens: addresses as they are written, sockets that are bound here or were given by another process.

internal import CSystem
internal import Glibc

/// What is to be listened on, as a setting writes it.
package enum ListenAddress: Sendable, Equatable, CustomStringConvertible {
  /// A name or address, an IPv6 address without its brackets, and a port.
  case tcp(host: String, port: UInt16)
  /// A path, or an abstract name that begins with `@`.
  case unix(path: String)

  /// Reads `127.0.0.1:8000`, `[::]:8000`, `unix:/run/x.sock`; nil for anything else.
  package init?(_ text: String) {
    if text.hasPrefix("unix:") {
      let path = String(text.dropFirst(5))
      guard path.hasPrefix("/") || path.hasPrefix("@"), SocketAddress(unixPath: path) != nil else {
        return nil
      }
      self = .unix(path: path)
      return
    }
    guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
      return nil
    }
    let host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]"), host.count > 2 {
      self = .tcp(host: String(host.dropFirst().dropLast()), port: port)
    } else if !host.isEmpty, !host.contains(":"), !host.hasPrefix("[") {
      self = .tcp(host: String(host), port: port)
    } else {
      return nil
    }
  }

  package var description: String {
    switch self {
    case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    case .unix(let path): "unix:\(path)"
    }
  }
}

/// One listening socket of this process.
package struct Listener: Sendable {
  /// Who is served on it.
  package enum Purpose: String, Sendable {
    case main
    case admin
    case metrics
  }

  package let descriptor: Int32
  package let address: SocketAddress
  package let purpose: Purpose
  /// The file of a Unix socket that is this process's to remove when it stops; nil for all others.
  fileprivate let file: FileIdentity?

  /// Whether a file is this process's to remove.
  package var ownsFile: Bool { file != nil }

  /// Takes a socket that listens already. Nil when `descriptor` is none; otherwise it becomes non-blocking and
  /// close-on-exec.
  ///
  /// - Parameter ownsFile: a Unix socket's file is this process's to remove from now on.
  package init?(adopting descriptor: Int32, purpose: Purpose, ownsFile: Bool = false) {
    var listens: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    guard getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0, listens != 0,
      let address = Sockets.localAddress(descriptor)
    else { return nil }
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    self.descriptor = descriptor
    self.address = address
    self.purpose = purpose
    file = ownsFile ? address.unixPath.flatMap { FileIdentity($0) } : nil
  }

  private init(_ descriptor: Int32, _ address: SocketAddress, _ purpose: Purpose, _ file: FileIdentity?) {
    self.descriptor = descriptor
    self.address = address
    self.purpose = purpose
    self.file = file
  }

  /// Binds and listens.
  ///
  /// - Parameter mode: permissions of a Unix socket's file. Whoever may write to it may connect.
  package static func bind(
    _ address: ListenAddress, backlog: Int32 = 4096, mode: UInt32 = 0o660, purpose: Purpose = .main
  ) throws(SystemError) -> Listener {
    switch address {
    case .tcp(let host, let port):
      let (descriptor, bound) = try Sockets.listen(host: host, port: port, backlog: backlog)
      return Listener(descriptor, bound, purpose, nil)
    case .unix(let path):
      return try bind(path, SOCK_STREAM, backlog, mode, purpose)
    }
  }

  /// A listening Unix socket whose connections keep the borders of messages (SOCK_SEQPACKET).
  package static func bindMessages(path: String, mode: UInt32 = 0o600) throws(SystemError) -> Listener {
    try bind(path, SOCK_SEQPACKET, 4, mode, .admin)
  }

  private static func bind(
    _ path: String, _ type: __socket_type, _ backlog: Int32, _ mode: UInt32, _ purpose: Purpose
  ) throws(SystemError) -> Listener {
    guard let address = SocketAddress(unixPath: path) else { throw SystemError("bind", ENAMETOOLONG) }
    let descriptor = Sockets.open(AF_UNIX, type)
    guard descriptor >= 0 else { throw SystemError("socket", csystem_errno()) }
    do throws(SystemError) {
      try bind(descriptor, address, type)
      guard path.hasPrefix("/") else { return try listening(descriptor, address, backlog, purpose, nil) }
      guard chmod(path, mode) == 0 else { throw SystemError("chmod", csystem_errno()) }
      return try listening(descriptor, address, backlog, purpose, FileIdentity(path))
    } catch {
      _ = close(descriptor)
      throw error
    }
  }

  /// A socket's file that nobody listens on any more stands in nobody's way.
  private static func bind(
    _ descriptor: Int32, _ address: SocketAddress, _ type: __socket_type
  ) throws(SystemError) {
    if address.withSockaddr({ Glibc.bind(descriptor, $0, $1) }) == 0 { return }
    let code = csystem_errno()
    guard code == EADDRINUSE, let path = address.unixPath, path.hasPrefix("/"), isSocket(path),
      !isInUse(address)
    else {
      throw SystemError("bind", code)
    }
    _ = unlink(path)
    guard address.withSockaddr({ Glibc.bind(descriptor, $0, $1) }) == 0 else {
      throw SystemError("bind", csystem_errno())
    }
  }

  private static func isSocket(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK
  }

  /// Whether a process has a Unix socket at `path`. Whoever listens there is not disturbed.
  package static func isInUse(path: String) -> Bool { SocketAddress(unixPath: path).map(isInUse) ?? false }

  /// Asks with a socket of another kind: one that listens refuses its kind (EPROTOTYPE) and sees no connection, a file
  /// without a socket refuses everybody.
  private static func isInUse(_ address: SocketAddress) -> Bool {
    let probe = Sockets.open(AF_UNIX, SOCK_DGRAM)
    guard probe >= 0 else { return true }
    defer { _ = close(probe) }
    if address.withSockaddr({ Glibc.connect(probe, $0, $1) }) == 0 { return true }
    let code = csystem_errno()
    return code != ECONNREFUSED && code != ENOENT
  }

  private static func listening(
    _ descriptor: Int32, _ address: SocketAddress, _ backlog: Int32, _ purpose: Purpose, _ file: FileIdentity?
  ) throws(SystemError) -> Listener {
    guard listen(descriptor, backlog) == 0 else { throw SystemError("listen", csystem_errno()) }
    return Listener(descriptor, address, purpose, file)
  }

  /// Removes the file of a Unix socket that was bound here, unless another process has put its own there since.
  package func removeFile() {
    guard let file, FileIdentity(file.path) == file else { return }
    _ = unlink(file.path)
  }
}

/// Which file a path leads to.
private struct FileIdentity: Sendable, Equatable {
  let path: String
  let device: UInt64
  let inode: UInt64
  /// When it last changed: numbers of files that are gone are given to others.
  let changed: [Int]

  /// Nil when there is none.
  init?(_ path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    self.path = path
    device = UInt64(status.st_dev)
    inode = UInt64(status.st_ino)
    changed = [status.st_ctim.tv_sec, status.st_ctim.tv_nsec]
  }
}

/// Listening sockets that a service manager opened and passed on (systemd's LISTEN_FDS, sd_listen_fds(3)).
package enum InheritedListeners {
  /// The number of the first one.
  private static let first: Int32 = 3
  /// More are refused: nobody means them.
  private static let countMax = 64

  /// Why what was passed cannot be served on.
  package struct Fault: Error, CustomStringConvertible {
    package let description: String
  }

  /// What `environment` says was passed to `process`: descriptors with their purpose. Those named `admin` and
  /// `metrics` are for these listeners, all others serve. Empty when nothing was passed, or to another process.
  package static func announced(
    _ environment: [String: String], process: Int32
  ) throws(Fault) -> [(descriptor: Int32, purpose: Listener.Purpose)] {
    guard let count = environment["LISTEN_FDS"], environment["LISTEN_PID"] == "\(process)" else { return [] }
    guard let count = Int(count), (0...countMax).contains(count) else {
      throw Fault(description: "LISTEN_FDS=\(count) is no number from 0 to \(countMax)")
    }
    let names = (environment["LISTEN_FDNAMES"] ?? "").split(separator: ":", omittingEmptySubsequences: false)
    return (0..<count).map { index in
      let name = index < names.count ? String(names[index]) : ""
      return (first + Int32(index), Listener.Purpose(rawValue: name) ?? .main)
    }
  }

  /// Takes over the sockets that were passed to this process.
  package static func take(_ environment: [String: String]) throws(Fault) -> [Listener] {
    var listeners: [Listener] = []
    for (descriptor, purpose) in try announced(environment, process: getpid()) {
      guard let listener = Listener(adopting: descriptor, purpose: purpose) else {
        throw Fault(description: "descriptor \(descriptor) of LISTEN_FDS is no listening socket")
      }
      listeners.append(listener)
    }
    return listeners
  }
}
