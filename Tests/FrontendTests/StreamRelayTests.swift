// The inner loop of a stream, cut at every byte: what the caller gets, what is counted, what is withheld.

import Base
import EventLoop
import HTTP
import OpenAI
import TestSupport
import Testing
import Transport

@testable import Frontend

/// Keeps what was sent.
private final class SinkExchange: ServerExchange {
  let loop: EventLoop
  var sent: [UInt8] = []

  init() throws { loop = try EventLoop(index: 0, system: FakeKernel(), seed: 1) }

  func respond(status: Int, fields: UnsafeRawBufferPointer, body: ResponseBody) {}
  func send(_ bytes: UnsafeRawBufferPointer) { sent += bytes }
  func finish(trailers: UnsafeRawBufferPointer) {}
  func abort(_ end: EndOfStream) {}
  var outputIsFull: Bool { false }
  func pauseBody() {}
  func resumeBody() {}
  func closeAfterResponse() {}
  var peerAddress: SocketAddress? { nil }
}

private func chunk(_ text: String) -> String {
  "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\(text)\"},"
    + "\"finish_reason\":null}]}\n\n"
}

private let finish =
  "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n"
private let usage =
  "data: {\"id\":\"x\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,\"total_tokens\":9}}\n\n"
private let done = "data: [DONE]\n\n"

struct StreamRelayTests {
  /// Relays `pieces` and returns what came out, with the relay's account.
  private func relay(_ pieces: [[UInt8]], withholds: Bool) throws -> (
    text: String, tokens: Int, usage: Usage?, done: Bool, finished: Bool
  ) {
    let exchange = try SinkExchange()
    var relay = StreamRelay()
    relay.withholdsUsage = withholds
    var tokens = 0
    for piece in pieces {
      piece.withUnsafeBytes { tokens += relay.relay($0, to: exchange) }
    }
    relay.flush(to: exchange)
    return (
      String(decoding: exchange.sent, as: UTF8.self), tokens, relay.usage, relay.sawDone, relay.hasFinished
    )
  }

  @Test(arguments: [true, false])
  func everySplitGivesTheSameStream(withholds: Bool) throws {
    let stream = chunk("a") + ": comment\n\n" + chunk("b") + finish + usage + done
    let expected = withholds ? stream.replacing(usage, with: "") : stream
    let bytes = Array(stream.utf8)
    for cut in 0...bytes.count {
      let result = try relay([Array(bytes[..<cut]), Array(bytes[cut...])], withholds: withholds)
      #expect(result.text == expected, "cut at \(cut)")
      #expect(result.tokens == 2)
      #expect(result.usage?.completionTokens == 2)
      #expect(result.done)
      #expect(result.finished)
    }
  }

  @Test func byteByByteNothingIsLost() throws {
    let stream = chunk("a") + chunk("b") + usage + done
    let result = try relay(stream.utf8.map { [$0] }, withholds: true)
    #expect(result.text == chunk("a") + chunk("b") + done)
    #expect(result.tokens == 2)
  }

  @Test func aUsageChunkThatTheCallerAskedForStays() throws {
    let result = try relay([Array((chunk("a") + usage + done).utf8)], withholds: false)
    #expect(result.text.contains("\"usage\""))
  }

  @Test func whatNeverBecomesAnEventIsStillPassedOn() throws {
    let result = try relay([Array((chunk("a") + "data: {\"half").utf8)], withholds: true)
    #expect(result.text.hasSuffix("data: {\"half"))
    #expect(!result.done)
  }

  @Test func anEventBeyondTheBoundPassesUnread() throws {
    let huge = "data: " + String(repeating: "x", count: StreamRelay.eventBytesMax + 10)
    let result = try relay([Array(huge.utf8), Array(("\n\n" + usage).utf8)], withholds: true)
    #expect(result.text == huge + "\n\n" + usage)
  }
}
