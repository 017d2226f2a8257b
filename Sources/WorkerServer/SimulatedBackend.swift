// The simulated engine on a loop: driven by the loop's clock, spoken to by exchanges.

internal import Base
internal import Engine
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Prompts
internal import Telemetry
internal import Tokenizer
internal import Transport

/// Runs one ``SimulatedEngine`` on one loop.
final class SimulatedBackend: EngineBackend, TimerHandler, TickHandler {
  private let engine: SimulatedEngine
  private let worker: WorkerLoop
  private let timer = Timer()
  private var isQueued = false

  /// `observer` hears of every change of the engine's cache.
  init(
    _ configuration: EngineConfiguration, observer: (any BlockObserver)? = nil, on worker: WorkerLoop
  ) {
    engine = SimulatedEngine(configuration, observer: observer)
    self.worker = worker
    worker.shared.metrics.totalBlocks.set(configuration.blockCount)
  }

  let endpoints: EndpointSet = SimulatedBackend.served

  /// What it answers. Anthropic's API is left to the frontend, which translates it.
  static let served = EndpointSet([.chatCompletions, .completions, .embeddings, .responses, .rerank, .score])

  /// Sequences that one request may ask for: prompts times choices.
  static let sequencesPerRequestMax = 128

  func generate(
    for exchange: InferenceExchange, _ request: InferenceRequest
  ) throws(APIError) -> any Generation {
    let body = exchange.body.readable
    if !exchange.endpoint.generates { return try answerAtOnce(exchange, body) }
    if request.previousResponse != nil { throw Self.noPreviousResponse }
    if case .chatCompletions = exchange.endpoint, let begun = ContinuedChat(body),
      let said = begun.text.withUnsafeBytes({ SimulatedText.tokens(of: $0) })
    {
      // Its prompt is what the answer was begun for: what was said already follows as if it had been said here.
      let whole = try InferenceRequest.parse(begun.body.readable, endpoint: .chatCompletions)
      return try generate(for: exchange, whole, begun.body.readable, resuming: said)
    }
    return try generate(for: exchange, request, body, resuming: [])
  }

  /// Generates behind the tokens that were `said` already.
  private func generate(
    for exchange: InferenceExchange, _ request: InferenceRequest, _ body: UnsafeRawBufferPointer,
    resuming said: [UInt32]
  ) throws(APIError) -> any Generation {
    var wanted = try SimulationRequest.parse(body, endpoint: exchange.endpoint)
    // What was begun as words goes on as words.
    if !said.isEmpty { wanted.form = nil }
    let (sequences, overflow) = wanted.prompts.count.multipliedReportingOverflow(by: wanted.choices)
    guard !overflow, sequences <= Self.sequencesPerRequestMax else {
      throw .invalidValue(
        "n", reason: "at most \(Self.sequencesPerRequestMax) answers can be asked for at once")
    }
    let generation = SimulatedGeneration(exchange, wanted, backend: self)
    let prompts = tokens(of: wanted, body) ?? prompts(of: wanted, request, body)
    for (index, prompt) in prompts.enumerated() {
      for choice in 0..<wanted.choices {
        do throws(EngineRefusal) {
          try submit(prompt, said, wanted, choice: choice, to: generation.addChoice(prompt: index))
        } catch {
          generation.withdraw()
          throw Self.error(for: error, endpoint: exchange.endpoint)
        }
      }
    }
    exchange.releaseBody()
    changed()
    return generation
  }

  /// Embeddings and scores.
  private func answerAtOnce(
    _ exchange: InferenceExchange, _ body: UnsafeRawBufferPointer
  ) throws(APIError) -> any Generation {
    var id = ByteBuffer(capacity: 36)
    id.append(exchange.identity.requestID)
    var answers = SimulatedAnswers(
      id: id.text, created: Int(clamping: worker.loop.system.wallNanoseconds() / second),
      model: exchange.model)
    switch exchange.endpoint {
    case .rerank: try answers.rerank(body)
    case .score: try answers.score(body)
    default: try answers.embed(try SimulationRequest.parse(body, endpoint: exchange.endpoint))
    }
    exchange.report.inputTokens = answers.promptTokens
    exchange.report.ended = worker.loop.now
    var fields = ByteBuffer(capacity: 64)
    fields.header("content-type", "application/json" as StaticString)
    exchange.respond(status: 200, fields: fields.readable, body: .length(answers.answer.count))
    exchange.send(answers.answer.readable)
    exchange.finish()
    return SettledGeneration()
  }

  /// 404: this engine keeps no responses.
  private static let noPreviousResponse = APIError(
    status: 404, code: "previous_response_not_found", param: "previous_response_id",
    message: "The simulated engine keeps no responses.")

