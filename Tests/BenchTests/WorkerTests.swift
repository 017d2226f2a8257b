// The fake worker's reading of requests, the prompts that it is sent, and the sink's counting.

import Base
import Protobuf
import Testing

@testable import dynamo_bench

@Suite struct WorkerTests {
  private func scan(_ text: String) -> RequestScan? {
    Array(text.utf8).withUnsafeBytes { RequestScan.scan($0) }
  }

  @Test func membersOfTheRequestAreFound() throws {
    let request = try #require(
      scan(
        #"{"messages":[{"role":"user","content":"say \"stream\":true \\"}],"max_tokens": 12,"stream": true,"#
          + #""stream_options":{"include_usage":true}}"#))
    #expect(request.stream && request.includeUsage && request.maxTokens == 12)
    #expect(request.messages == 12)
  }

  @Test func membersInsideOtherObjectsDoNotCount() throws {
    let request = try #require(
      scan(#"{"metadata":{"stream":true,"max_tokens":3,"include_usage":true},"messages":[]}"#))
    #expect(!request.stream && !request.includeUsage && request.maxTokens == nil)
  }

  @Test func openStringsAndBracketsAreNoRequest() {
    #expect(scan(#"{"messages":["#) == nil)
    #expect(scan(#"{"messages":"abc"#) == nil)
    #expect(scan("") == nil)
  }

  @Test func paceIsChangedByQuery() {
    let pace = FakeWorker.pace(Pace(), changedBy: "ttft_ms=20&itl_ms=10&step=1")
    #expect(
      pace?.firstTokenDelay == 20 * millisecond && pace?.tokenGap == 10 * millisecond && pace?.step == true)
    #expect(FakeWorker.pace(Pace(), changedBy: "ttft=20") == nil)
    #expect(FakeWorker.pace(Pace(), changedBy: "ttft_ms=-1") == nil)
  }

  @Test func promptsOfAGroupShareNineTenths() {
    var source = PromptSource(words: 100, groups: 2, seed: 5)
    var prompts: [[UInt8]] = []
    for _ in 0..<20 {
      var buffer = ByteBuffer()
      source.append(to: &buffer)
      prompts.append(buffer.bytes)
    }
    #expect(prompts.allSatisfy { $0.count == 400 })
    // Two groups, and no two prompts equal beyond what their group shares.
    #expect(Set(prompts.map { Array($0.prefix(360)) }).count == 2)
    #expect(Set(prompts.map { Array($0.prefix(4)) }).count == 2)
    #expect(Set(prompts.map { Array($0.prefix(360 + 16)) }).count == prompts.count)
  }

  @Test func seedsDecidePrompts() {
    func first(_ seed: UInt64) -> [UInt8] {
      var source = PromptSource(words: 20, groups: 0, seed: seed)
      var buffer = ByteBuffer()
      source.append(to: &buffer)
      return buffer.bytes
    }
    #expect(first(1) == first(1))
    #expect(first(1) != first(2))
  }

  @Test func spansAreCountedByLengthAlone() {
    func message(_ number: Int, _ parts: [[UInt8]]) -> [UInt8] {
      var out = ByteBuffer()
      for part in parts { part.withUnsafeBytes { out.append(field: number, bytes: $0) } }
      return out.bytes
    }
    let spans = message(2, [[1, 2, 3], [], [0xff]])
    let scopes = message(2, [spans, spans]) + message(1, [[9]])
    let request = message(1, [scopes, scopes])
    #expect(request.withUnsafeBytes { SpanCount.of($0) } == 12)
    #expect([UInt8]([0x0a, 0x05, 0x12]).withUnsafeBytes { SpanCount.of($0) } == nil)
  }
}
