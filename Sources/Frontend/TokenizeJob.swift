// `/tokenize` and `/detokenize`, in vLLM's form: the body goes to the preprocess pool and comes back as an answer.

internal import Base
internal import EventLoop
internal import JSON
internal import OpenAI
internal import Prompts
internal import Tokenizer
internal import Workers

/// One of the two routes.
enum TokenizeRoute: Sendable {
  case tokenize, detokenize
}

/// Makes the answer of one such request.
final class TokenizeJob: AnswerJob {
  private let route: TokenizeRoute
  private let model: ModelTokenizer
  private let workers: WorkerSet
  private let system: any SystemCalls

  init(route: TokenizeRoute, model: ModelTokenizer, service: FrontendLoop) {
    self.route = route
    self.model = model
    workers = service.workers
    system = service.loop.system
  }

  override func run() {
    do throws(APIError) {
      let fields = try PromptFields.read(body.readable)
      let visible = workers.models.filter { models?.contains($0.name) ?? true }
      let served = fields.model.map { name in visible.first { $0.name == name } } ?? visible.first
      if let name = fields.model { try check(name) }
      // Without a name it is the first that the caller may ask; without workers there is the tokenizer.
      if served == nil, !workers.models.isEmpty {
        throw fields.model.map { .modelNotFound($0) } ?? .missing("model")
      }
      switch route {
      case .tokenize: try tokenize(fields, served?.engine ?? .unknown)
      case .detokenize: try detokenize(fields)
      }
    } catch {
      failure = error
    }
  }

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
