// One blocking HTTP request at a time, for probes and for the control of our own workers and sinks.

import Base
import CSystem
import EventLoop
import Glibc

/// Short requests outside of any measurement.
enum ControlClient {
  /// The body of `GET path` from 127.0.0.1; nil unless the answer is a 200.
  static func get(port: UInt16, _ path: String) -> String? {
    exchange(port: port, "GET \(path) HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
  }

  /// True when a chat completion for `model` is answered with 200.
  static func canComplete(port: UInt16, model: String) -> Bool {
    let body =
      "{\"messages\":[{\"role\":\"user\",\"content\":\"ready?\"}],\"model\":\(quoted(model)),\"max_tokens\":1}"
    let request =
      "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
      + "content-length: \(body.utf8.count)\r\nconnection: close\r\n\r\n\(body)"
    return exchange(port: port, request) != nil
  }

  private static func exchange(port: UInt16, _ request: String) -> String? {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var patience = timeval(tv_sec: 2, tv_usec: 0)
    let size = socklen_t(MemoryLayout<timeval>.size)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, size)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    let connected = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard connected == 0, writeAll(descriptor, request) else { return nil }
    return readAnswer(descriptor)
  }

  private static func readAnswer(_ descriptor: Int32) -> String? {
    var reader = MessageReader(isRequest: false)
    var inbound = ByteBuffer()
    var body = ByteBuffer()
    var status = 0
    while true {
      let count = read(descriptor, inbound.reserve(16 * 1024), 16 * 1024)
      guard count > 0 else { return count == 0 && reader.endsAtClose && status == 200 ? body.text : nil }
      inbound.commit(count)
      var offset = 0
      pieces: while true {
        switch reader.next(inbound.readable, &offset) {
        case .needMore: break pieces
        case .head(let lines): status = MessageReader.status(lines) ?? 0
        case .body(let bytes): body.append(bytes)
        case .end: return status == 200 ? body.text : nil
        case .broken: return nil
        }
      }
      inbound.consume(offset)
    }
  }
}
