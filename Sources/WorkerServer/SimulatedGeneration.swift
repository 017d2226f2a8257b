// The answer of the simulated engine: its tokens as events of a stream, or gathered into one body.

internal import Base
internal import Engine
internal import EventLoop
internal import HTTP
internal import OpenAI
internal import Transport
internal import Workers

/// One request in the simulated engine: a choice for each sequence.
final class SimulatedGeneration: Generation {
  private let exchange: InferenceExchange
  private let backend: SimulatedBackend
  private var choices: [SimulatedChoice] = []
  private var open = 0
  private let wanted: SimulationRequest
  private let id: String
  private let created: Int
  private let writer: CompletionStreamWriter
  /// Writes the answers of the Responses API, which has one choice.
  private var response: ResponseWriter
  private let isResponse: Bool
  /// The prompt's blocks are for another engine, which the answer tells where they are.
  var keepsBlocks = false
  private var isPaused = false
  private var outputTokens = 0

  init(_ exchange: InferenceExchange, _ wanted: SimulationRequest, backend: SimulatedBackend) {
    self.exchange = exchange
    self.wanted = wanted
    self.backend = backend
    var id = ByteBuffer(capacity: 36)
    id.append(exchange.identity.requestID)
    self.id = id.text
    created = Int(clamping: exchange.worker.loop.system.wallNanoseconds() / second)
    writer = CompletionStreamWriter(
      endpoint: exchange.endpoint, id: id.text, created: created, model: exchange.model,
      sendsUsage: wanted.includeUsage)
    response = ResponseWriter(id: id.text, created: created, model: exchange.model)
    if case .responses = exchange.endpoint { isResponse = true } else { isResponse = false }
  }

  /// Adds a choice for the prompt of that index, to be given to the engine.
  func addChoice(prompt: Int) -> SimulatedChoice {
    let choice = SimulatedChoice(index: choices.count, prompt: prompt, generation: self)
    choice.form = wanted.form.map { SimulatedForm($0, id: "\(id)-\(choice.index)") }
    if wanted.wantsLogprobs { choice.logprobs = SimulatedLogprobs(topCount: wanted.topLogprobs) }
    choices.append(choice)
    open += 1
    return choice
  }

  /// The request is refused: what was submitted already is taken back.
  func withdraw() {
    for choice in choices {
      if let sequence = choice.sequence { _ = backend.cancel(sequence) }
      choice.end()
    }
  }

  func cancel() {
    guard open > 0 else { return }
    exchange.report.isCancelled = true
    for choice in choices {
      guard choice.finish == nil, let sequence = choice.sequence else { continue }
      choice.usage = backend.cancel(sequence)
      choice.end()
    }
    open = 0
    fillReport()
  }

  func outputDrained() {
    guard isPaused else { return }
    isPaused = false
    for choice in choices where choice.finish == nil {
      if let sequence = choice.sequence { backend.resume(sequence) }
    }
  }

  // MARK: Tokens

  fileprivate func produced(_ text: UnsafeRawBufferPointer, by choice: SimulatedChoice) {
    let worker = exchange.worker
    exchange.report.sawToken(at: worker.loop.now)
    outputTokens += 1
    if !text.isEmpty { choice.logprobs?.add(text) }
    guard wanted.stream else {
      choice.text.append(contentsOf: text)
      return
    }
    if !exchange.hasBegun { beginStream() }
    worker.scratch.removeAll()
    if isResponse {
      if !choice.hasBegun { response.writeStart(into: &worker.scratch) }
      choice.hasBegun = true
      if !text.isEmpty { response.writeText(text, into: &worker.scratch) }
      exchange.send(worker.scratch.readable)
      if exchange.outputIsFull { pause() }
      return
    }
    if !choice.hasBegun {
      choice.hasBegun = true
      writer.writeRole(
        choice: choice.index, usage: continuousUsage(choice, outputTokens: 0), into: &worker.scratch)
      if let call = choice.form?.call { writer.writeCall(call, choice: choice.index, into: &worker.scratch) }
    }
    // While a stop string may be beginning there is nothing to show.
    if !text.isEmpty {
      let (index, usage, logprobs) = (
        choice.index, continuousUsage(choice, outputTokens: outputTokens), choice.logprobs?.take() ?? []
      )
      if choice.form?.call == nil {
        writer.writeText(text, choice: index, usage: usage, logprobs: logprobs, into: &worker.scratch)
      } else {
        writer.writeArguments(text, choice: index, usage: usage, logprobs: logprobs, into: &worker.scratch)
      }
    }
    exchange.send(worker.scratch.readable)
    if exchange.outputIsFull { pause() }
  }

  fileprivate func finished(_ summary: SequenceSummary, _ choice: SimulatedChoice) {
    choice.usage = summary.usage
    choice.finish = choice.form?.finish ?? (summary.reason == .stop ? .stop : .length)
    open -= 1
    if wanted.stream, !isResponse, let reason = choice.finish {
      let worker = exchange.worker
      worker.scratch.removeAll()
      writer.writeFinish(reason, choice: choice.index, into: &worker.scratch)
      exchange.send(worker.scratch.readable)
    }
    choice.end()
    if open == 0 { complete() }
  }

