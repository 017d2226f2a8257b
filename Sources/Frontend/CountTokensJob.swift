// `/v1/messages/count_tokens` by the model's own tokenizer: the body goes to the preprocess pool and comes back counted.

internal import Base
internal import EventLoop
internal import OpenAI
internal import Prompts
internal import Tokenizer
internal import Workers

/// Counts the tokens of the chat that a message is translated to.
final class CountTokensJob: AnswerJob {
  private let model: ModelTokenizer
  private let workers: WorkerSet
  private let system: any SystemCalls
  private let shared: FrontendShared
  private let configuration: FrontendConfiguration

  init(model: ModelTokenizer, service: FrontendLoop) {
    self.model = model
    workers = service.workers
    system = service.loop.system
    shared = service.shared
    configuration = service.configuration
  }

  override func run() {
    do throws(APIError) {
      var message = ByteBuffer()
      workMemory = try shared.translate(&body, original: &message, .countTokens, configuration)
      let request = try Preprocessor.decode(body.readable, .countTokens)
      try check(request.modelName(in: body.readable))
      let fields = try PromptFields.read(body.readable)
      let served = workers.modelIndex(of: request, in: body.readable).map { workers.models[$0] }
      if served == nil, !workers.models.isEmpty {
        throw .modelNotFound(request.modelName(in: body.readable))
      }
      let encoder = model.takeEncoder()
      defer { model.putBack(encoder) }
      do throws(PromptFailure) {
        try encoder.encode(
          fields, in: body.readable, as: ChatTemplateRules.Engine(served?.engine ?? .unknown), clock: system)
      } catch {
        throw .invalidValue("messages", reason: error.message)
      }
      answer.append("{\"input_tokens\":" as StaticString)
      answer.append(decimal: encoder.ids.count)
      answer.append(UInt8(ascii: "}"))
    } catch {
      failure = error
    }
  }
}
