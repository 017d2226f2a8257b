// A message of Anthropic's API becomes a chat before it is decoded: on the loop, or in the pool when it is long.

internal import Anthropic
internal import Base
internal import OpenAI
internal import Telemetry

extension FrontendShared {
  /// Replaces a body by the chat completion that asks for the same, and keeps it in `original`. Returns how many bytes of
  /// the memory of bodies were taken for that. Throws a 400 that names the field at fault, or that there is no memory.
  func translate(
    _ body: inout ByteBuffer, original: inout ByteBuffer, _ endpoint: Endpoint,
    _ configuration: FrontendConfiguration
  ) throws(APIError) -> Int {
    guard original.isEmpty else { return 0 }
    var isCount = false
    if case .countTokens = endpoint { isCount = true }
    // Before it is written: a translation is about as long as the body, and seldom longer.
    var taken = body.count
    guard reserveBodyMemory(taken) else { throw noBodyMemory(configuration) }
    do throws(APIError) {
      var chat = try MessagesRequest.chat(
        from: body.readable, isCount: isCount, stripsPreamble: configuration.stripsPreamble)
      if chat.count > taken {
        guard reserveBodyMemory(chat.count - taken) else { throw noBodyMemory(configuration) }
        taken = chat.count
      }
      swap(&body, &chat)
      swap(&original, &chat)
      return taken
    } catch {
      releaseBodyMemory(taken)
      throw error
    }
  }

  private func noBodyMemory(_ configuration: FrontendConfiguration) -> APIError {
    metrics.bodyMemoryRefusals.add()
    return .overloaded(status: configuration.overloadStatus, .bodyMemory)
  }
}
