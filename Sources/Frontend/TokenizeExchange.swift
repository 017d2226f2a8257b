// `/tokenize` and `/detokenize`, in vLLM's form: the body goes to the preprocess pool and comes back as an answer.

internal import Base
internal import EventLoop
internal import HTTP
internal import JSON
internal import OpenAI
internal import Tokenizer
internal import Transport
internal import Workers

/// One of the two routes.
enum TokenizeRoute: Sendable {
  case tokenize, detokenize
}

/// Takes the body of one such request and answers it. It is neither traced nor logged, as the system's routes are not.
final class TokenizeExchange: ServerExchangeHandler {
  /// Longest body: an answer has up to eight bytes for each of its bytes.
  static let bodyBytesMax = 4 << 20

  private enum Phase { case reading, pooled, answered }

  private let service: FrontendLoop
  private let exchange: any ServerExchange
  private let route: TokenizeRoute
  private let model: ModelTokenizer?
  private var phase = Phase.reading
  private var body = ByteBuffer()
  /// What the body holds of the memory that all bodies share; the job has it while the pool works.
  private var bodyMemory = 0

  init(service: FrontendLoop, exchange: any ServerExchange, route: TokenizeRoute) {
    self.service = service
    self.exchange = exchange
    self.route = route
    model = service.configuration.tokenizer
    if model == nil {
      refuse(.noTokenizer)
    } else if service.shared.isRefusingWork {
      refuse(.draining())
    }
  }

  func received(body bytes: UnsafeRawBufferPointer) {
    guard case .reading = phase else { return }
    let limit = min(service.configuration.bodyBytesMax, Self.bodyBytesMax)
    guard body.count + bytes.count <= limit else { return refuse(.bodyTooLarge(limitBytes: limit)) }
    guard service.shared.reserveBodyMemory(bytes.count) else {
      return refuse(.overloaded(status: service.configuration.overloadStatus, .bodyMemory))
    }
    bodyMemory += bytes.count
    body.append(bytes)
  }

  func receivedEnd() {
    guard case .reading = phase, let model else { return }
    let job = TokenizeJob(route: route, model: model, exchange: self, service: service)
    swap(&job.body, &body)
    guard service.shared.pool.submit(job, from: service.loop.mailbox) else {
      return refuse(.overloaded(status: service.configuration.overloadStatus, .preprocessing))
    }
    phase = .pooled
    job.bodyMemory = bodyMemory
    bodyMemory = 0
  }

  /// The job is home; the caller may be gone.
  func returned(_ job: TokenizeJob) {
    service.releaseBodyMemory(job.bodyMemory)
    guard case .pooled = phase else { return }
    if let error = job.failure { refuse(error) } else { answer(200, job.answer.readable) }
  }

  func drained() {}

  func stopping() { if phase != .answered { refuse(.draining()) } }

  func ended(_ end: EndOfStream) {
    phase = .answered
    releaseMemory()
  }

  private func refuse(_ error: APIError) {
    var text = ByteBuffer(capacity: 256)
    error.write(into: &text, format: service.configuration.errorFormat)
    answer(error.status, text.readable, retryAfter: error.retryAfterSeconds)
  }

  private func answer(_ status: Int, _ text: UnsafeRawBufferPointer, retryAfter: Int? = nil) {
    phase = .answered
    releaseMemory()
    var fields = ByteBuffer(capacity: 128)
    fields.append("content-type: application/json\r\ncache-control: no-store\r\n" as StaticString)
    if let retryAfter { fields.header("retry-after", retryAfter) }
    exchange.respond(status: status, fields: fields.readable, body: .length(text.count))
    exchange.send(text)
    exchange.finish(trailers: UnsafeRawBufferPointer(start: nil, count: 0))
  }

  private func releaseMemory() {
    service.releaseBodyMemory(bodyMemory)
    bodyMemory = 0
    body.release()
  }
}

/// A body on its way through the pool, and its answer.
final class TokenizeJob: PooledWork {
  var body = ByteBuffer()
  var bodyMemory = 0
  private(set) var answer = ByteBuffer()
  private(set) var failure: APIError?
  private let route: TokenizeRoute
  private let model: ModelTokenizer
  private let workers: WorkerSet
  private let system: any SystemCalls
  private let home: LoopBound<TokenizeExchange>

  init(route: TokenizeRoute, model: ModelTokenizer, exchange: TokenizeExchange, service: FrontendLoop) {
    self.route = route
    self.model = model
    workers = service.workers
    system = service.loop.system
    home = LoopBound(exchange, of: service.loop)
  }

  func run() {
    do throws(APIError) {
      let fields = try PromptFields.read(body.readable)
      let served = workers.models.first { $0.name == fields.model }
      if let name = fields.model, served == nil, !workers.models.isEmpty { throw .modelNotFound(name) }
      switch route {
      case .tokenize: try tokenize(fields, (served ?? workers.models.first)?.engine ?? .unknown)
      case .detokenize: try detokenize(fields)
      }
    } catch {
      failure = error
    }
  }

  func returned(to loop: EventLoop) { home.open(on: loop).returned(self) }

  private func tokenize(_ fields: PromptFields, _ engine: EngineKind) throws(APIError) {
    if fields.messages == nil {
      guard let prompt = fields.prompt else { throw .missing("prompt") }
      guard body.readable[prompt.lowerBound] == UInt8(ascii: "\"") else {
        throw .invalidType("prompt", expected: "a string")
      }
    }
    if fields.returnTokenStrings == true {
      throw .invalidValue("return_token_strs", reason: "it is not supported")
    }
    let encoder = model.takeEncoder()
    defer { model.putBack(encoder) }
    do throws(PromptFailure) {
      try encoder.encode(
        fields, in: body.readable, as: ChatTemplateRules.Engine(engine), clock: system)
    } catch {
      throw .invalidValue(fields.messages == nil ? "prompt" : "messages", reason: error.message)
    }
    answer.append("{\"count\":" as StaticString)
    answer.append(decimal: encoder.ids.count)
    answer.append(",\"max_model_len\":" as StaticString)
    if let length = model.lengthMax {
      answer.append(decimal: length)
    } else {
      answer.append("null" as StaticString)
    }
    answer.append(",\"tokens\":[" as StaticString)
    for (index, id) in encoder.ids.buffer.enumerated() {
      if index > 0 { answer.append(UInt8(ascii: ",")) }
      answer.append(decimal: Int(id))
    }
    answer.append("],\"token_strs\":null}" as StaticString)
  }

  private func detokenize(_ fields: PromptFields) throws(APIError) {
    guard let range = fields.tokens else { throw .missing("tokens") }
    var ids: [UInt32] = []
    var isList = true
    do throws(JSONError) {
      var scanner = JSONScanner(body.readable.slice(range))
      isList = try scanner.arrayOrSkip()
      while isList, try scanner.nextElement() {
        guard case .number = try scanner.kind(), let value = try scanner.number().integer,
          let id = UInt32(exactly: value), Int(id) < model.tokenizer.idsEnd
        else {
          isList = false
          break
        }
        ids.append(id)
      }
    } catch {
      throw .invalidJSON(error)
    }
    guard isList else { throw .invalidType("tokens", expected: "an array of the model's token ids") }
    answer.append("{\"prompt\":" as StaticString)
    answer.append(jsonString: model.tokenizer.decode(ids))
    answer.append("}" as StaticString)
  }
}