  private func submit(
    _ prompt: [UInt8], _ said: [UInt32], _ wanted: SimulationRequest, choice: Int, to client: SimulatedChoice
  ) throws(EngineRefusal) {
    let now = worker.loop.now
    let result = prompt.withUnsafeBytes { bytes -> Result<EngineSequence, EngineRefusal> in
      var request = EngineRequest(prompt: bytes)
      request.resumedTokens = said
      request.outputTokensMax = wanted.maxTokens.map { $0 &+ said.count }
      request.stops = wanted.stop
      if let form = wanted.form {
        // As many tokens as the form's text has, and no end before it.
        let count = SimulatedForm.tokenCount(of: form)
        request.outputTokensMax = min(count, request.outputTokensMax ?? count)
        request.stops = []
      }
      request.variation =
        UInt64(choice) &+ UInt64(bitPattern: Int64(wanted.seed ?? 0)) &* 0x9e37_79b9_7f4a_7c15
      request.cacheSalt = wanted.cacheSalt
      return Result { () throws(EngineRefusal) in try engine.submit(request, client: client, now: now) }
    }
    client.sequence = try result.get()
  }

  /// The bytes of each prompt: those of the model's tokens where there is a tokenizer, as the frontend makes them. What it
  /// cannot encode, which the frontend does not count in tokens either, goes in as without one.
  private func tokens(of wanted: SimulationRequest, _ body: UnsafeRawBufferPointer) -> [[UInt8]]? {
    guard wanted.prompts.count == 1, let tokenizer = worker.shared.configuration.tokenizer else { return nil }
    let encoder = tokenizer.takeEncoder()
    defer { tokenizer.putBack(encoder) }
    do throws(PromptFailure) {
      try encoder.encode(promptOf: body, wanted.endpoint, clock: worker.loop.system)
    } catch {
      return nil
    }
    return [encoder.ids.buffer.flatMap { id in withUnsafeBytes(of: id.littleEndian) { Array($0) } }]
  }

  /// The bytes of each prompt. One text goes in as the frontend hashes it, so that its predictions and the cache agree
  /// block by block; token ids are four bytes each.
  private func prompts(
    of wanted: SimulationRequest, _ request: InferenceRequest, _ body: UnsafeRawBufferPointer
  ) -> [[UInt8]] {
    if wanted.prompts.count == 1, case .text = wanted.prompts[0] {
      if let slice = request.canonicalSlice(of: body) { return [Array(slice)] }
      var canonical = ByteBuffer(capacity: body.count)
      request.canonical(of: body, into: &canonical)
      return [canonical.bytes]
    }
    return wanted.prompts.map { prompt in
      switch prompt {
      case .text(let text): text
      case .tokens(let tokens):
        tokens.flatMap { token in withUnsafeBytes(of: token.littleEndian) { Array($0) } }
      }
    }
  }

  private static func error(for refusal: EngineRefusal, endpoint: Endpoint) -> APIError {
    switch refusal {
    case .queueFull: return .overloaded()
    case .promptTooLong(let tokens, let limit):
      let param: String
      switch endpoint {
      case .completions: param = "prompt"
      case .responses: param = "input"
      default: param = "messages"
      }
      return APIError(
        status: 400, code: "context_length_exceeded", param: param,
        message: "The prompt has \(tokens) tokens; with at least one token of output it must fit in \(limit)."
      )
    case .outputTooLong(let tokens, let limit):
      return .invalidValue(
        "max_tokens", reason: "\(tokens) is more than the model's length of \(limit) tokens")
    }
  }

  // MARK: Sequences

  func cancel(_ sequence: EngineSequence) -> SequenceUsage {
    let usage = engine.cancel(sequence, now: worker.loop.now)
    changed()
    return usage
  }

  func pause(_ sequence: EngineSequence) { engine.pause(sequence) }

  func resume(_ sequence: EngineSequence) {
    engine.resume(sequence)
    changed()
  }

  /// Forgets the cache; false while a request uses it.
  func resetPrefixCache() -> Bool { engine.resetPrefixCache() }

  // MARK: Time

  /// Something happened that the engine should look at once this wake-up's events are all in.
  private func changed() {
    guard !isQueued else { return }
    isQueued = true
    worker.loop.atEndOfTick(self)
  }

  func endOfTick() {
    isQueued = false
    pump()
  }

  func timerFired(_ timer: Timer) { pump() }

  private func pump() {
    let loop = worker.loop
    engine.advance(to: loop.now)
    let load = engine.load
    worker.shared.metrics.cacheUsage.set(Double(load.activeBlocks) / Double(load.totalBlocks))
    if load.promptTokens > 0 {
      worker.shared.metrics.cacheHitRate.set(Double(load.cachedTokens) / Double(load.promptTokens))
    }
    guard let deadline = engine.nextDeadline else {
      loop.cancel(timer)
      return
    }
    // A step that takes no time: the next one follows after others had their turn.
    if deadline <= loop.now { changed() } else { loop.arm(timer, at: deadline, self) }
  }

  func close() { worker.loop.cancel(timer) }
}

/// A generation that was over when it began.
private final class SettledGeneration: Generation {
  func cancel() {}
  func outputDrained() {}
}
