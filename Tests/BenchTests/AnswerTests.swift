// What the load generator accepts and refuses, cut at every place where a socket might cut it.

import Base
import Testing

@testable import dynamo_bench

/// A checker fed through the reader, as a connection does it.
private struct Answer {
  let options: LoadOptions
  let measurements = Measurements()

  init(stream: Bool, tokens: Int, usage: Bool = false) {
    var workload = Preset.b.workload
    workload.stream = stream
    workload.tokens = tokens
    options = LoadOptions(targets: [], workload: workload, includeUsage: usage)
  }

  /// The failure found in `bytes` when they come in two parts cut at `cut`.
  func failure(_ bytes: [UInt8], cut: Int) -> FailureKind? {
    let check = AnswerCheck(options)
    check.begin(at: 0)
    var reader = MessageReader(isRequest: false)
    var held: [UInt8] = []
    var ended = false
    for part in [bytes[..<cut], bytes[cut...]] {
      held += part
      var offset = 0
      held.withUnsafeBytes { input in
        pieces: while true {
          switch reader.next(input, &offset) {
          case .head(let lines): check.head(lines)
          case .body(let body): check.body(body, at: 1, measurements)
          case .end:
            check.end()
            ended = true
          case .needMore: break pieces
          case .broken:
            check.fail(.framing, "broken")
            ended = true
            break pieces
          }
        }
      }
      held.removeFirst(offset)
    }
    return ended ? check.failure?.kind : .closed
  }

  /// The failure found at every cut; they must agree.
  func failure(_ bytes: [UInt8]) -> FailureKind? {
    let whole = failure(bytes, cut: bytes.count)
    for cut in 0..<bytes.count { #expect(failure(bytes, cut: cut) == whole, "cut at \(cut)") }
    return whole
  }
}

private func stream(_ numbers: [Int], usage: Int? = nil, done: Bool = true) -> [UInt8] {
  var out = ByteBuffer()
  AnswerTemplates.appendStreamHead(to: &out, closes: false)
  for number in numbers {
    let start = out.count
    let offset = AnswerTemplates.appendToken(
      to: &out, answer: 7, model: "bench", isLast: number == numbers.last)
    guard let base = out.readable.baseAddress else { continue }
    AnswerTemplates.write(number, at: UnsafeMutableRawPointer(mutating: base + start + offset))
  }
  var end = ByteBuffer()
  AnswerTemplates.appendStreamEnd(
    to: &end, answer: 7, model: "bench", promptTokens: 3, tokens: usage ?? 0, includeUsage: usage != nil)
  let text = done ? end.text : end.text.replacing("e\r\ndata: [DONE]\n\n\r\n", with: "")
  return out.bytes + Array(text.utf8)
}

@Suite struct AnswerTests {
  @Test func goodStreamPasses() {
    let answer = Answer(stream: true, tokens: 3)
    #expect(answer.failure(stream([1, 2, 3])) == nil)
    #expect(answer.measurements.firstToken.count > 0)
  }

  @Test func lostDoubledAndSwappedTokensAreSeen() {
    let answer = Answer(stream: true, tokens: 3)
    #expect(answer.failure(stream([1, 3])) == .order)
    #expect(answer.failure(stream([1, 1, 2, 3])) == .order)
    #expect(answer.failure(stream([2, 1, 3])) == .order)
    #expect(answer.failure(stream([1, 2])) == .count)
  }

  @Test func streamWithoutDoneIsSeen() {
    #expect(Answer(stream: true, tokens: 2).failure(stream([1, 2], done: false)) == .done)
  }

  @Test func usageMustComeExactlyWhenAskedFor() {
    #expect(Answer(stream: true, tokens: 2, usage: true).failure(stream([1, 2], usage: 2)) == nil)
    #expect(Answer(stream: true, tokens: 2, usage: true).failure(stream([1, 2])) == .usage)
    #expect(Answer(stream: true, tokens: 2, usage: true).failure(stream([1, 2], usage: 9)) == .usage)
    #expect(Answer(stream: true, tokens: 2).failure(stream([1, 2], usage: 2)) == .usage)
  }

  @Test func cutStreamIsNoAnswer() {
    let bytes = stream([1, 2])
    #expect(Answer(stream: true, tokens: 2).failure(Array(bytes.dropLast(3)), cut: 40) == .closed)
  }

  @Test func wholeAnswerPassesAndIsCounted() {
    var out = ByteBuffer()
    AnswerTemplates.appendUnary(
      to: &out, answer: 1, model: "bench", promptTokens: 5, tokens: 4, closes: false)
    #expect(Answer(stream: false, tokens: 4).failure(out.bytes) == nil)
    #expect(Answer(stream: false, tokens: 5).failure(out.bytes) == .count)
    #expect(Answer(stream: false, tokens: 3).failure(out.bytes) == .order)
  }

  @Test func errorStatusIsAFailure() {
    let text = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}"
    #expect(Answer(stream: true, tokens: 1).failure(Array(text.utf8)) == .status)
  }

  @Test func brokenChunkIsAFramingFailure() {
    let text =
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
    #expect(Answer(stream: true, tokens: 1).failure(Array(text.utf8), cut: 0) == .framing)
  }
}