  private func beginStream() {
    var fields = ByteBuffer(capacity: 128)
    fields.header("content-type", "text/event-stream; charset=utf-8" as StaticString)
    fields.header("cache-control", "no-cache" as StaticString)
    fields.header("x-accel-buffering", "no" as StaticString)
    exchange.respond(status: 200, fields: fields.readable, body: .stream)
  }

  /// The caller reads too slowly: no more tokens until it has caught up.
  private func pause() {
    guard !isPaused else { return }
    isPaused = true
    for choice in choices where choice.finish == nil {
      if let sequence = choice.sequence { backend.pause(sequence) }
    }
  }

  private func continuousUsage(_ choice: SimulatedChoice, outputTokens: Int) -> Usage? {
    guard wanted.continuousUsage, wanted.includeUsage, let sequence = choice.sequence else { return nil }
    let usage = sequence.usage(at: exchange.worker.loop.now)
    return Usage(
      promptTokens: usage.promptTokens, completionTokens: outputTokens, cachedTokens: usage.cachedTokens)
  }

  // MARK: The end

  private func complete() {
    fillReport()
    let worker = exchange.worker
    let usage = Usage(
      promptTokens: exchange.report.inputTokens ?? 0, completionTokens: exchange.report.outputTokens ?? 0,
      cachedTokens: exchange.report.cachedTokens)
    worker.scratch.removeAll()
    if isResponse {
      completeResponse(usage)
      return
    }
    if wanted.stream {
      if wanted.includeUsage { writer.writeUsage(usage, into: &worker.scratch) }
      CompletionStreamWriter.writeDone(into: &worker.scratch)
    } else {
      var answer = CompletionAnswer(
        endpoint: exchange.endpoint, id: id, created: created, model: exchange.model,
        choices: choices.map { choice in
          CompletionAnswer.Choice(
            text: choice.text, finishReason: choice.finish ?? .none, call: choice.form?.call,
            logprobs: choice.logprobs?.take() ?? [])
        },
        usage: usage)
      if keepsBlocks, let sequence = choices.first?.sequence {
        let shared = worker.shared
        answer.transfer = KeptBlocks(
          engine: "sim-\(shared.identity.instanceID)", host: shared.configuration.reachedHost,
          port: Int(shared.configuration.port), blocks: sequence.promptBlockNames)
      }
      answer.write(into: &worker.scratch)
      var fields = ByteBuffer(capacity: 64)
      fields.header("content-type", "application/json" as StaticString)
      exchange.respond(status: 200, fields: fields.readable, body: .length(worker.scratch.count))
    }
    exchange.send(worker.scratch.readable)
    exchange.finish()
  }

  private func completeResponse(_ usage: Usage) {
    let worker = exchange.worker
    let finish = choices.first?.finish ?? .stop
    if wanted.stream {
      if !exchange.hasBegun {
        beginStream()
        response.writeStart(into: &worker.scratch)
      }
      response.writeEnd(finish, usage: usage, into: &worker.scratch)
    } else {
      response.write(choices.first?.text ?? [], finish, usage: usage, into: &worker.scratch)
      var fields = ByteBuffer(capacity: 64)
      fields.header("content-type", "application/json" as StaticString)
      exchange.respond(status: 200, fields: fields.readable, body: .length(worker.scratch.count))
    }
    exchange.send(worker.scratch.readable)
    exchange.finish()
  }

  /// Prompts count once however many choices each has; times are those of the first choice.
  private func fillReport() {
    exchange.report.ended = exchange.worker.loop.now
    var input = 0
    var cached = 0
    var output = 0
    var prompts = 0
    for choice in choices {
      guard let usage = choice.usage else { continue }
      output += usage.outputTokens
      guard choice.prompt == prompts else { continue }
      prompts += 1
      input += usage.promptTokens
      cached += usage.cachedTokens
    }
    exchange.report.inputTokens = input
    exchange.report.cachedTokens = cached
    exchange.report.outputTokens = output
    guard let first = choices.first, let usage = first.usage else { return }
    exchange.report.queueTime = usage.queueTime
    if usage.outputTokens > 0 {
      exchange.report.prefillTime = usage.prefillTime
      exchange.report.decodeTime = usage.decodeTime
    }
    if let reason = first.finish?.name { exchange.report.finishReason = "\(reason)" }
  }
}

/// One sequence of a generation.
final class SimulatedChoice: SequenceClient {
  let index: Int
  let prompt: Int
  var sequence: EngineSequence?
  var usage: SequenceUsage?
  var finish: CompletionFinish?
  var hasBegun = false
  /// The whole text, of an answer that is not streamed.
  var text: [UInt8] = []
  /// What is said instead of the engine's words; nil for these.
  var form: SimulatedForm?
  /// What is told of its tokens; nil where nobody asks.
  var logprobs: SimulatedLogprobs?
  private var generation: SimulatedGeneration?

  init(index: Int, prompt: Int, generation: SimulatedGeneration) {
    self.index = index
    self.prompt = prompt
    self.generation = generation
  }

  /// Nothing more comes; lets go of the generation, which holds this choice.
  func end() { generation = nil }

  func produced(_ text: UnsafeRawBufferPointer) {
    guard let piece = form?.next() else {
      generation?.produced(text, by: self)
      return
    }
    piece.withUnsafeBytes { generation?.produced($0, by: self) }
  }

  func finished(_ summary: SequenceSummary) { generation?.finished(summary, self) }
}
