// Messages of Anthropic's API, the chunks that become their events, and answers of the other APIs: what is written is
// always JSON, and a message's stream ends once.

import Anthropic
import Base
import JSON
import OpenAI

private func isJSON(_ bytes: UnsafeRawBufferPointer) -> Bool {
  do throws(JSONError) {
    var scanner = JSONScanner(bytes)
    try scanner.skipValue()
    try scanner.finish()
    return true
  } catch {
    // A translation may nest a level deeper than what it was made of.
    return error.reason == .tooDeep
  }
}

private func request(_ bytes: UnsafeRawBufferPointer) {
  let chat: ByteBuffer
  do throws(APIError) {
    chat = try MessagesRequest.chat(from: bytes)
  } catch {
    return require(error.status == 400, "a bad message is the caller's fault")
  }
  require(isJSON(chat.readable), "a translated message is JSON")
}

private func stream(_ bytes: UnsafeRawBufferPointer) {
  var stream = MessagesStream(id: "1", model: "m")
  var events = ByteBuffer()
  for line in bytes.split(separator: UInt8(ascii: "\n")) {
    exactly(UnsafeRawBufferPointer(rebasing: line)) { stream.receive($0, into: &events) }
  }
  stream.end(into: &events)
  var ends = 0
  for line in events.readable.split(separator: UInt8(ascii: "\n")) {
    let line = UnsafeRawBufferPointer(rebasing: line)
    if line.equals("event: message_stop") || line.equals("event: error") { ends += 1 }
    guard line.count > 6, UnsafeRawBufferPointer(rebasing: line[..<6]).equals("data: ") else { continue }
    require(isJSON(UnsafeRawBufferPointer(rebasing: line[6...])), "every event is JSON")
  }
  require(ends == 1, "a stream ends once")
}

private func answer(_ bytes: UnsafeRawBufferPointer) {
  var message = ByteBuffer()
  if MessagesAnswer.write(bytes, id: "1", model: "m", into: &message) {
    require(isJSON(message.readable), "a translated answer is JSON")
  }
  message.removeAll()
  MessagesAnswer.writeError(bytes, status: 400, into: &message)
  require(isJSON(message.readable), "a translated error is JSON")
  for form in [AnswerForm.responses, .messages, .plain] { _ = AnswerSummary.read(bytes, form: form) }
  for form in [AnswerForm.responses, .messages] {
    var inspector = ChunkInspector()
    inspector.form = form
    _ = inspector.inspect(bytes)
  }
  _ = EndpointSet(openAPI: bytes)
}

@_cdecl("LLVMFuzzerTestOneInput")
func fuzzAnthropic(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
  guard let (steer, input) = steered(data, size) else { return 0 }
  switch steer % 3 {
  case 0: exactly(input) { request($0) }
  case 1: stream(input)
  default: exactly(input) { answer($0) }
  }
  return 0
}
