// A request whose last message is to be continued.

internal import Base

extension ChatInput {
  /// What transformers puts behind the text to be continued, to find its end in the rendered text.
  private static var tag: JinjaText { JinjaText("CONTINUE_FINAL_MESSAGE_TAG ") }

  /// Marks the end of the last message's text, or takes the message out, as the engine does it.
  func setContinuation(_ messages: inout [JinjaDict], _ chat: inout Chat) throws(ChatTemplateError) {
    guard let last = messages.last else {
      throw ChatTemplateError(.continuation, "continue_final_message is set but the conversation is empty")
    }
    guard let content = present("content", last) else {
      throw ChatTemplateError(
        .continuation, "continue_final_message is set but the final message has no content")
    }
    if engine == .sglang || engine == .llamaCpp {
      guard last.value("role")?.text?.equals("assistant") ?? false, case .string(let text) = content else {
        return
      }
      messages.removeLast()
      chat.continued = text
      chat.appendsContinued = true
      return
    }
    let copy = JinjaDict()
    for index in 0..<last.count { copy.set(last.keys[index], last.values[index]) }
    switch content {
    case .string(let text):
      chat.continued = text
      copy.set("content", .string(try tagged(text)))
    case .list(let list):
      copy.set("content", try tagged(list, &chat))
    default: throw ChatTemplateError(.continuation, "the final message's content is no text")
    }
    messages[messages.count - 1] = copy
  }

  private func tagged(_ text: JinjaText) throws(ChatTemplateError) -> JinjaText {
    try joined([text, ChatInput.tag], "")
  }

  /// The parts with the tag behind the last text.
  private func tagged(_ list: JinjaList, _ chat: inout Chat) throws(ChatTemplateError) -> JinjaValue {
    var items = list.items
    for index in items.indices.reversed() {
      guard case .dict(let part) = items[index], case .string(let text)? = part.value("text") else {
        continue
      }
      let copy = JinjaDict()
      for member in 0..<part.count { copy.set(part.keys[member], part.values[member]) }
      copy.set("text", .string(try tagged(text)))
      items[index] = .dict(copy)
      chat.continued = text
      return try makeList(items)
    }
    throw ChatTemplateError(.continuation, "the final message has no text to continue")
  }
}

extension ChatInput.Chat {
  /// Appends the rendered text up to where the message that is continued ends.
  func appendContinued(
    _ rendered: UnsafeRawBufferPointer, source: JinjaText, to out: inout ByteBuffer
  ) throws(ChatTemplateError) {
    guard let continued else { return }
    if appendsContinued {
      out.append(rendered)
      out.append(continued.bytes)
      return
    }
    guard source.find(JinjaText("content")) != nil else {
      throw ChatTemplateError(.continuation, "the chat template takes no content")
    }
    guard let base = rendered.bindMemory(to: UInt8.self).baseAddress else {
      throw ChatTemplateError(.continuation, "the chat template renders nothing")
    }
    let text = JinjaText(base, rendered.count)
    let tag = JinjaText("CONTINUE_FINAL_MESSAGE_TAG")
    guard let at = text.findLast(tag, before: text.count), text.find(continued.strippedOfWhitespace()) != nil
    else {
      throw ChatTemplateError(
        .continuation, "the final message does not appear in the chat after applying the chat template")
    }
    let before = text.slice(0, at)
    let end = at + tag.count
    // Where the template trimmed the message, the space of the tag is gone, and so is that before it.
    let keepsSpace = end < text.count && text.base[end] == UInt8(ascii: " ")
    out.append(keepsSpace ? before.bytes : before.strippedOfWhitespace(leading: false).bytes)
  }
}
