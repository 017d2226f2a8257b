// Asks an engine what tokens it makes of sample chats, and compares them with what this process makes of them.

internal import Base
internal import EventLoop
internal import HTTP
internal import JSON
internal import Transport

/// A chat that says something about how an engine makes prompts.
package struct PromptSample: Sendable {
  /// What is special about it, in words for a log line.
  package let name: String
  /// The request's members beside `model`, as `"messages":[…],"tools":[…]`.
  package let members: String
  /// The ids that this process makes of it.
  package let expected: [UInt32]

  package init(name: String, members: String, expected: [UInt32]) {
    self.name = name
    self.members = members
    self.expected = expected
  }
}

/// Whether a worker's engine makes the tokens that this process counts on.
package enum PromptAgreement: Sendable, Equatable {
  /// There is no tokenizer here, or the engine has not been asked yet.
  case unchecked
  /// The engine has nothing to ask it by; the text says what was tried.
  case unanswered(String)
  case agrees
  /// The samples that differ, by name.
  case differs([String])

  /// The word that `/health` shows.
  package var label: String {
    switch self {
    case .unchecked: "unchecked"
    case .unanswered: "unanswered"
    case .agrees: "agrees"
    case .differs: "differs"
    }
  }
}

/// One engine's samples, one after the other. Loop-confined.
///
/// vLLM answers `POST /tokenize` with the ids of a chat. llama.cpp renders by `POST /apply-template` and encodes by
/// `POST /tokenize`. Other engines have nothing alike.
final class PromptCheck: ProbeInFlight, ClientExchangeHandler, TimerHandler {
  private enum Step {
    /// Ids of a chat.
    case tokens
    /// Text of a chat. Next: textTokens.
    case text
    /// Ids of that text.
    case textTokens
  }

  private static let answerBytesMax = 1 << 20

  private let upstream: Upstream
  private let pool: UpstreamPool
  private let authorization: String?
  private let engine: EngineKind
  private let model: String
  private let samples: [PromptSample]
  private var report: ((PromptAgreement) -> Void)?
  private let timer = Timer()
  private var step: Step
  private var index = 0
  private var differing: [String] = []
  private var connection: UpstreamExchange?
  private var status = 0
  private var body = ByteBuffer()

  /// True for engines that can be asked.
  static func knows(_ engine: EngineKind) -> Bool {
    switch engine {
    case .vllm, .llamaCpp: true
    case .sglang, .simulated, .unknown: false
    }
  }

  /// - Parameter report: called once, never from inside ``start(timeout:)``; not after ``cancel()``.
  init(
    _ upstream: Upstream, engine: EngineKind, model: String, samples: [PromptSample], pool: UpstreamPool,
    authorization: String?, report: @escaping (PromptAgreement) -> Void
  ) {
    self.upstream = upstream
    self.engine = engine
    self.model = model
    self.samples = samples
    self.pool = pool
    self.authorization = authorization
    self.report = report
    step = engine == .llamaCpp ? .text : .tokens
  }

  /// Begins. `timeout` holds for all samples together: engines that are busy answer late.
  func start(timeout: Nanoseconds) {
    pool.loop.arm(timer, at: pool.loop.now + timeout, self)
    askNext()
  }

  func cancel() {
    report = nil
    end()
  }

  private func end() {
    pool.loop.cancel(timer)
    connection?.cancel()
    connection = nil
    body.release()
  }

  private func finish(_ agreement: PromptAgreement) {
    let report = report
    self.report = nil
    end()
    report?(agreement)
  }

  // MARK: Questions

  private func askNext() {
    guard index < samples.count else {
      finish(differing.isEmpty ? .agrees : .differs(differing))
      return
    }
    let members = samples[index].members
    var question = ByteBuffer()
    question.append(UInt8(ascii: "{"))
    if engine != .llamaCpp {
      question.append("\"model\":" as StaticString)
      question.append(jsonString: model)
      question.append("," as StaticString)
    }
    question.append(members)
    question.append(UInt8(ascii: "}"))
    post(step == .text ? "/apply-template" : "/tokenize", question.readable)
  }

  private func ask(tokensOf text: String) {
    var question = ByteBuffer()
    question.append("{\"add_special\":true,\"parse_special\":true,\"content\":" as StaticString)
    question.append(jsonString: text)
    question.append(UInt8(ascii: "}"))
    post("/tokenize", question.readable)
  }

  private func post(_ path: StaticString, _ question: UnsafeRawBufferPointer) {
    status = 0
    body.removeAll()
    connection = pool.send(to: upstream, method: .post, fresh: false, handler: self) { out in
      out.append("POST " as StaticString)
      out.append(upstream.pathPrefix)
      out.append(path)
      out.append(" HTTP/1.1\r\n" as StaticString)
      upstream.authority.withUnsafeBytes { out.header("host", $0) }
      out.append("content-type: application/json\r\n" as StaticString)
      if let authorization { out.header("authorization", text: authorization) }
      out.header("content-length", question.count)
      out.endHead()
      out.append(question)
    }
  }

  // MARK: Answers

  func responded(_ head: ResponseHead) { status = head.status }

  func received(body bytes: UnsafeRawBufferPointer) {
    guard body.count + bytes.count <= Self.answerBytesMax else {
      finish(.unanswered("its answer is too long"))
      return
    }
    body.append(bytes)
  }

  func receivedEnd(trailers: UnsafeRawBufferPointer) {
    connection = nil
    guard report != nil else { return }
    guard status == 200, let json = try? JSONValue.parse(body.readable) else {
      // A sample that only this engine refuses differs; one that has no such route cannot be asked.
      if status == 404 || status == 405 || status == 501 || index == 0 {
        finish(.unanswered("it answered \(step == .text ? "/apply-template" : "/tokenize") with \(status)"))
      } else {
        settle(nil)
      }
      return
    }
    switch step {
    case .text:
      guard let text = json["prompt"]?.string else { return settle(nil) }
      step = .textTokens
      ask(tokensOf: text)
    case .tokens, .textTokens:
      settle(json["tokens"]?.array?.map(\.integer))
    }
  }

  func failed(_ failure: UpstreamFailure) {
    connection = nil
    guard report != nil else { return }
    finish(.unanswered("it did not answer"))
  }

  func timerFired(_ timer: Timer) { finish(.unanswered("it did not answer in time")) }

  private func settle(_ tokens: [Int?]?) {
    let sample = samples[index]
    if tokens != sample.expected.map({ Int($0) }) { differing.append(sample.name) }
    index += 1
    if step == .textTokens { step = .text }
    askNext()
  }
}
