// A new configuration under running requests and connections.

import Base
import EventLoop
import HTTP
import TestSupport
import Testing
import Transport

@testable import Frontend

struct ReconfigurationTests {
  private func adopt(_ rig: FrontendRig, _ edit: (inout FrontendConfiguration) -> Void) {
    var configuration = rig.service.configuration
    edit(&configuration)
    let control = FrontendControl(
      shared: rig.shared,
      loops: [
        FrontendControl.Loop(
          mailbox: rig.loop.mailbox, service: LoopBound(rig.service, of: rig.loop),
          server: LoopBound(rig.server, of: rig.loop))
      ])
    control.adopt(configuration)
    rig.turn()
  }

  @Test func limitsAndStatusesHoldForTheNextRequest() throws {
    let rig = try FrontendRig()
    let caller = rig.connect()
    adopt(rig) {
      $0.bodyBytesMax = 10
      $0.bodyMemoryMax = 0
      $0.bodyWaitersMax = 0
      $0.overloadStatus = 503
    }
    rig.send(FrontendRig.head(bodyBytes: 11), on: caller)
    #expect(rig.output(caller).status == 413)
    adopt(rig) { $0.bodyBytesMax = 1_000 }
    let other = rig.connect()
    rig.send(FrontendRig.head(bodyBytes: 20) + "x", on: other)
    rig.pass(6 * second)
    #expect(rig.output(other).status == 503)
  }

  @Test func deadlinesHoldFromTheNextTimeTheyAreSet() throws {
    let rig = try FrontendRig()
    let caller = rig.connect()
    adopt(rig) {
      $0.server.headTimeout = second
      $0.server.idleTimeout = 2 * second
      $0.server.http.startLineBytesMax = 64
    }
    rig.send("POST /v1/chat", on: caller)
    rig.pass(1_100 * millisecond)
    #expect(rig.output(caller).status == 408)
    let next = rig.connect()
    rig.pass(2_100 * millisecond)
    #expect(rig.isClosed(next))
    let long = rig.connect()
    rig.send("GET /\(String(repeating: "x", count: 80)) HTTP/1.1\r\nhost: x\r\n\r\n", on: long)
    #expect(rig.output(long).status == 414)
  }

  @Test func aWorkersSilenceIsMeasuredByTheNewDeadline() throws {
    let rig = try FrontendRig()
    adopt(rig) { $0.client.silenceTimeout = second }
    let caller = rig.post(FrontendRig.chat(bytes: 100))
    _ = rig.upstreamRequest()
    rig.pass(1_100 * millisecond)
    #expect(rig.output(caller).status == 504)
  }

  @Test func aStreamEndsAsItBegan() throws {
    // Whether usage was asked for at the worker decides whether its chunk is withheld: never one without the other.
    for verbatim in [true, false] {
      let rig = try FrontendRig { $0.passBodyVerbatim = verbatim }
      let caller = rig.post(FrontendRig.chat(bytes: 100, more: ",\"stream\":true"))
      #expect(rig.upstreamRequest().contains("include_usage") == !verbatim)
      adopt(rig) { $0.passBodyVerbatim = !verbatim }
      let usage =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}\n\n"
      rig.send(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
          + "\(String(usage.utf8.count, radix: 16))\r\n\(usage)\r\n0\r\n\r\n", on: rig.dialer.last)
      #expect(rig.output(caller).contains("prompt_tokens") == verbatim)
      let next = rig.post(FrontendRig.chat(bytes: 100, more: ",\"stream\":true"))
      #expect(rig.output(next).isEmpty)
      #expect(
        String(decoding: rig.kernel.takeOutput(rig.dialer.last), as: UTF8.self).contains("include_usage")
          == verbatim)
    }
  }
}
