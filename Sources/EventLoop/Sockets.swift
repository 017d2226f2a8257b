// Sockets as descriptors: addresses, listeners, non-blocking connects and their options.

internal import CSystem
internal import Glibc

/// An IPv4 or IPv6 address with a port, or a Unix socket's path.
package struct SocketAddress: Sendable, Equatable, CustomStringConvertible {
  private var storage: [UInt8]
  /// AF_INET, AF_INET6 or AF_UNIX.
  let family: Int32

  init(_ pointer: UnsafePointer<sockaddr>, length: Int) {
    storage = Array(UnsafeRawBufferPointer(start: pointer, count: length))
    family = Int32(pointer.pointee.sa_family)
  }

  /// The Unix socket of that path, or of an abstract name that begins with `@`; nil when it is empty or longer than 107
  /// bytes (unix(7)).
  package init?(unixPath path: String) {
    var name = Array(path.utf8)
    guard !name.isEmpty, name.count <= 107, !name.contains(0) else { return nil }
    // An abstract name begins with a zero byte and ends with the address; a path ends with one.
    if name[0] == UInt8(ascii: "@") { name[0] = 0 } else { name.append(0) }
    family = AF_UNIX
    storage = withUnsafeBytes(of: sa_family_t(AF_UNIX)) { Array($0) } + name
  }

  /// The IPv4 (4 bytes) or IPv6 (16 bytes) address in network order with a port in host order; nil for other lengths.
  package init?(ipBytes bytes: ArraySlice<UInt8>, port: UInt16) {
    let portBytes = [UInt8(port >> 8), UInt8(port & 0xff)]
    switch bytes.count {
    case 4:
      family = AF_INET
      storage = portBytes + bytes + [UInt8](repeating: 0, count: 8)
    case 16:
      family = AF_INET6
      storage = portBytes + [0, 0, 0, 0] + bytes + [0, 0, 0, 0]
    default: return nil
    }
    storage.insert(contentsOf: withUnsafeBytes(of: sa_family_t(family)) { Array($0) }, at: 0)
  }

  /// The address that `text` writes as numbers, with port 0; nil for anything else.
  package init?(ip text: String) {
    var bytes = [UInt8](repeating: 0, count: 16)
    if inet_pton(AF_INET, text, &bytes) == 1 {
      self.init(ipBytes: bytes[0..<4], port: 0)
    } else if inet_pton(AF_INET6, text, &bytes) == 1 {
      self.init(ipBytes: bytes[...], port: 0)
    } else {
      return nil
    }
  }

  /// True for a Unix socket, whose peers are on this machine.
  package var isUnix: Bool { family == AF_UNIX }

  /// The path of a Unix socket, `@name` for an abstract one; nil for other addresses, and for a peer without a name.
  package var unixPath: String? {
    guard isUnix, storage.count > 2 else { return nil }
    var name = storage[2...]
    if name.first == 0 { name[name.startIndex] = UInt8(ascii: "@") } else { name = name.prefix { $0 != 0 } }
    return String(decoding: name, as: UTF8.self)
  }

  func withSockaddr<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
    storage.withUnsafeBytes { bytes in
      withUnsafeTemporaryAllocation(of: sockaddr_storage.self, capacity: 1) { aligned in
        UnsafeMutableRawBufferPointer(aligned).copyMemory(from: bytes)
        return aligned.withMemoryRebound(to: sockaddr.self) { rebound in
          guard let base = rebound.baseAddress else { preconditionFailure("one element was allocated") }
          return body(base, socklen_t(bytes.count))
        }
      }
    }
  }

  /// The port in host order; 0 for a Unix socket.
  package var port: UInt16 { isUnix ? 0 : UInt16(storage[2]) << 8 | UInt16(storage[3]) }

  /// `127.0.0.1:8000`, `[::1]:8000` or `unix:/path`.
  package var description: String {
    if isUnix { return "unix:\(host)" }
    return family == AF_INET6 ? "[\(host)]:\(port)" : "\(host):\(port)"
  }

  /// The numeric address without the port, or a Unix socket's path.
  package var host: String {
    if isUnix { return unixPath ?? "" }
    return withSockaddr { address, length in
      withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { text in
        guard let base = text.baseAddress,
          getnameinfo(address, length, base, 64, nil, 0, Int32(NI_NUMERICHOST)) == 0
        else { return "?" }
        return String(cString: base)
      }
    }
  }

  /// The address in network order, 4 or 16 bytes; 4 for an IPv4 address that an IPv6 socket shows mapped; none for a
  /// Unix socket.
  var ipBytes: ArraySlice<UInt8> {
    if isUnix { return [] }
    // sockaddr_in has it behind family and port, sockaddr_in6 behind the flow label too.
    guard family == AF_INET6 else { return storage[4..<8] }
    let bytes = storage[8..<24]
    let isMapped = bytes.prefix(10).allSatisfy { $0 == 0 } && bytes[18] == 0xff && bytes[19] == 0xff
    return isMapped ? bytes.suffix(4) : bytes
  }

  /// All addresses of `host` by getaddrinfo, which may block; empty when there is none.
  package static func resolve(host: String, port: UInt16, passive: Bool = false) -> [SocketAddress] {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = passive ? AI_PASSIVE : 0
    var list: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, String(port), &hints, &list) == 0 else { return [] }
    defer { freeaddrinfo(list) }
    var result: [SocketAddress] = []
    var node = list
    while let info = node {
      if let address = info.pointee.ai_addr {
        let resolved = SocketAddress(address, length: Int(info.pointee.ai_addrlen))
        if !result.contains(resolved) { result.append(resolved) }
      }
      node = info.pointee.ai_next
    }
    return result
  }
}

