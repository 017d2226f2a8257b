// The PROXY protocol: every header at every split point, what is none, and connections that begin with one.

import Base
import EventLoop
import Glibc
import HTTP
import Synchronization
import Testing

@testable import Transport

private let signature: [UInt8] = [13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10]

/// A header: command byte, family byte, payload.
private func header(_ command: UInt8, _ family: UInt8, _ payload: [UInt8]) -> [UInt8] {
  signature + [command, family, UInt8(payload.count >> 8), UInt8(payload.count & 0xff)] + payload
}

/// 192.0.2.7:4242 speaks to 10.0.0.1:80.
private let ipv4: [UInt8] = [192, 0, 2, 7, 10, 0, 0, 1, 0x10, 0x92, 0, 80]
/// 2001:db8::7, port 4242.
private let ipv6: [UInt8] =
  [0x20, 1, 0x0d, 0xb8] + [UInt8](repeating: 0, count: 11) + [7] + [UInt8](repeating: 0, count: 16)
  + [0x10, 0x92, 0, 80]
private let extensions: [UInt8] = [4, 0, 3, 1, 2, 3]

/// Gives a reader `bytes` in pieces cut at `cuts`, never more than it asks for.
private func read(_ bytes: [UInt8], cutAt cut: Int) throws -> ProxyHeaderReader.Answer? {
  var reader = ProxyHeaderReader()
  var offset = 0
  while offset < bytes.count, reader.wanted > 0 {
    let end = offset < cut ? min(cut, offset + reader.wanted) : min(bytes.count, offset + reader.wanted)
    let answer = try bytes[offset..<end].withUnsafeBytes { try reader.receive($0) }
    offset = end
    if let answer {
      #expect(reader.wanted == 0)
      return answer
    }
  }
  return nil
}

struct ProxyHeaderTests {
  @Test(
    arguments: [
      (header(0x21, 0x11, ipv4), "192.0.2.7:4242"), (header(0x21, 0x12, ipv4 + extensions), "192.0.2.7:4242"),
      (header(0x21, 0x21, ipv6 + extensions), "[2001:db8::7]:4242"),
      (header(0x21, 0x22, ipv6), "[2001:db8::7]:4242"),
      (header(0x20, 0x11, ipv4), nil), (header(0x20, 0x00, []), nil), (header(0x21, 0x00, []), nil),
      (header(0x21, 0x31, [UInt8](repeating: 0, count: 216)), nil),
    ] as [([UInt8], String?)])
  func aHeaderIsReadAtEverySplitPoint(bytes: [UInt8], client: String?) throws {
    for cut in 0...bytes.count {
      // What follows is not the header's.
      switch try #require(try read(bytes + [22, 3, 1], cutAt: cut)) {
      case .proxyItself: #expect(client == nil)
      case .client(let address): #expect(address.description == client)
      }
    }
  }

  @Test(arguments: [
    (Array("PROXY TCP4 192.0.2.7 10.0.0.1 1 80\r\n".utf8), ProxyHeaderFault.version1),
    (Array("POST / HTTP/1.1\r\nhost: x\r\n".utf8), .missing), ([22, 3, 1, 0, 200, 1, 0, 0], .missing),
    (Array("\r\n\r\nGET / HTTP/1.1".utf8), .missing),
    (header(0x11, 0x11, ipv4), .malformed), (header(0x22, 0x11, ipv4), .malformed),
    (header(0x21, 0x41, ipv4), .malformed), (header(0x21, 0x11, Array(ipv4.prefix(11))), .malformed),
    (header(0x21, 0x21, ipv4), .malformed),
    (header(0x21, 0x11, ipv4 + [UInt8](repeating: 0, count: 1_000)), .tooLong),
  ])
  func whatIsNoneIsToldAtEverySplitPoint(bytes: [UInt8], fault: ProxyHeaderFault) {
    for cut in 0...bytes.count {
      #expect(throws: fault) { try read(bytes, cutAt: cut) }
    }
  }
}

/// A server whose peers, on Unix sockets, are proxies.
private final class ProxyRig {
  let loop: EventLoop
  let application = ScriptedApplication()
  let server: HTTPServer
  let counters = ListenerCounters()
  let loads = LoopLoads(count: 1)
  let caller: Int32

  init() throws {
    loop = try EventLoop(index: 0, seed: 1)
    var limits = ServerLimits()
    var faults: [String] = []
    limits.proxyPeers = AddressRanges(["unix"], faults: &faults)
    server = HTTPServer(
      loop: loop, application: application, limits: limits, loads: loads, counters: counters)
    let pair = try Sockets.pair()
    caller = pair.0
    server.accepted(pair.1)
  }

  deinit {
    server.drain()
    server.cutAll()
    application.exchanges = []
    loop.close()
    close(caller)
  }

  func send(_ bytes: [UInt8]) {
    _ = write(caller, bytes, bytes.count)
    for _ in 0..<3 { loop.turn(patience: 0) }
  }

  func output() -> String {
    for _ in 0..<3 { loop.turn(patience: 0) }
    var bytes = [UInt8](repeating: 0, count: 4_096)
    let count = recv(caller, &bytes, bytes.count, Int32(MSG_DONTWAIT))
    // A connection that is closed with bytes unread is reset.
    let isClosed = count == 0 || (count < 0 && errno == ECONNRESET)
    return isClosed ? "closed" : String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
  }
}

struct ProxiedConnectionTests {
  private let request = Array("GET / HTTP/1.1\r\nhost: x\r\n\r\n".utf8)

  @Test func theRequestComesFromWhomTheProxySays() throws {
    let rig = try ProxyRig()
    var peers: [String?] = []
    rig.application.onHead = { peers.append($0.exchange.peerAddress?.description) }
    rig.send(header(0x21, 0x11, ipv4) + request)
    #expect(rig.output().hasPrefix("HTTP/1.1 200"))
    rig.send(request)
    #expect(rig.output().hasPrefix("HTTP/1.1 200"))
    #expect(peers == ["192.0.2.7:4242", "192.0.2.7:4242"])
    #expect(rig.loads.openConnections == 1 && rig.server.connectionCount == 1)
  }

  @Test func aHeaderMayComeByteByByte() throws {
    let rig = try ProxyRig()
    for byte in header(0x21, 0x21, ipv6) + request { rig.send([byte]) }
    #expect(rig.output().hasPrefix("HTTP/1.1 200"))
  }

  @Test func withoutAHeaderNothingIsServed() throws {
    let rig = try ProxyRig()
    rig.send(request)
    #expect(rig.output() == "closed")
    #expect(rig.application.exchanges.isEmpty && rig.counters.badProxyHeaders.load(ordering: .relaxed) == 1)
    #expect(rig.loads.openConnections == 0 && rig.server.connectionCount == 0)
  }

  @Test func aDrainClosesWhoHasNotSaidYet() throws {
    let rig = try ProxyRig()
    rig.send(Array(header(0x21, 0x11, ipv4).prefix(5)))
    rig.server.drain()
    #expect(rig.output() == "closed" && rig.loads.openConnections == 0)
  }
}