/// Opens and configures stream sockets; all are non-blocking, close-on-exec and TCP_NODELAY.
package enum Sockets {
  /// Binds and listens on the first address of `host` that allows it.
  package static func listen(
    host: String, port: UInt16, backlog: Int32 = 4096
  ) throws(SystemError) -> (descriptor: Int32, address: SocketAddress) {
    let addresses = SocketAddress.resolve(host: host, port: port, passive: true)
    var failure = SystemError("name lookup", EADDRNOTAVAIL)
    for address in addresses {
      let descriptor = open(address.family)
      guard descriptor >= 0 else {
        failure = SystemError("socket", csystem_errno())
        continue
      }
      set(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
      if address.withSockaddr({ bind(descriptor, $0, $1) }) != 0 {
        failure = SystemError("bind", csystem_errno())
      } else if Glibc.listen(descriptor, backlog) != 0 {
        failure = SystemError("listen", csystem_errno())
      } else if let bound = localAddress(descriptor) {
        return (descriptor, bound)
      }
      _ = close(descriptor)
    }
    throw failure
  }

  /// Starts a connect to `address`; how it ends is told by writability and `pendingError`.
  package static func connect(_ address: SocketAddress) throws(SystemError) -> Int32 {
    let descriptor = open(address.family)
    guard descriptor >= 0 else { throw SystemError("socket", csystem_errno()) }
    disableDelay(descriptor)
    if address.withSockaddr({ Glibc.connect(descriptor, $0, $1) }) == 0 { return descriptor }
    let code = csystem_errno()
    if code == EINPROGRESS { return descriptor }
    _ = close(descriptor)
    throw SystemError("connect", code)
  }

  /// Sets TCP_NODELAY: a stream's last bytes must not wait for the peer's delayed ACK.
  package static func disableDelay(_ descriptor: Int32) {
    set(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
  }

  /// Has the kernel probe a connection that was silent for `idleSeconds`, and end it when nobody answers for as long again.
  package static func keepAlive(_ descriptor: Int32, idleSeconds: Int32) {
    set(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1)
    set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPIDLE, idleSeconds)
    set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPINTVL, max(1, idleSeconds / 4))
    set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPCNT, 4)
  }

  /// Why no TCP connection to `host`, a name or an address with or without brackets, comes about within two seconds;
  /// nil when one does. Blocks: for `doctor`.
  package static func whyUnreachable(_ host: String, _ port: UInt16) -> String? {
    let bare = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
    let addresses = SocketAddress.resolve(host: bare, port: port)
    guard !addresses.isEmpty else { return "the name has no address" }
    let system = LiveSystemCalls()
    var reason = "no answer within 2 s"
    for address in addresses {
      do throws(SystemError) {
        let descriptor = try connect(address)
        defer { system.close(descriptor) }
        var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        guard poll(&entry, 1, 2_000) > 0 else { continue }
        let code = system.pendingError(descriptor)
        if code == 0 { return nil }
        reason = String(cString: strerror(code))
      } catch {
        reason = "\(error)"
      }
    }
    return reason
  }

  /// A connected pair of non-blocking stream sockets; for tests.
  package static func pair() throws(SystemError) -> (Int32, Int32) {
    var descriptors: [Int32] = [0, 0]
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, type, 0, &descriptors) == 0 else {
      throw SystemError("socketpair", csystem_errno())
    }
    return (descriptors[0], descriptors[1])
  }

  /// The address that `descriptor` is bound to.
  package static func localAddress(_ descriptor: Int32) -> SocketAddress? {
    name(descriptor, getsockname)
  }

  /// The address at the other end of `descriptor`.
  package static func peerAddress(_ descriptor: Int32) -> SocketAddress? {
    name(descriptor, getpeername)
  }

  private static func name(
    _ descriptor: Int32,
    _ call: (Int32, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
  ) -> SocketAddress? {
    withUnsafeTemporaryAllocation(of: sockaddr_storage.self, capacity: 1) { storage in
      var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
      return storage.withMemoryRebound(to: sockaddr.self) { address in
        guard let base = address.baseAddress, call(descriptor, base, &length) == 0 else { return nil }
        return SocketAddress(base, length: Int(length))
      }
    }
  }

  static func open(_ family: Int32, _ type: __socket_type = SOCK_STREAM) -> Int32 {
    socket(family, Int32(type.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
  }

  static func set(_ descriptor: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
    var value = value
    _ = setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
  }
}
